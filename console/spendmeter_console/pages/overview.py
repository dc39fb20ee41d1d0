"""The overview: spend by now beside the days before, who spends most, and what runs out next."""

from collections import Counter
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import State
from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import TimeSpan
from spendmeter_console.api.routes import Sources, scope_of
from spendmeter_console.history.pool import HistoryBusy, Unusable
from spendmeter_console.history.queries import HistoryQueries
from spendmeter_console.history.rows import SpendRow, SpendTotals
from spendmeter_console.history.spans import Interval, midnight, month_start, steps
from spendmeter_console.live.board import Selection
from spendmeter_console.live.standing import Standing, closest_first
from spendmeter_console.pages.answer import page, rendered, zone_in
from spendmeter_console.pages.charts import ColumnChart, stacked

TOP = 5
TOP_BY: tuple[Dimension, ...] = ("team", "key", "model")
RUNS_OUT_NEXT = 8


class Past(NamedTuple):
    """What does not change any more, but for corrections: read once a minute."""

    yesterday: NanoUsd
    yesterday_by_now: NanoUsd
    month_before_today: NanoUsd
    last_month: NanoUsd
    last_month_by_now: NanoUsd
    day_before: NanoUsd
    """What was spent from a day ago until today began."""


class Present(NamedTuple):
    """Today, as history has it by now."""

    today: SpendTotals
    last_hour: NanoUsd
    chart: ColumnChart
    top: dict[Dimension, list[SpendRow]]
    refusals: dict[str, int]


def past_of(history: HistoryQueries, now: datetime, zone: ZoneInfo) -> Past:
    """Yesterday, and the months."""
    today, month, last = midnight(now, zone), month_start(now, zone), month_start(now, zone, -1)

    yesterday, day_ago = midnight(now, zone, -1), now - timedelta(days=1)
    spans = (
        TimeSpan(yesterday, today),
        TimeSpan(yesterday, min(today, yesterday + (now - today))),
        TimeSpan(month, today),
        TimeSpan(last, month),
        TimeSpan(last, min(month, last + (now - month))),
        TimeSpan(day_ago, today),
    )
    return Past(*history.spent_in(spans))


def present_of(history: HistoryQueries, now: datetime, zone: ZoneInfo) -> Present:
    """Today until now."""
    span = TimeSpan(midnight(now, zone), midnight(now, zone, 1))
    by_hour = history.series(span, Interval.HOUR, zone, None, (), {})
    [last_hour] = history.spent_in([TimeSpan(now - timedelta(hours=1), now + timedelta(minutes=1))])
    return Present(
        by_hour.totals,
        last_hour,
        stacked(by_hour.whole, None, [""], steps(span, Interval.HOUR, zone)),
        {one: history.spend(span, [one], {}, TOP) for one in TOP_BY},
        history.count_refusals(span),
    )


class OverviewPages:
    """The first page."""

    def __init__(self, sources: Sources) -> None:
        self._board, self._history, self._clock = sources.board, sources.history, sources.clock

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [Route("/", page(self.overview))]

    async def overview(self, request: Request) -> Response:
        scope, zone, now = scope_of(request), zone_in(request), self._clock()
        missing, past, present = "", None, None
        try:
            past = await self._history.ask(
                scope, lambda h: past_of(h, now, zone), ("past", zone.key, f"{now:%j%H}"), 60
            )
            present = await self._history.ask(
                scope, lambda h: present_of(h, now, zone), ("present", zone.key), 0.5
            )
        except (Unusable, HistoryBusy) as error:
            missing = str(error)
        standings = self._board.select(Selection(scope))
        return rendered(
            request,
            "overview.html",
            now,
            past=past,
            present=present,
            missing=missing,
            month_left=_month_left(now, zone),
            next_out=_runs_out_next(standings),
            states=Counter(str(one.state) for one in standings),
            names=self._board.names,
            silent=self._board.silent_seconds,
        )


def _runs_out_next(standings: list[Standing]) -> list[Standing]:
    """Whoever reaches their limit first at the rate of late; then whoever is closest to it."""
    soon = sorted(
        (one for one in standings if one.runs_out_at is not None and one.state is not State.EXCEEDED),
        key=lambda one: (one.runs_out_at, one.account),
    )
    others = [one for one in standings if one.runs_out_at is None and one.share > 0]
    return [*soon, *sorted(others[:RUNS_OUT_NEXT], key=closest_first)][:RUNS_OUT_NEXT]


def _month_left(now: datetime, zone: ZoneInfo) -> float:
    """How many days of the month are left after today."""
    return (month_start(now, zone, 1) - midnight(now, zone, 1)) / timedelta(days=1)
