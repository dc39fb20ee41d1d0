"""What stands in budgets, alerts, keys and history is shown and never obeyed: no markup, no control."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from spendmeter.contract.alert import Alert, AlertKind, alert_id
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import Record, encode_alert, encode_budget, encode_signal
from spendmeter.contract.topics import Topic
from spendmeter.runtime import clickhouse as connection
from spendmeter.settings import ClickHouseSettings, Settings
from spendmeter.values.dimensions import DIMENSIONS
from spendmeter_sinks.database.migrate import migrate

from .conftest import spendmeter
from .test_budget import _outside_the_loop, send, signal_of

HOSTILE = "[/x]\x1b]0;owned\x07\x1b[2J\u202e:key: [red]\x9b31m\nError: forged\r"
ACTS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
COLUMNS = ("event_id", "kind", "occurred_at", "cost_usd", "cost_source", "status")


def assert_harmless(shown: str) -> None:
    assert not ACTS.search(shown), shown
    assert "[/x]" in shown
    assert ":key:" in shown
    assert "[red]" in shown
    assert not any(line.startswith("Error: forged") for line in shown.splitlines())


def hostile_budget(now: datetime) -> Budget:
    return Budget(
        id="litellm:key:hostile",
        match={"key": "*", "team": HOSTILE},
        limit_nanousd=NanoUsd(1_000_000),
        period="day",
        updated_at=now,
        updated_by=HOSTILE,
    )


@pytest.mark.parametrize(
    "command",
    [
        ["budget", "list"],
        ["budget", "list", "--json"],
        ["budget", "show", "litellm:key:hostile"],
        ["budget", "show", "litellm:key:hostile", "--json"],
        ["budget", "pause", "litellm:key:hostile"],
        ["alerts"],
        ["alerts", "--json"],
    ],
    ids=" ".join,
)
async def test_a_budget_is_text_whatever_its_match_says(settings: Settings, command: list[str]) -> None:
    now = datetime.now(UTC)
    signal = signal_of(hostile_budget(now), HOSTILE, 5, now)
    alert = Alert(
        alert_id=alert_id("a", now, AlertKind.THRESHOLD, "0.5"),
        kind=AlertKind.THRESHOLD,
        message=HOSTILE,
        emitted_at=now,
    )
    await send(settings, Topic.BUDGETS, encode_budget(hostile_budget(now)))
    await send(settings, Topic.SIGNALS, encode_signal(signal))
    await send(settings, Topic.ALERTS, encode_alert(alert))

    shown = await _outside_the_loop(*command)

    assert_harmless(shown)
    assert "litellm:key:hostile" in shown or command[0] == "alerts"
    if command[-1] == "--json":
        assert HOSTILE in strings(json.loads(shown))


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for held in value.values() for text in strings(held)]
    if isinstance(value, list):
        return [text for held in value for text in strings(held)]
    return [str(value)]


async def test_a_file_of_budgets_is_told_harmlessly(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "b.yaml"
    match = json.dumps({"team": HOSTILE})
    file.write_text(f"budgets:\n  - {{id: a, match: {match}, limit_usd: 1, period: day}}\n")

    assert_harmless(await _outside_the_loop("budget", "apply", str(file)))


@pytest.fixture
def history(clickhouse: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = connection.client(
        ClickHouseSettings(clickhouse_url=clickhouse, clickhouse_database=database), database=None
    )
    migrate(server, database)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", clickhouse)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", database)
    server.database = database
    yield server
    server.close()


def test_history_is_text_along_every_dimension(history: Any) -> None:
    names = [name for name in ("key", "key_alias", *DIMENSIONS[1:]) if name not in ("tag",)]
    fields = [{"end_user": "end_user"}.get(name, name) for name in dict.fromkeys(names)]
    row = [
        uuid4(),
        "usage",
        datetime.now(UTC),
        "1",
        "litellm",
        "success",
        [HOSTILE],
        *[HOSTILE] * len(fields),
    ]
    history.insert("usage", [row], column_names=[*COLUMNS, "tags", *fields])

    for dimension in DIMENSIONS:
        assert_harmless(spendmeter("top", "--once", "--by", dimension))
        assert_harmless(spendmeter("top", "--json", "--by", dimension))
    assert_harmless(spendmeter("query", "SELECT key_alias, tags FROM usage"))
    assert_harmless(spendmeter("query", "SELECT key_alias, tags FROM usage", "--json"))
    # What a query makes up, its columns' names included.
    assert_harmless(spendmeter("query", f"SELECT 1 AS `{HOSTILE}`"))


def test_an_error_of_history_is_text(history: Any) -> None:
    assert_harmless(spendmeter("query", f"SELECT '{HOSTILE}' + `{HOSTILE}`", exit_code=1))


class Proxy(BaseHTTPRequestHandler):
    """Answers as LiteLLM's key API, with names that somebody chose with care."""

    answer: tuple[int, bytes] = (200, b"")

    def do_GET(self) -> None:
        # A body that nobody reads makes the kernel reset the connection, at times before the answer is read.
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(self.answer[0])
        self.end_headers()
        self.wfile.write(self.answer[1])

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Proxy]]:
    class Own(Proxy):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("SPENDMETER_PROXY_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("SPENDMETER_MASTER_KEY", "sk-1234")
    yield Own
    server.shutdown()
    thread.join()
    server.server_close()


def test_keys_are_text_whatever_people_call_them(proxy: type[Proxy]) -> None:
    row = {"token": "ab" * 32, "key_alias": HOSTILE, "user_id": HOSTILE, "spend": 1e-3, "max_budget": "?"}
    proxy.answer = (200, json.dumps({"keys": [row], "total_pages": 1}).encode())

    assert_harmless(spendmeter("key", "list"))
    assert_harmless(spendmeter("key", "list", "--json"))


def test_what_a_proxy_says_is_text(proxy: type[Proxy]) -> None:
    proxy.answer = (400, json.dumps({"error": {"message": HOSTILE}}).encode())

    assert_harmless(spendmeter("key", "create", "--alias", "a", exit_code=1))
    assert_harmless(spendmeter("key", "delete", "a", exit_code=1))
    assert_harmless(spendmeter("import", "litellm", exit_code=1))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>", "answers no JSON; is it a LiteLLM proxy?"),
        (b"[" * 100_000, "answers no JSON"),
        (b"[1, 2]", "made no key; is it a LiteLLM proxy?"),
        (b'{"key": 3}', "made no key"),
    ],
)
def test_what_is_no_proxy_is_told_so(proxy: type[Proxy], body: bytes, told: str) -> None:
    proxy.answer = (200, body)

    assert told in spendmeter("key", "create", "--alias", "a", exit_code=1)


async def test_a_record_that_is_no_alert_is_told_harmlessly(settings: Settings) -> None:
    await send(settings, Topic.ALERTS, Record(b"", b"{}", [("ce_type", HOSTILE.encode())]))

    shown = await _outside_the_loop("alerts")

    assert not ACTS.search(shown), shown
