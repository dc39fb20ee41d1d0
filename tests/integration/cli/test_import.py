"""`spendmeter import litellm` on a live system: what LiteLLM has counted is in force, and counted once.

LiteLLM's part is played by a server that answers as 1.106.2 did; tests/litellm_postgres has the real one.
"""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.contract.topics import Topic
from spendmeter.history.usage import read_known
from spendmeter.litellm.spend import events_of, spent_of
from spendmeter.runtime import clickhouse as connection
from spendmeter.settings import ClickHouseSettings
from spendmeter_local.ports import LOOPBACK
from spendmeter_local.probes import wait_until
from spendmeter_sinks.database.migrate import migrate
from tests.integration.cli.conftest import spendmeter, spendmeter_json
from tests.integration.sinks.test_reconcile import System, running_system
from tests.patience import WITHIN_SECONDS

TODAY = datetime.now(UTC).date()
YESTERDAY, BEFORE = TODAY - timedelta(days=1), TODAY - timedelta(days=2)
METRICS = {"prompt_tokens": 10, "completion_tokens": 20, "api_requests": 1}


def day(spends: dict[str, float], of: Any) -> dict[str, Any]:
    found = {key: {"metrics": {**METRICS, "spend": usd}, "metadata": {}} for key, usd in spends.items()}
    groups = {"house": {"metrics": {}, "metadata": {}, "api_key_breakdown": found}}
    return {"date": of.isoformat(), "metrics": {}, "breakdown": {"model_groups": groups}}


ANSWERS: dict[str, Any] = {
    "/key/list": {
        "keys": [
            {"token": "h1", "key_alias": "one", "team_id": "red", "user_id": "ann", "max_budget": 2.0},
            {"token": "h2", "key_alias": "two", "team_id": "red", "user_id": "bob"},
        ],
        "total_pages": 1,
    },
    "/v2/team/list": {"teams": [{"team_id": "red", "max_budget": 5.0}], "total_pages": 1},
    "/team/info": {"team_memberships": []},
    "/user/list": {"users": [], "total_pages": 1},
    "/budget/list": [],
    "/config/list": [{"field_name": "apply_user_budget_to_team_keys", "field_value": None}],
    "/customer/list": [],
    "/tag/list": [],
    "/project/list": [],
    "/user/daily/activity": {
        "results": [
            day({"h1": 0.25, "h2": 0.5}, YESTERDAY),
            day({"h1": 1.0}, BEFORE),
            day({"h1": 7.0}, TODAY),
        ],
        "metadata": {"total_pages": 1},
    },
}


class LiteLLM(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = ANSWERS.get(self.path.partition("?")[0])
        told = json.dumps({"detail": "enterprise"} if found is None else found).encode()
        self.send_response(403 if found is None else 200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the server's name for it
        pass


@pytest.fixture(scope="module")
def litellm_url() -> Iterator[str]:
    server = ThreadingHTTPServer((LOOPBACK, 0), LiteLLM)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{LOOPBACK}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def system(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(kafka, clickhouse, tmp_path_factory.mktemp("imported")) as running:
        yield running


@pytest.fixture
def arguments(
    system: System, litellm_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[str, ...]:
    for name, value in system.env().items():
        monkeypatch.setenv(name, value)
    where = ("--url", litellm_url, "--api-key", "sk-master")
    return ("import", "litellm", *where, "--spend-since", BEFORE.isoformat())


def imported(system: System) -> int:
    (row,) = system.history.query("SELECT count() FROM usage FINAL WHERE call_type = 'import'").result_rows
    return int(row[0])


async def test_what_litellm_has_counted_counts_once_in_each_budget(
    system: System, arguments: tuple[str, ...]
) -> None:
    def says(*more: str) -> Any:
        return spendmeter_json(*arguments, *more)

    planned = await asyncio.to_thread(says)
    assert planned["spent_usd"] == {str(BEFORE): "1", str(YESTERDAY): "0.75"}
    assert planned["created"] == ["litellm:key:h1", "litellm:team:red"]
    assert [what.partition(":")[0] for what in planned["not_read"]] == ["organizations"]
    assert imported(system) == 0, "a plan is only shown"

    done = await asyncio.to_thread(says, "--apply")
    # At once again, before history has them: the same events, dropped as resends.
    await asyncio.to_thread(says, "--apply")

    assert done["spent_usd"] == planned["spent_usd"]
    expected = {"litellm:key:h1|key=h1": 1_250_000_000, "litellm:team:red|team=red": 1_750_000_000}
    async with system.stream() as stream:
        await stream.until(
            Topic.SIGNALS,
            lambda found: expected.items() <= {s.account: s.spent_nanousd for s in found}.items(),
        )
    assert await asyncio.to_thread(
        wait_until, lambda: imported(system) == 3, timeout_seconds=WITHIN_SECONDS
    ), imported(system)
    again = await asyncio.to_thread(says, "--apply")
    assert (again["spent_usd"], again["created"], again["changed"]) == ({}, [], [])
    report = await system.compare()
    assert not report.differences, report.differences


class Late:
    """A client of history into which an import comes right after its first query."""

    def __init__(self, client: Client) -> None:
        self._client, self._queries = client, 0

    def query(self, sql: str, parameters: dict[str, Any]) -> Any:
        found = self._client.query(sql, parameters=parameters)
        self._queries += 1
        if self._queries == 1:
            self._client.command(
                "INSERT INTO usage (event_id, producer_id, seq, key, model_group, occurred_at, cost_usd,"
                " kind, topic)"
                f" VALUES ('00000000-0000-0000-0000-000000000001', 'import/x/h1', 1, 'h1', 'house',"
                f" '{YESTERDAY} 12:00:00', 0.25, 'usage', 'late')"
            )
        return found


def test_an_import_that_comes_into_history_meanwhile_is_not_sent_under_another_number(
    clickhouse: str, database: str
) -> None:
    client = connection.client(ClickHouseSettings(clickhouse_url=clickhouse), database=None)
    migrate(client, database)
    known = read_known(cast(Client, Late(client)), "late", "import/x", BEFORE)
    client.close()
    wanted = spent_of(ANSWERS["/user/daily/activity"]["results"][:1])
    sent = [event for event in events_of(wanted, known, {}, "import/x", TODAY) if event.key == "h1"]
    assert [event.seq for event in sent] in ([], [1]), "a number that the stream does not know as a resend"


async def test_the_plan_is_told_in_lines(arguments: tuple[str, ...]) -> None:
    told = await asyncio.to_thread(spendmeter, *arguments, "--take-over")

    assert "litellm:team:red  $5 in total for team=red (block)" in told
    assert "> LiteLLM    key one (h1): max_budget moved aside" in told
    assert "? not read   organizations: /organization/list: enterprise (403)" in told
    assert told.endswith("nothing was done: this is the plan; --apply carries it out\n")


@pytest.mark.parametrize(
    ("wrong", "exit_code", "told"),
    [
        (("--take-over", "--undo"), 2, "are opposites"),
        (("--undo", "--spend-since", "2026-11-01"), 2, "leave out --spend-since"),
        (("--timezone", "Mars/Olympus"), 2, "is not an IANA time zone"),
        (("--url", f"http://{LOOPBACK}:1"), 1, "no proxy answers at"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_the_fix(
    wrong: tuple[str, ...], exit_code: int, told: str
) -> None:
    where = ("--url", f"http://{LOOPBACK}:1", "--api-key", "sk-master")

    assert told in spendmeter("import", "litellm", *where, *wrong, exit_code=exit_code)
