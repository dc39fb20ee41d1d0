"""What the overview and Explore show, gathered from history: typed, and apart from its style."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from spendmeter.contract.money import NanoUsd
from spendmeter.values.dimensions import Dimension
from spendmeter_console.history.queries import Filters, HistoryQueries
from spendmeter_console.history.rows import SpendRow, SpendTotals
from spendmeter_console.history.spans import Interval, TimeSpan, midnight, month_start, steps
from spendmeter_console.pages.charts import MAX_SERIES, ColumnChart, stacked

TOP = 5
TOP_BY: tuple[Dimension, ...] = ("team", "key", "model")


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


def past(history: HistoryQueries, now: datetime, zone: ZoneInfo) -> Past:
    """Yesterday, and the months."""
    today, month, last = midnight(now, zone), month_start(now, zone), month_start(now, zone, -1)

    def spent(start: datetime, end: datetime) -> NanoUsd:
        return history.totals(TimeSpan(start, end), {}).spent_nanousd if start < end else NanoUsd(0)

    yesterday = midnight(now, zone, -1)
    day_ago = now - timedelta(days=1)
    return Past(
        spent(yesterday, today),
        spent(yesterday, min(today, yesterday + (now - today))),
        spent(month, today),
        spent(last, month),
        spent(last, min(month, last + (now - month))),
        spent(day_ago, today),
    )


def present(history: HistoryQueries, now: datetime, zone: ZoneInfo) -> Present:
    """Today until now."""
    span = TimeSpan(midnight(now, zone), midnight(now, zone, 1))
    hours = steps(span, Interval.HOUR, zone)
    return Present(
        history.totals(span, {}),
        history.totals(TimeSpan(now - timedelta(hours=1), now + timedelta(minutes=1)), {}).spent_nanousd,
        stacked(history.series(span, Interval.HOUR, zone, None, (), {}), None, [""], hours),
        {one: history.spend(span, [one], {}, TOP) for one in TOP_BY},
        history.count_refusals(span),
    )


class Exploration(NamedTuple):
    """A table and a chart of the same spend."""

    rows: list[SpendRow]
    has_more: bool
    totals: SpendTotals
    chart: ColumnChart


def explore(
    history: HistoryQueries,
    span: TimeSpan,
    interval: Interval,
    zone: ZoneInfo,
    by: Sequence[Dimension],
    filters: Filters,
    limit: int,
    offset: int,
) -> Exploration:
    """Spend by one or two dimensions, and the first of them over time."""
    at = steps(span, interval, zone)
    rows = history.spend(span, by, filters, limit + 1, offset)
    largest = history.spend(span, by[:1], filters, MAX_SERIES)
    values = [row.values[0] for row in largest]
    points = history.series(span, interval, zone, by[0], values, filters)
    # A request with several tags is in the series of each: what is left of the whole would be no rest.
    totals = None if by[0] == "tag" else history.series(span, interval, zone, None, (), filters)
    return Exploration(
        rows[:limit],
        len(rows) > limit,
        history.totals(span, filters),
        stacked(points, totals, values, at),
    )
