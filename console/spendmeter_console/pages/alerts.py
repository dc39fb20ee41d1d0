"""What was said to people, the latest first."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from spendmeter_console.api.parameters import RANGES
from spendmeter_console.api.routes import Sources, query_of, scope_of
from spendmeter_console.pages.answer import ROWS, SPAN, next_page, page, rendered, zone_in


class AlertPages:
    """The list of alerts."""

    def __init__(self, sources: Sources) -> None:
        self._history, self._clock = sources.history, sources.clock

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [Route("/alerts", page(self.alerts))]

    async def alerts(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*SPAN, "after"))
        span, after = query.span(query.zone(zone_in(request)), "7d"), query.after()
        rows = await self._history.ask(scope, lambda h: h.alerts(span, ROWS + 1, "", after))
        return rendered(
            request,
            "alerts.html",
            query.now,
            rows=rows[:ROWS],
            range=query.one("range") or "7d",
            ranges=RANGES,
            next=next_page("/alerts", query.pairs, rows, lambda row: (row.emitted_at, row.alert_id)),
        )
