"""What was said to people, the latest first, and where each of it was sent."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from spendmeter_console.api.parameters import RANGES, uuid_of
from spendmeter_console.api.routes import NotThere, Sources, query_of, scope_of
from spendmeter_console.pages.answer import ROWS, SPAN, next_page, page, rendered, zone_in


class AlertPages:
    """The list of alerts, and a page for each."""

    def __init__(self, sources: Sources) -> None:
        self._board, self._history, self._clock = sources.board, sources.history, sources.clock

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [Route("/alerts", page(self.alerts)), Route("/alerts/{id}", page(self.alert))]

    async def alerts(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*SPAN, "after"))
        span, after = query.span(query.zone(zone_in(request)), "7d"), query.after()
        rows = await self._history.ask(scope, lambda h: h.alerts(span, ROWS + 1, "", after))
        shown = rows[:ROWS]
        sent = await self._history.ask(scope, lambda h: h.deliveries([row.alert_id for row in shown]))
        return rendered(
            request,
            "alerts.html",
            query.now,
            rows=[(row, sent.get(row.alert_id, [])) for row in shown],
            range=query.one("range") or "7d",
            ranges=RANGES,
            next=next_page("/alerts", query.pairs, rows, lambda row: (row.emitted_at, row.alert_id)),
        )

    async def alert(self, request: Request) -> Response:
        alert_id = uuid_of("id", request.path_params["id"])
        found = await self._history.ask(scope_of(request), lambda h: h.alert(alert_id))
        if found is None:
            raise NotThere(
                f"there is no alert {alert_id}, or it is not yours to see;"
                " an alert is here about a second after it was sent"
            )
        return rendered(
            request, "alert.html", self._clock(), found=found, alert=found.alert, names=self._board.names
        )
