"""An answer counts when it is given, however late LiteLLM logs it, at what it will be logged at."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from spendmeter.cli.main import main
from spendmeter.settings import ClickHouseSettings
from spendmeter_local.children import start_child, stop_child
from spendmeter_local.probes import wait_until
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from tests.patience import WITHIN_SECONDS

from . import tardy
from .conftest import TARDY, Proxy
from .test_strict import Client

PENDING = "spendmeter_pending"
MISJUDGED = "spendmeter_misjudged_answers_total"
PLENTY = 10**9
DIRECTIVE = "in=70 out=10 cached=20"
HELLO = f"Hello. [[{DIRECTIVE}]]"


class Unlogged:
    """A proxy whose LiteLLM logs nothing for as long as the test wants."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._flag = proxy.price_book.with_name(TARDY)

    @property
    def answers(self) -> float:
        return self.proxy.metric(PENDING)

    @contextmanager
    def held_up(self, where: str = tardy.QUEUE) -> Iterator[None]:
        self.settled()
        self._flag.write_text(where)
        try:
            yield
        finally:
            self._flag.unlink()
        self.settled()

    def settled(self) -> None:
        assert wait_until(lambda: self.answers == 0, timeout_seconds=WITHIN_SECONDS)
        assert self.proxy.metric("spendmeter_internal_errors_total") == 0


@pytest.fixture
def unlogged(strict: Proxy) -> Unlogged:
    return Unlogged(strict)


ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {}),
    "chat, of somebody": (
        "/v1/chat/completions",
        {"model": "claude", "user": "e1", "metadata": {"tags": ["a", "b"], "session_id": "s"}},
    ),
    "completions": ("/v1/completions", {"messages": None, "prompt": HELLO}),
    "messages": ("/v1/messages", {"model": "claude", "max_tokens": 100}),
    "messages, over responses": ("/v1/messages", {"max_tokens": 100}),
    "responses": ("/v1/responses", {"messages": None, "input": HELLO}),
    "responses, over chat": (
        "/v1/responses",
        {"model": "claude", "messages": None, "input": HELLO},
    ),
    "embeddings": (
        "/v1/embeddings",
        {"model": "text-embedding-3-small", "messages": None, "input": HELLO},
    ),
    "fallback": ("/v1/chat/completions", {"model": "dead"}),
    "price book": ("/v1/chat/completions", {"model": "house-priced"}),
}


@pytest.fixture(scope="module")
def client(strict: Proxy) -> Client:
    return Client(strict, PLENTY, enforcement="settled")


@pytest.mark.parametrize(
    ("route", "where"), [*((route, tardy.QUEUE) for route in ROUTES), ("chat", tardy.CALLBACK)]
)
def test_an_answer_costs_what_its_event_will(
    unlogged: Unlogged, client: Client, route: str, where: str
) -> None:
    path, body = ROUTES[route]
    # Nothing of it may be in LiteLLM's cache.
    body = {name: f"{uuid4().hex} {HELLO}" if value == HELLO else value for name, value in body.items()}
    before = unlogged.proxy.metric(MISJUDGED)
    with unlogged.held_up(where):
        answer = client.asks(DIRECTIVE, path=path, **body)
        assert answer.status_code == 200, answer.text
        assert unlogged.answers == 1
    assert unlogged.proxy.metric(MISJUDGED) == before, unlogged.proxy.log.read_text()[-2000:]


@pytest.mark.parametrize("case", ["cached answer", "stream", "unpriced"])
def test_what_cannot_be_told_or_costs_nothing_waits_for_its_event(
    unlogged: Unlogged, client: Client, case: str
) -> None:
    cached = {"messages": [{"role": "user", "content": f"{uuid4().hex} [[out=10]]"}]}
    bodies: dict[str, dict[str, Any]] = {
        "cached answer": cached,
        "stream": {"stream": True},
        "unpriced": {"model": "unpriced"},
    }
    body = bodies[case]
    if case == "cached answer":
        assert client.asks(**body).status_code == 200
    with unlogged.held_up():
        assert client.asks(**body).status_code == 200
        assert unlogged.answers == 0


def test_a_hold_shrinks_to_the_cost_once_it_is_answered(unlogged: Unlogged) -> None:
    client = Client(unlogged.proxy, PLENTY)
    with unlogged.held_up():
        assert client.asks().status_code == 200
        assert (unlogged.proxy.metric("spendmeter_holds"), unlogged.answers) == (0, 1)


def test_an_answer_that_is_not_logged_yet_refuses_the_next_request_and_history_bears_it_out(
    unlogged: Unlogged, clickhouse: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(unlogged.proxy, 1, enforcement="settled")
    with unlogged.held_up():
        assert client.asks().status_code == 200
        refused = client.asks()
        assert refused.status_code == 422, refused.text
        assert unlogged.answers == 1

    with history(unlogged.proxy, clickhouse, database, tmp_path, monkeypatch):
        decision = refused.headers["x-spendmeter-decision"]
        said = until_explained(decision)
    assert said["right"] is True
    assert said["events"] == 1
    assert said["decision"]["pending"] == [said["largest"][0]["event_id"]]


@contextmanager
def history(
    proxy: Proxy, clickhouse: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A sink that keeps what the proxy's gateway has sent, and the environment to read it with."""
    settings = proxy.settings
    env = {
        "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
        "SPENDMETER_CLICKHOUSE_URL": clickhouse,
        "SPENDMETER_CLICKHOUSE_DATABASE": database,
        "SPENDMETER_SINK_INSTANCE": "only",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    client = open_client(ClickHouseSettings(), database=None)
    migrate(client, database)
    client.close()
    process = start_child([sys.executable, "-m", "spendmeter_sinks"], log=tmp_path / "sink.log", env=env)
    try:
        yield
    finally:
        stop_child(process, grace_seconds=20)


def until_explained(decision: str) -> dict[str, Any]:
    """What `spendmeter explain` says of it, once history has it and its events."""
    said: dict[str, Any] = {}

    def is_right() -> bool:
        ended = CliRunner().invoke(main, ["explain", decision, "--json"])
        said.update(json.loads(ended.output) if ended.output.startswith("{") else {"output": ended.output})
        return ended.exit_code == 0

    assert wait_until(is_right, timeout_seconds=WITHIN_SECONDS), said
    return said
