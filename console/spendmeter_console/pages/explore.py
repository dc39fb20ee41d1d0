"""Explore: any two dimensions over any time, as a chart, a table and a file."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from spendmeter.contract.money import format_usd
from spendmeter.values.dimensions import DIMENSIONS, Dimension
from spendmeter.values.times import TimeSpan
from spendmeter_console.api.parameters import MAX_OFFSET, RANGES, InvalidParameter
from spendmeter_console.api.routes import Sources, query_of, scope_of
from spendmeter_console.history.queries import Filters, HistoryQueries
from spendmeter_console.history.rows import SpendRow, SpendTotals
from spendmeter_console.history.spans import Interval, InvalidSpan, steps
from spendmeter_console.pages.answer import ROWS, SPAN, address, csv_headers, page, rendered, zone_in
from spendmeter_console.pages.charts import MAX_SERIES, ColumnChart, stacked
from spendmeter_console.pages.sheets import csv_lines

MAX_CSV_ROWS = 100_000


class Exploration(NamedTuple):
    """A table and a chart of the same spend."""

    rows: list[SpendRow]
    has_more: bool
    totals: SpendTotals
    chart: ColumnChart


def exploration(
    history: HistoryQueries,
    span: TimeSpan,
    interval: Interval,
    zone: ZoneInfo,
    by: Sequence[Dimension],
    filters: Filters,
    limit: int,
    offset: int,
) -> Exploration:
    """Spend by one or two dimensions, and the first of them over time. Raises InvalidSpan."""
    at = steps(span, interval, zone)
    rows = history.spend(span, by, filters, limit + 1, offset)
    are_first = len(by) == 1 and offset == 0
    largest = rows[:MAX_SERIES] if are_first else history.spend(span, by[:1], filters, MAX_SERIES)
    values = [row.values[0] for row in largest]
    series = history.series(span, interval, zone, by[0], values, filters)
    # A request with several tags is in the series of each: what is left of the whole would be no rest.
    by_tag = by[0] == "tag"
    return Exploration(
        rows[:limit],
        len(rows) > limit,
        history.totals(span, filters) if by_tag else series.totals,
        stacked(series.points, None if by_tag else series.whole, values, at),
    )


class ExplorePages:
    """Spend by one or two dimensions."""

    def __init__(self, sources: Sources) -> None:
        self._history, self._clock = sources.history, sources.clock

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [
            Route("/explore", page(self.explore)),
            Route("/explore.csv", page(self.explore_csv)),
        ]

    async def explore(self, request: Request) -> Response:
        query = query_of(request, self._clock())
        query.allow((*SPAN, "by", "interval", "first", "filter_by", "filter_value", *DIMENSIONS))
        if query.one("filter_by"):
            # The form cannot name a field after what is chosen in another.
            dimension = query.dimension("filter_by", query.one("filter_by"))
            kept = [
                (name, value)
                for name, value in query.pairs
                if name not in ("filter_by", "filter_value", dimension) and (value or name in DIMENSIONS)
            ]
            return RedirectResponse(address("/explore", [*kept, (dimension, query.one("filter_value"))]), 303)
        zone = query.zone(zone_in(request))
        span, by, filters = query.span(zone, "7d"), query.by(("team",)), query.filters()
        interval, first = query.interval(span), query.whole("first", 0, 0, MAX_OFFSET)
        found = await self._ask_exploring(request, span, interval, zone, by, filters, first)
        kept = [pair for pair in query.pairs if (pair[1] and pair[0] != "first") or pair[0] in filters]
        return rendered(
            request,
            "explore.html",
            query.now,
            found=found,
            span=span,
            by=by,
            interval=str(interval),
            filters=filters,
            range=query.one("range") or ("" if query.one("from") else "7d"),
            given=(query.one("from"), query.one("to")),
            ranges=RANGES,
            dimensions=DIMENSIONS,
            first=first,
            rows_shown=ROWS,
            next=address("/explore", [*kept, ("first", str(first + ROWS))]),
            csv=address("/explore.csv", kept),
            narrowed=lambda row: _narrowed(kept, by, row.values),
            events=lambda row: _events_of(kept, by, row.values),
            without=lambda one: address("/explore", [(n, v) for n, v in kept if n != one]),
        )

    async def _ask_exploring(
        self,
        request: Request,
        span: TimeSpan,
        interval: Interval,
        zone: ZoneInfo,
        by: list[Dimension],
        filters: dict[Dimension, str],
        first: int,
    ) -> Exploration:
        try:
            return await self._history.ask(
                scope_of(request),
                lambda h: exploration(h, span, interval, zone, by, filters, ROWS, first),
            )
        except InvalidSpan as invalid:
            raise InvalidParameter("interval", str(invalid)) from None

    async def explore_csv(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*SPAN, "by", "interval", "filter_by", "filter_value", *DIMENSIONS))
        zone = query.zone(zone_in(request))
        span, by, filters = query.span(zone, "7d"), query.by(("team",)), query.filters()
        rows = await self._history.ask(scope, lambda h: h.spend(span, by, filters, MAX_CSV_ROWS))
        alias = ["key_alias"] if "key" in by else []
        head = [*by, *alias, "spent_usd", "requests", "input_tokens", "output_tokens", "unpriced"]

        def lines() -> Iterable[list[Any]]:
            for row in rows:
                called = [row.labels[by.index("key")]] if alias else []
                yield [*row.values, *called, format_usd(row.spent_nanousd), *row[3:]]

        return Response(csv_lines([head, *lines()]), headers=csv_headers("spend"), media_type="text/csv")


def _narrowed(kept: list[tuple[str, str]], by: list[Dimension], values: tuple[str, ...]) -> str:
    """The same question of one row alone, by the next dimensions that say something."""
    fixed = dict(zip(by, values, strict=True))
    known = {name for name, _ in kept}
    onward = [one for one in ("model", "key", "team", "user") if one not in fixed and one not in known][:2]
    pairs = [(name, value) for name, value in kept if name not in ("by", *fixed)]
    return address("/explore", [*pairs, *fixed.items(), *(("by", one) for one in onward)])


def _events_of(kept: list[tuple[str, str]], by: list[Dimension], values: tuple[str, ...]) -> str:
    fixed = dict(zip(by, values, strict=True))
    pairs = [(name, value) for name, value in kept if name not in ("by", "interval", *fixed)]
    return address("/events", [*pairs, *fixed.items()])
