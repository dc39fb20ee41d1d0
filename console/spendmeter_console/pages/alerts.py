"""What was said to people, the latest first."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from spendmeter_console.api.parameters import RANGES, cursor_text
from spendmeter_console.api.routes import Sources, query_of, scope_of
from spendmeter_console.pages.answer import ROWS, SPAN, address, page, rendered, zone_in


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
        last = rows[ROWS - 1] if len(rows) > ROWS else None
        kept = [(name, value) for name, value in query.pairs if name != "after"]
        return rendered(
            request,
            "alerts.html",
            query.now,
            rows=rows[:ROWS],
            range=query.one("range") or "7d",
            ranges=RANGES,
            next=address("/alerts", [*kept, ("after", cursor_text(last.emitted_at, last.alert_id))])
            if last
            else "",
        )
