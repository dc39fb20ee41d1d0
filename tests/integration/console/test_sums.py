"""What a question about spend is answered is what the events add up to, whether it is read from sums or rows.

The oracle adds up in Python, of each event the copy with the lowest offset.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.contract.usage import CostSource, UsageEvent, UsageKind
from spendmeter.history.sums import SETTLED_AFTER
from spendmeter.runtime import clickhouse as connection
from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import TimeSpan
from spendmeter_console.history.queries import Filters, HistoryQueries
from spendmeter_console.history.spans import Interval, midnight, steps
from spendmeter_console.viewer import EVERYTHING, ViewScope
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.roll_ups.roller import RollUps, read_stale
from tests.integration.sinks.recorded import DAYS, MIDNIGHT, Recorded

ZONES = [
    ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu")
]
ASKED: tuple[Dimension, ...] = ("team", "key", "model", "provider", "tag", "user")
SCOPES = (EVERYTHING, EVERYTHING, ViewScope(frozenset({"red"})), ViewScope(frozenset({"red", "earlier"})))
_DAY = timedelta(days=1)
Sums = tuple[int, int, int, int]
"""Nano-USD, requests, input tokens, requests without a price."""


@pytest.fixture
def settings(clickhouse: str, database: str) -> SinkSettings:
    return SinkSettings(clickhouse_url=clickhouse, clickhouse_database=database)


@pytest.fixture
def client(settings: SinkSettings) -> Iterator[Client]:
    client = open_client(settings, database=None)
    migrate(client, settings.clickhouse_database)
    # Else copies might be gone before anybody reads.
    client.command("SYSTEM STOP MERGES usage")
    yield client
    client.close()


@pytest.fixture
def reader(settings: SinkSettings, client: Client) -> Iterator[Client]:
    """As the page has it: one that can change nothing."""
    reader = connection.reader(settings)
    yield reader
    reader.close()


class Asker:
    """Asks what a reader might, and knows the answer."""

    def __init__(self, recorded: Recorded, reader: Client, random: Random) -> None:
        self._recorded, self._reader, self._random = recorded, reader, random

    def ask(self) -> None:
        """One question of each kind, about the same stretch of time."""
        random = self._random
        zone, scope = random.choice(ZONES), random.choice(SCOPES)
        history = HistoryQueries(self._reader, scope)
        start, end = sorted((self._edge(zone), self._edge(zone)))
        span = TimeSpan(start, max(end, start + timedelta(microseconds=1)))
        by = random.sample(ASKED, random.randrange(3))
        filters = {one: self._value(one) for one in random.sample(ASKED, random.choice((0, 0, 1, 2)))}
        about = f"{span} {zone} by {by} where {filters} of {scope}"

        spent = {row.values: row[2:5] + row[6:] for row in history.spend(span, by, filters, 1_000)}
        expected = self._sums(span, scope, filters, lambda event: [()])
        if by:
            expected = self._sums(span, scope, filters, lambda event: _values(event, by))
        assert spent == (expected or ({} if by else {(): (0, 0, 0, 0)})), about

        [whole] = self._sums(span, scope, filters, lambda event: [()]).values() or [(0, 0, 0, 0)]
        totals = history.totals(span, filters)
        assert totals[:3] + totals[4:5] == whole, about
        assert totals.corrections == sum(
            event.kind is not UsageKind.USAGE for event in self._events(span, scope, filters)
        )
        self._ask_series(history, self._perhaps_longer(span), zone, scope, filters)
        spans = [TimeSpan(*sorted((self._edge(zone), self._edge(zone)))) for _ in range(3)]
        spans[0] = self._perhaps_longer(spans[0])
        assert history.spent_in(spans) == [
            sum(event.cost_nanousd for event in self._events(one, scope, {})) for one in spans
        ], spans

    def _ask_series(
        self, history: HistoryQueries, span: TimeSpan, zone: ZoneInfo, scope: ViewScope, filters: Filters
    ) -> None:
        interval, by = self._random.choice([*Interval]), self._random.choice(ASKED[:3])
        starts = steps(span, interval, zone)
        found = history.series(span, interval, zone, by, ["red", "", "gpt-4o", "k1"], filters)

        def step_of(event: UsageEvent) -> datetime:
            return max(start for start in starts if start <= event.occurred_at)

        by_step = self._sums(span, scope, filters, lambda event: [(step_of(event), *_values(event, [by])[0])])
        expected = {at: sums[0] for at, sums in by_step.items() if at[1] in ("red", "", "gpt-4o", "k1")}
        assert {(one.at, one.value): one.spent_nanousd for one in found.points} == expected
        whole = self._sums(span, scope, filters, lambda event: [(step_of(event),)])
        assert {(one.at,): one.spent_nanousd for one in found.whole} == {at: s[0] for at, s in whole.items()}
        assert found.totals == history.totals(span, filters)

    def _perhaps_longer(self, span: TimeSpan) -> TimeSpan:
        """With an end that is far from all events: days before it may be read as such."""
        return span._replace(end=span.end + self._random.choice((0, 1, 1)) * (SETTLED_AFTER + _DAY))

    def _edge(self, zone: ZoneInfo) -> datetime:
        """A moment at which something is likely to go wrong."""
        random = self._random
        days = random.uniform(-0.1, DAYS + 0.1)
        anywhere = MIDNIGHT + timedelta(microseconds=int(days * 86_400_000_000))
        hour = anywhere.replace(minute=0, second=0, microsecond=0)
        of_an_event = random.choice(self._recorded.requests).occurred_at
        midnights = [midnight(anywhere, one) for one in (zone, ZONES[0])]
        return random.choice((anywhere, hour, of_an_event, *midnights))

    def _value(self, dimension: Dimension) -> str:
        event = self._random.choice(self._recorded.requests)
        return self._random.choice((*_values(event, [dimension])[0], ""))

    def _events(self, span: TimeSpan, scope: ViewScope, filters: Filters) -> list[UsageEvent]:
        return [
            event
            for _, event in self._recorded.first.values()
            if span.start <= event.occurred_at < span.end
            and (scope.teams is None or event.team in scope.teams)
            and all((value,) in _values(event, [one]) for one, value in filters.items())
        ]

    def _sums(
        self,
        span: TimeSpan,
        scope: ViewScope,
        filters: Filters,
        values: Callable[[UsageEvent], Sequence[tuple[object, ...]]],
    ) -> Mapping[Any, Sums]:
        found: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for event in self._events(span, scope, filters):
            for value in values(event):
                sums = found[value]
                sums[0] += event.cost_nanousd
                sums[1] += event.kind is UsageKind.USAGE
                sums[2] += event.input_tokens
                sums[3] += event.kind is UsageKind.USAGE and event.cost_source is CostSource.UNPRICED
        return {value: (a, b, c, d) for value, (a, b, c, d) in found.items()}


def _values(event: UsageEvent, by: Sequence[Dimension]) -> list[tuple[str, ...]]:
    """Each combination that the event is in: one for each of its tags."""
    found: list[tuple[str, ...]] = [()]
    for one in by:
        held = sorted(set(event.tags)) or [""] if one == "tag" else [_value(event, one)]
        found = [(*known, value) for known in found for value in held]
    return found


def _value(event: UsageEvent, dimension: Dimension) -> str:
    if dimension == "model":
        return event.model.removeprefix("openai/")
    return getattr(event, dimension) or ""


@pytest.mark.parametrize("seed", range(2))
def test_answers_are_what_the_events_add_up_to(
    client: Client, reader: Client, settings: SinkSettings, seed: int
) -> None:
    random = Random(seed)
    recorded, roll_ups = Recorded(client, settings, random), RollUps(settings, lambda: True)
    recorded.new()
    recorded.new()
    asker = Asker(recorded, reader, random)
    changes: list[Callable[[], object]] = [
        *(recorded.new, recorded.resend, recorded.correct, recorded.correct, recorded.repeat),
        *(recorded.replay_a_day, recorded.find_an_earlier_copy, recorded.merge),
        *(roll_ups.round, roll_ups.round, roll_ups.round),
    ]
    for _ in range(8):
        random.choice(changes)()
        asker.ask()
    roll_ups.round()
    roll_ups.round()
    assert read_stale(client) == {}, "all is at rest, and whole days and hours are read from the sums"
    for _ in range(5):
        asker.ask()


def test_whole_days_and_hours_are_read_from_the_sums(
    client: Client, reader: Client, settings: SinkSettings
) -> None:
    recorded, roll_ups = Recorded(client, settings, Random(5)), RollUps(settings, lambda: True)
    for _ in range(4):
        recorded.new()
    roll_ups.round()
    roll_ups.round()
    history = HistoryQueries(reader, EVERYTHING)
    days = TimeSpan(MIDNIGHT, MIDNIGHT + timedelta(days=DAYS))
    hours = TimeSpan(MIDNIGHT + timedelta(hours=1), MIDNIGHT + timedelta(hours=23))
    rows = TimeSpan(days.start, days.start + timedelta(minutes=59))
    before = [history.totals(one, {}).spent_nanousd for one in (days, hours, rows)]
    tagged = history.spend(days, ["tag"], {}, 100)

    for table in ("usage_days", "usage_hours"):
        client.command(f"INSERT INTO {table} SELECT * REPLACE ('k9' AS key, 1 AS spent_usd) FROM {table}")

    after = [history.totals(one, {}).spent_nanousd for one in (days, hours, rows)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True]
    assert history.spend(days, ["tag"], {}, 100) == tagged


def test_names_are_the_latest_of_the_span(client: Client, reader: Client, settings: SinkSettings) -> None:
    recorded, roll_ups = Recorded(client, settings, Random(6)), RollUps(settings, lambda: True)
    recorded.new()
    one, later = recorded.requests[0], MIDNIGHT + timedelta(days=DAYS, hours=-1)
    named = ((MIDNIGHT, "first"), (later, "then"), (later + timedelta(minutes=1), None))
    for number, (at, name) in enumerate(named):
        update = {"event_id": UUID(int=number), "seq": 10_000 + number, "occurred_at": at, "key": "k3"}
        recorded.put([one.model_copy(update={**update, "key_alias": name})])
    for _ in range(3):
        history = HistoryQueries(reader, EVERYTHING)
        span = TimeSpan(MIDNIGHT, datetime(2026, 12, 1, tzinfo=UTC))
        [row] = history.spend(span, ["key"], {"key": "k3"}, 10)
        assert (row.values, row.labels) == (("k3",), ("then",))
        roll_ups.round()
