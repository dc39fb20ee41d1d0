"""Sums by hour and day equal the rows, whatever comes and whenever: the law, on the real engine.

The oracle adds up in Python what the contract says: of each event the copy with the lowest offset.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.contract.money import NanoUsd, to_usd
from spendmeter.contract.usage import UsageEvent, UsageKind
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.roll_ups.roller import RollUps, read_stale, roll_up
from spendmeter_sinks.roll_ups.spans import Grain

from .recorded import Recorded

Key = tuple[str, ...]
Sums = dict[Key, tuple[int, int, Decimal]]
"""Day or hour and what it is asked by: requests, tokens, USD."""


@pytest.fixture
def settings(clickhouse: str, database: str) -> SinkSettings:
    return SinkSettings(clickhouse_url=clickhouse, clickhouse_database=database)


@pytest.fixture
def client(settings: SinkSettings) -> Iterator[Client]:
    client = open_client(settings, database=None)
    migrate(client, settings.clickhouse_database)
    # Else copies might be gone before anybody reads.
    for table in ("usage", "signals", "alerts", "budgets", "decisions"):
        client.command(f"SYSTEM STOP MERGES {table}")
    yield client
    client.close()


def day_of(event: UsageEvent) -> str:
    return event.occurred_at.date().isoformat()


def hour_of(event: UsageEvent) -> str:
    return f"{event.occurred_at:%Y-%m-%d %H}:00:00"


def model_of(event: UsageEvent) -> str:
    return event.model.removeprefix("openai/")


_ALL_DAYS = "by_key_between(first_day = toDate('1971-01-01'), days_end = toDate('2149-01-01'))"
ASKED: dict[str, tuple[str, Callable[[UsageEvent], Key]]] = {
    "by_hour": (
        "toString(hour), team, key, model",
        lambda e: (hour_of(e), e.team or "", e.key, model_of(e)),
    ),
    "by_day": ("toString(day), team, key, model", lambda e: (day_of(e), e.team or "", e.key, model_of(e))),
    "usage_teams_by_hour": ("toString(hour), team, model", lambda e: (hour_of(e), e.team or "", model_of(e))),
    "usage_teams_by_day": ("toString(day), team, model", lambda e: (day_of(e), e.team or "", model_of(e))),
    "by_team_model_hour": ("toString(hour), team, model", lambda e: (hour_of(e), e.team or "", model_of(e))),
    "by_team_model_day": ("toString(day), team, model", lambda e: (day_of(e), e.team or "", model_of(e))),
    "entries": (
        "toString(hour), team, key, model",
        lambda e: (hour_of(e), e.team or "", e.key, model_of(e)),
    ),
    _ALL_DAYS: ("key, team", lambda e: (e.key, e.team or "")),
    "by_team_day": ("toString(day), team", lambda e: (day_of(e), e.team or "")),
    "by_key_day": ("toString(day), key, team", lambda e: (day_of(e), e.key, e.team or "")),
    "by_model_day": ("toString(day), provider, model", lambda e: (day_of(e), e.provider, model_of(e))),
}


def summed(recorded: Recorded, key: Callable[[UsageEvent], Key]) -> Sums:
    found: dict[Key, list[int]] = defaultdict(lambda: [0, 0, 0])
    for _, event in recorded.first.values():
        sums = found[key(event)]
        sums[0] += event.kind is UsageKind.USAGE
        sums[1] += event.input_tokens
        sums[2] += event.cost_nanousd
    return {key: (requests, tokens, to_usd(NanoUsd(cost))) for key, (requests, tokens, cost) in found.items()}


def answered(client: Client, view: str) -> Sums:
    columns, _ = ASKED[view]
    rows = client.query(
        f"SELECT {columns}, sum(requests), sum(input_tokens), sum(spent_usd) FROM {view}"
        f" GROUP BY {', '.join(str(n + 1) for n in range(columns.count(', ') + 1))}"
    ).result_rows
    return {tuple(row[:-3]): (row[-3], row[-2], row[-1]) for row in rows}


def equals_the_rows(recorded: Recorded, *views: str) -> None:
    for view in views or ASKED:
        assert answered(recorded.client, view) == summed(recorded, ASKED[view][1]), view


@pytest.mark.parametrize("seed", range(3))
def test_sums_equal_the_rows_after_redeliveries_corrections_voids_and_replays(
    client: Client, settings: SinkSettings, seed: int
) -> None:
    random = Random(seed)
    recorded, roll_ups = Recorded(client, settings, random), RollUps(settings, lambda: True)
    recorded.new()
    changes: list[Callable[[], object]] = [
        *(recorded.new, recorded.resend, recorded.correct, recorded.correct),
        *(recorded.repeat, recorded.replay_a_day, recorded.find_an_earlier_copy, recorded.merge),
        *(roll_ups.round, roll_ups.round, roll_ups.round),
    ]
    for _ in range(12):
        random.choice(changes)()
        equals_the_rows(recorded, random.choice(list(ASKED)))
    roll_ups.round()
    roll_ups.round()
    assert read_stale(client) == {}, "all has come to rest, and is read from the sums"
    equals_the_rows(recorded)


def test_sums_of_teams_are_read_without_their_keys(client: Client, settings: SinkSettings) -> None:
    recorded, roll_ups = Recorded(client, settings, Random(11)), RollUps(settings, lambda: True)
    recorded.new()
    roll_ups.round()
    roll_ups.round()
    for view, table in (("usage_teams_by_hour", "usage_hours"), ("usage_teams_by_day", "usage_days")):
        client.command(f"OPTIMIZE TABLE {table} FINAL")
        plan = client.query(f"EXPLAIN SELECT team, sum(spent_usd) FROM {view} GROUP BY team").result_rows
        assert "ReadFromMergeTree (without_keys)" in "".join(line for (line,) in plan), view
        equals_the_rows(recorded, view)


def test_sums_are_what_is_read_once_all_is_at_rest(client: Client, settings: SinkSettings) -> None:
    recorded, roll_ups = Recorded(client, settings, Random(7)), RollUps(settings, lambda: True)
    recorded.new()
    assert roll_ups.round() == 0, "rows have just come"
    assert roll_ups.round() == len(
        {hour_of(e) for e in recorded.requests} | {day_of(e) for e in recorded.requests}
    )
    assert roll_ups.round() == 0, "all is done"
    client.command(
        "INSERT INTO usage_days SELECT * REPLACE (spent_usd + 1 AS spent_usd, 'k9' AS key) FROM usage_days"
    )
    assert answered(client, "by_team_day") != summed(recorded, ASKED["by_team_day"][1])


def test_a_row_that_comes_while_its_hour_is_summed_up_is_counted(
    client: Client, settings: SinkSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Recorded(client, settings, Random(8))
    recorded.new()
    stale = read_stale(client)
    day = max(stale).day
    spans = {span: seen for span, seen in stale.items() if span.day == day}
    (one, *_) = [event for event in recorded.requests if event.occurred_at.replace(tzinfo=None) >= day]
    command = client.command

    def and_one_more(sql: str, **more: Any) -> object:
        answer = command(sql, **more)
        if "usage_hours" in sql:
            recorded.put([one.model_copy(update={"event_id": UUID(int=1), "seq": 1_000_000})])
        return answer

    monkeypatch.setattr(client, "command", and_one_more)
    assert roll_up(client, spans, datetime.now(UTC)) == len(spans) - 2, "its hour and its day"
    equals_the_rows(recorded)


def test_a_making_that_was_cut_short_is_not_read(
    client: Client, settings: SinkSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, roll_ups = Recorded(client, settings, Random(9)), RollUps(settings, lambda: True)
    recorded.new()
    roll_ups.round()
    roll_ups.round()
    assert read_stale(client) == {}
    recorded.resend()
    command = client.command

    def dies(sql: str, **more: Any) -> object:
        if "INTO usage_days" in sql or "INTO usage_hours" in sql:
            command(f"{sql} LIMIT 1", **more)
            raise KeyboardInterrupt
        return command(sql, **more)

    stale = read_stale(client)
    day = max(stale).day
    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(client, "command", dies)
        roll_up(client, {span: seen for span, seen in stale.items() if span.day == day}, datetime.now(UTC))
    client.command("OPTIMIZE TABLE usage_hours FINAL")
    client.command("OPTIMIZE TABLE usage_days FINAL")
    equals_the_rows(recorded)
    roll_ups.round()
    roll_ups.round()
    assert read_stale(client) == {}
    equals_the_rows(recorded)


def test_of_two_workers_that_sum_up_at_once_one_counts(client: Client, settings: SinkSettings) -> None:
    recorded = Recorded(client, settings, Random(10))
    recorded.new()
    stale = read_stale(client)
    for day in {span.day for span in stale}:
        spans = {span: seen for span, seen in stale.items() if span.day == day}
        for clock in (datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC)):
            roll_up(client, spans, clock)
    assert read_stale(client) == {}
    equals_the_rows(recorded)
    made = client.query(
        "SELECT grain, uniqExact(slot), countIf(NOT is_done) FROM usage_roll_ups GROUP BY grain"
    ).result_rows
    assert {grain for grain, *_ in made} == set(Grain)
