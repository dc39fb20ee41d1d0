"""Refusals, and why one was made."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from spendmeter_console.api.parameters import RANGES, uuid_of
from spendmeter_console.api.routes import NotThere, Sources, query_of, scope_of
from spendmeter_console.pages.answer import ROWS, SPAN, next_page, page, rendered, zone_in
from spendmeter_sinks.explain.command import is_right


class RefusalPages:
    """Refused requests, the latest first."""

    def __init__(self, sources: Sources) -> None:
        self._board, self._history, self._clock = sources.board, sources.history, sources.clock

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [
            Route("/refusals", page(self.refusals)),
            Route("/refusals/{id}", page(self.refusal)),
        ]

    async def refusals(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*SPAN, "after", "budget"))
        span, after = query.span(query.zone(zone_in(request)), "7d"), query.after()
        budget = query.one("budget")
        rows = await self._history.ask(scope, lambda h: h.refusals(span, ROWS + 1, budget, after))
        counts = await self._history.ask(scope, lambda h: h.count_refusals(span))
        return rendered(
            request,
            "refusals.html",
            query.now,
            rows=rows[:ROWS],
            counts=counts,
            budget=budget,
            range=query.one("range") or "7d",
            ranges=RANGES,
            next=next_page("/refusals", query.pairs, rows, lambda row: (row.decided_at, row.decision_id)),
            names=self._board.names,
        )

    async def refusal(self, request: Request) -> Response:
        decision_id = uuid_of("id", request.path_params["id"])
        found = await self._history.ask(scope_of(request), lambda h: h.decision(decision_id))
        if found is None:
            raise NotThere(
                f"there is no refusal {decision_id}, or it is not yours to see;"
                " a refusal is here about a second after it was made"
            )
        decision, evidence = found
        return rendered(
            request,
            "refusal.html",
            self._clock(),
            decision=decision,
            evidence=evidence,
            right=is_right(decision, evidence),
            names=self._board.names,
        )
