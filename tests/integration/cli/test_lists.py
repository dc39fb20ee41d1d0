"""`spendmeter refusals` and `alerts list` on the real engine: filters, order, names, files."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import click
import pytest
from clickhouse_connect.driver.client import Client
from rich.cells import cell_len

from spendmeter.runtime import clickhouse as connection
from spendmeter.settings import ClickHouseSettings
from spendmeter_sinks.database.migrate import migrate
from tests.integration.cli.conftest import spendmeter, spendmeter_json

HASH = "ab" * 32
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
REFUSALS = [
    # id, minutes past noon, why, name, budget, account
    (1, 0, "limit_reached", "laptop", "key-day", f"key-day|key={HASH}"),
    (2, 1, "unpriced", "ci", "team-month", "team-month|team=t1&user=ann%20b"),
    (3, 2, "limit_reached", "laptop", "key-day", f"key-day|key={HASH}"),
    (4, 3, "blind", HASH, "", ""),
]
ALERTS = [
    (11, 0, "threshold", "key-day", f"key-day|key={HASH}"),
    (12, 1, "exceeded", "key-day", f"key-day|key={HASH}"),
    (13, 2, "unpriced", "", ""),
]


@pytest.fixture(scope="module")
def filled(clickhouse: str) -> Iterator[tuple[Client, str]]:
    database = f"t{uuid4().hex[:12]}"
    settings = ClickHouseSettings(clickhouse_url=clickhouse, clickhouse_database=database)
    client = connection.client(settings, database=None)
    migrate(client, database)
    columns = ["decision_id", "decided_at", "why", "name", "message", "budget_id", "account", "spent_usd"]
    columns += ["limit_usd", "offset"]
    rows = [
        [
            *(UUID(int=n), NOON + timedelta(minutes=at), why, name, "no", budget, account),
            *(("0.000000002", "0.000000001") if account else (None, None)),
            n,
        ]
        for n, at, why, name, budget, account in REFUSALS
    ]
    # The first once more, as a replayed topic brings it.
    client.insert("decisions", [*rows, [*rows[0][:-1], 99]], column_names=columns)
    columns = ["alert_id", "emitted_at", "kind", "message", "budget_id", "account", "offset"]
    client.insert(
        "alerts",
        [
            [UUID(int=n), NOON + timedelta(minutes=at), kind, f"of {kind}", budget, account, n]
            for n, at, kind, budget, account in ALERTS
        ],
        column_names=columns,
    )
    names = [
        "event_id",
        "kind",
        "occurred_at",
        "key",
        "key_alias",
        "team",
        "team_alias",
        "user",
        "user_email",
    ]
    event = [uuid4(), "usage", NOON, HASH, "laptop", "t1", "Search", "ann b", "ann@example.com"]
    client.insert("usage", [event], column_names=names)
    yield client, database
    client.close()


@pytest.fixture(autouse=True)
def found(filled: tuple[Client, str], clickhouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", clickhouse)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", filled[1])


def ids(command: str, *options: str) -> list[int]:
    rows = spendmeter_json(*command.split(), *options)
    return [UUID(row.get("decision_id") or row["alert_id"]).int for row in rows]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [4, 3, 2, 1]),
        (("--limit", "2"), [4, 3]),
        (("--why", "limit_reached"), [3, 1]),
        (("--why", "unpriced", "--why", "blind"), [4, 2]),
        (("--budget", "team-month"), [2]),
        (("--key", "laptop"), [3, 1]),
        (("--key", HASH), [4, 3, 1]),
        (("--since", "2026-11-22T12:01:00Z", "--until", "2026-11-22T12:03:00Z"), [3, 2]),
        (("--since", "2026-11-23", "--zone", "Asia/Tokyo"), []),
        (("--until", "2026-11-22", "--zone", "UTC"), []),
        (("--since", "2026-11-22", "--zone", "America/New_York"), [4, 3, 2, 1]),
    ],
)
def test_refusals_are_filtered_newest_first_and_each_once(
    options: tuple[str, ...], expected: list[int]
) -> None:
    assert ids("refusals", *options) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [13, 12, 11]),
        (("--kind", "exceeded"), [12]),
        (("--budget", "key-day", "--limit", "1"), [12]),
        (("--key", "laptop"), [12, 11]),
        (("--key", "ci"), []),
    ],
)
def test_alerts_are_filtered_newest_first(options: tuple[str, ...], expected: list[int]) -> None:
    assert ids("alerts list", *options) == expected


def test_a_list_is_in_the_readers_clock_with_names_and_the_id_that_explain_wants() -> None:
    shown = spendmeter("refusals", "--zone", "Asia/Tokyo", "--budget", "team-month").splitlines()

    assert shown[0].startswith("when (Asia/Tokyo)")
    assert shown[1].startswith("2026-11-22 21:01:00")
    assert "team=Search, user=ann@example.com" in shown[1]
    assert "$0.000000002 of $0.000000001" in shown[1]
    assert shown[1].endswith(str(UUID(int=2)))
    wide = spendmeter("refusals", "--wide", "--budget", "team-month")
    assert "team=t1, user=ann b" in wide
    assert "of unpriced" in spendmeter("alerts", "list", "--kind", "unpriced")


def test_lists_leave_as_files() -> None:
    rows = list(csv.DictReader(io.StringIO(spendmeter("refusals", "--format", "csv", "--key", "laptop"))))
    assert [(row["decision_id"], row["spent_usd"]) for row in rows] == [
        (str(UUID(int=3)), "0.000000002"),
        (str(UUID(int=1)), "0.000000002"),
    ]
    lines = spendmeter("alerts", "list", "--format", "jsonl").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["unpriced", "exceeded", "threshold"]


def test_what_is_cut_off_and_what_is_empty_is_said() -> None:
    assert "the latest 2; --limit shows more" in spendmeter("refusals", "--limit", "2")
    assert spendmeter("refusals", "--budget", "nobody's").strip() == "no such refusal"
    assert "--until is not after --since" in spendmeter(
        "alerts", "list", "--since", "2026-11-23", "--until", "2026-11-22", exit_code=2
    )


def test_on_a_terminal_a_row_is_one_line_with_its_id_below_and_colours_unless_nobody_wants_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)

    coloured = spendmeter("refusals", "--zone", "UTC")
    lines = click.unstyle(coloured).splitlines()

    assert max(map(cell_len, lines)) <= 80
    assert [line.strip() for line in lines[2::2]] == [f"decision {UUID(int=n)}" for n in (4, 3, 2, 1)]
    assert "…" in lines[1], "a hash for a name"
    assert "\x1b[31mlimit_reached\x1b[0m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert spendmeter("refusals", "--zone", "UTC").splitlines() == lines
    monkeypatch.delenv("FORCE_COLOR")
    piped = spendmeter("refusals", "--zone", "UTC")
    assert HASH in piped
    assert "…" not in piped
