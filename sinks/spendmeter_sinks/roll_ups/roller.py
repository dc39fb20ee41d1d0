"""The edge to ClickHouse: sums up the hours and days that have come to rest, one day after another.

    1. read      which spans have rows that their sums were not made of, and each one's fingerprint
    2. begin     write down that a new making begins: from here on readers read the rows
    3. sum up    into the slot that nobody reads
    4. finish    where the fingerprint is still the same, write down that this making counts

A crash in between leaves spans that are read from the rows, and summed up again. So does another worker that
does the same at once: the highest making that was finished counts. Nothing is removed or changed: a making is
replaced by the one after the next, which has its slot.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Counter, Gauge
from urllib3.exceptions import HTTPError

from spendmeter.runtime.clickhouse import Client, Error, render_error
from spendmeter.runtime.process import pause
from spendmeter.values.times import to_unix_us
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.roll_ups.spans import (
    Fingerprint,
    Grain,
    Making,
    Span,
    by_day,
    next_making,
    quiet,
)

log = logging.getLogger(__name__)

ROLLED_UP = Counter("spendmeter_roll_ups_total", "Hours and days whose sums were made.", ["grain"])
STALE = Gauge("spendmeter_roll_ups_stale", "Hours and days that are read from the rows.", ["grain"])

ROUND_EVERY_SECONDS = 60.0
QUERY_WITHIN_SECONDS = 600

_DIMENSIONS = "team, key, user, organization, project, provider, model, model_group, gateway"
_NAMES = ("key_alias", "user_alias", "user_email", "team_alias", "organization_alias", "project_alias")
_COUNTS = (
    *("requests", "failures", "unpriced", "estimated", "corrections"),
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
    "spent_usd",
)
_INTO = ", ".join(("start", "slot", _DIMENSIONS, *_NAMES, *_COUNTS, "generation"))
_MADE = ", ".join(
    (
        *("begun.start", "begun.slot", _DIMENSIONS),
        *(f"argMaxIf(recounted.{name}, hour, recounted.{name} != '')" for name in _NAMES),
        *(f"sum(recounted.{name})" for name in _COUNTS),
        "begun.generation",
    )
)
_TABLES = {Grain.HOUR: "usage_hours", Grain.DAY: "usage_days"}
_START_OF = {Grain.HOUR: "hour", Grain.DAY: "toStartOfDay(hour)"}


class RollUps:
    """Beside the sink, in every worker; only one that `is_in_charge` does anything."""

    def __init__(self, settings: SinkSettings, is_in_charge: Callable[[], bool]) -> None:
        self._settings = settings
        self._is_in_charge = is_in_charge
        self._before: Mapping[Span, Fingerprint] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`."""
        while not stop.is_set():
            if self._is_in_charge():
                try:
                    await asyncio.to_thread(self.round, stop.is_set)
                except (Error, HTTPError) as error:
                    log.warning("sums by hour and day wait: %s", render_error(error))
            await pause(stop, ROUND_EVERY_SECONDS)

    def round(self, is_over: Callable[[], bool] = lambda: False) -> int:
        """Sum up what no row has come to since the round before; how many spans were. Blocking.

        Raises:
            clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
        """
        client = open_client(self._settings, self._settings.clickhouse_database, QUERY_WITHIN_SECONDS)
        try:
            stale = read_stale(client)
            for grain in Grain:
                STALE.labels(grain.value).set(sum(span.grain is grain for span in stale))
            at_rest, self._before = quiet(stale, self._before), stale
            done = 0
            for spans in by_day(at_rest).values():
                if is_over():
                    break
                done += roll_up(client, {span: at_rest[span] for span in spans}, datetime.now(UTC))
            return done
        finally:
            client.close()


def read_stale(client: Client) -> dict[Span, Fingerprint]:
    """The spans whose sums do not count, and what stands in them now."""
    rows = client.query(
        "SELECT hour, day, rows, hash, day_rows, day_hash, hour_generation, day_generation"
        " FROM usage_roll_up_state"
    ).result_rows
    stale: dict[Span, Fingerprint] = {}
    for hour, day, of_hour, hash_of_hour, of_day, hash_of_day, made_of_hour, made_of_day in rows:
        if not made_of_hour:
            stale[Span(Grain.HOUR, hour)] = Fingerprint(of_hour, hash_of_hour)
        if not made_of_day:
            stale[Span(Grain.DAY, day)] = Fingerprint(of_day, hash_of_day)
    return stale


def roll_up(client: Client, spans: Mapping[Span, Fingerprint], now: datetime) -> int:
    """Make the sums of these spans, which are of one day; how many count afterwards."""
    (day,) = {span.day for span in spans}
    begun = {span: next_making(latest, to_unix_us(now)) for span, latest in _latest(client, spans).items()}
    _note(client, begun, {})
    for grain in {span.grain for span in begun}:
        _sum_up(client, grain, day, [making.generation for s, making in begun.items() if s.grain is grain])
    still = read_stale(client)
    unchanged = {span: seen for span, seen in spans.items() if still.get(span) == seen}
    _note(client, {span: begun[span] for span in unchanged}, unchanged)
    for span in unchanged:
        ROLLED_UP.labels(span.grain.value).inc()
    return len(unchanged)


def _latest(client: Client, spans: Iterable[Span]) -> dict[Span, Making | None]:
    rows = client.query("SELECT grain, start, generation, slot FROM usage_roll_ups FINAL").result_rows
    made = {Span(Grain(grain), start): Making(generation, slot) for grain, start, generation, slot in rows}
    return {span: made.get(span) for span in spans}


def _note(client: Client, makings: Mapping[Span, Making], done: Mapping[Span, Fingerprint]) -> None:
    """Write down that the makings have begun; or that those of `done` count, and what they were made of."""
    if not makings:
        return
    columns = ["grain", "start", "version", "generation", "slot", "is_done", "rows", "hash"]
    noted: list[Sequence[Any]] = []
    for span, making in makings.items():
        made_of = done.get(span)
        start = span.start.replace(tzinfo=UTC)
        rows, hashed = made_of or Fingerprint(0, 0)
        version = 2 * making.generation + (made_of is not None)
        noted.append(
            (
                span.grain.value,
                start,
                version,
                making.generation,
                making.slot,
                made_of is not None,
                rows,
                hashed,
            )
        )
    client.insert("usage_roll_ups", noted, column_names=columns)


def _sum_up(client: Client, grain: Grain, day: datetime, generations: Sequence[int]) -> None:
    """Write the sums of those makings that are still the latest of their spans."""
    client.command(
        f"INSERT INTO {_TABLES[grain]} ({_INTO}) SELECT {_MADE} FROM usage_recounted AS recounted"
        " INNER JOIN (SELECT start, slot, generation FROM usage_roll_ups FINAL"
        " WHERE grain = {grain:String} AND NOT is_done"
        " AND generation IN {generations:Array(UInt64)}) AS begun"
        f" ON begun.start = {_START_OF[grain]} WHERE recounted.day = {{day:Date}}"
        f" GROUP BY begun.start, begun.slot, begun.generation, {_DIMENSIONS}",
        parameters={
            "grain": grain.value,
            "generations": sorted(set(generations)),
            "day": day.date(),
        },
    )
