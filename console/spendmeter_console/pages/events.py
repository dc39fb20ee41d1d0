"""Single events, with their prices, and as a file."""

from collections.abc import AsyncIterator, Awaitable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from spendmeter.values.dimensions import DIMENSIONS
from spendmeter_console.api.routes import Sources, query_of, scope_of
from spendmeter_console.history.queries import MAX_ROWS
from spendmeter_console.history.rows import Cursor, EventRow
from spendmeter_console.pages.answer import (
    ROWS,
    SPAN,
    address,
    csv_headers,
    next_page,
    page,
    rendered,
    zone_in,
)
from spendmeter_console.pages.sheets import EVENT_HEAD, csv_lines, event_cells

MAX_CSV_ROWS = 100_000


class EventPages:
    """Events of a span, the latest first."""

    def __init__(self, sources: Sources) -> None:
        self._history, self._clock = sources.history, sources.clock

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [
            Route("/events", page(self.events)),
            Route("/events.csv", page(self.events_csv)),
        ]

    async def events(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*SPAN, "after", *DIMENSIONS))
        zone = query.zone(zone_in(request))
        span, filters, after = query.span(zone, "7d"), query.filters(), query.after()
        rows = await self._history.ask(scope, lambda h: h.events(span, filters, ROWS + 1, after))
        kept = [(name, value) for name, value in query.pairs if name != "after"]
        return rendered(
            request,
            "events.html",
            query.now,
            rows=rows[:ROWS],
            span=span,
            filters=filters,
            next=next_page("/events", query.pairs, rows, lambda row: (row.occurred_at, row.event_id)),
            csv=address("/events.csv", kept),
            explore=address("/explore", kept),
            is_first=after is None,
        )

    async def events_csv(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*SPAN, *DIMENSIONS))
        span, filters = query.span(query.zone(zone_in(request)), "7d"), query.filters()

        def ask(after: Cursor | None) -> Awaitable[list[EventRow]]:
            return self._history.ask(scope, lambda h: h.events(span, filters, MAX_ROWS, after))

        # Before the head of the answer, so that an error is one.
        first = await ask(None)

        async def written() -> AsyncIterator[bytes]:
            rows, count = first, 0
            yield csv_lines([EVENT_HEAD])
            while rows and count < MAX_CSV_ROWS:
                yield csv_lines(map(event_cells, rows))
                count += len(rows)
                last = rows[-1]
                is_full = len(rows) == MAX_ROWS
                rows = await ask(Cursor(last.occurred_at, last.event_id)) if is_full else []

        return StreamingResponse(written(), headers=csv_headers("events"), media_type="text/csv")
