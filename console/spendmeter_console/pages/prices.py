"""Costs to check: models without a price, and prices that were doubted."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from spendmeter_console.api.parameters import RANGES
from spendmeter_console.api.routes import Sources, query_of, scope_of
from spendmeter_console.pages.answer import SPAN, page, rendered, zone_in


class PricePages:
    """Unpriced and doubted costs."""

    def __init__(self, sources: Sources) -> None:
        self._history, self._clock = sources.history, sources.clock

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [Route("/prices", page(self.prices))]

    async def prices(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow(SPAN)
        span = query.span(query.zone(zone_in(request)), "30d")
        rows = await self._history.ask(scope, lambda h: h.doubted(span))
        return rendered(
            request,
            "prices.html",
            query.now,
            unpriced=[row for row in rows if row.why == "unpriced"],
            doubted=[row for row in rows if row.why != "unpriced"],
            range=query.one("range") or "30d",
            ranges=RANGES,
        )
