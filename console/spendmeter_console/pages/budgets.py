"""The list of accounts, and the page of one budget."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from spendmeter.contract.money import format_usd
from spendmeter.contract.signing import shown as shown_by
from spendmeter.values.times import TimeSpan
from spendmeter_console.api.parameters import PageQuery
from spendmeter_console.api.routes import NotThere, Sources, query_of, scope_of
from spendmeter_console.changes.desk import ChangeDesk
from spendmeter_console.history.pool import HistoryBusy, Unusable
from spendmeter_console.live.board import Selection
from spendmeter_console.live.standing import Standing
from spendmeter_console.pages import charts
from spendmeter_console.pages.answer import ROWS, page, rendered, zone_in
from spendmeter_console.pages.render import account_label, money, segment, until
from spendmeter_console.settings import ConsoleSettings

MAX_ROWS_AT_ONCE = 200


class BudgetPages:
    """Budgets, live from Kafka, with what history has of one."""

    def __init__(self, sources: Sources, settings: ConsoleSettings, desk: ChangeDesk) -> None:
        self._settings, self._desk = settings, desk
        self._board, self._history, self._clock = sources.board, sources.history, sources.clock

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [
            Route("/budgets", page(self.budgets)),
            Route("/budgets/rows", page(self.budget_rows)),
            Route("/budgets/{id:path}", page(self.budget)),
        ]

    async def budgets(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow(("search", "state", "budget", "done"))
        selection = Selection(scope, query.one("search"), query.state(), query.one("budget"))
        found = self._board.select(selection)
        return rendered(
            request,
            "budgets.html",
            query.now,
            done=self._done(request, query),
            may_create=self._settings.web_changes and request.scope["viewer"].is_editor,
            search=query.one("search"),
            state=query.state(),
            budget=query.one("budget"),
            total=len(found),
            rows=[_row(one, self._board.names, query.now, zone_in(request)) for one in found[:30]],
            budgets=self._board.budgets(scope)[:1_000],
            states=Counter(str(one.state) for one in self._board.select(Selection(scope))),
        )

    async def budget_rows(self, request: Request) -> Response:
        """A stretch of the list, for the rows that are on the screen."""
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow(("search", "state", "budget", "first", "count"))
        first, count = query.whole("first", 0, 0, 10_000_000), query.whole("count", 60, 1, MAX_ROWS_AT_ONCE)
        found = self._board.select(Selection(scope, query.one("search"), query.state(), query.one("budget")))
        zone = zone_in(request)
        rows = [_row(one, self._board.names, query.now, zone) for one in found[first : first + count]]
        return Response(json.dumps({"total": len(found), "rows": rows}), media_type="application/json")

    async def budget(self, request: Request) -> Response:
        query, scope, zone = query_of(request, self._clock()), scope_of(request), zone_in(request)
        query.allow(("account", "done"))
        budget_id = request.path_params["id"]
        budget = self._board.budget(scope, budget_id)
        if budget is None:
            raise NotThere("no budget of this name is in force, or it is not yours to see")
        standings = self._board.select(Selection(scope, budget_id=budget_id))
        wanted = query.one("account")
        shown = next((one for one in standings if one.account == wanted), None)
        if wanted and shown is None:
            raise NotThere("this budget has no such account, or it is not yours to see")
        shown = shown or next(iter(standings), None)
        missing, changes, points, refusals, alerts = "", [], [], [], []
        recent = TimeSpan(query.now - timedelta(days=35), query.now + timedelta(days=1))
        try:
            changes = await self._history.ask(scope, lambda h: h.budget_changes(budget_id, 50))
            if shown is not None:
                of_window = TimeSpan(shown.window.start, shown.window.end or query.now + timedelta(seconds=1))
                account = shown.account
                points = await self._history.ask(
                    scope, lambda h: h.curve(account, of_window), ("curve", account), 0.5
                )
            refusals = await self._history.ask(scope, lambda h: h.refusals(recent, 20, budget_id))
            alerts = await self._history.ask(scope, lambda h: h.alerts(recent, 20, budget_id))
        except (Unusable, HistoryBusy) as error:
            missing = str(error)
        chart = None
        if shown is not None:
            start = shown.window.start if shown.window.end or not points else points[0].at
            end = shown.window.end or query.now
            if end > start:
                chart = charts.curve(points, shown, budget.warn_at, TimeSpan(start, end), query.now)
        return rendered(
            request,
            "budget.html",
            query.now,
            done=self._done(request, query),
            may_change=self._settings.web_changes and request.scope["viewer"].may_change(budget.match),
            budget=budget,
            limit=budget.limit_at(query.now),
            by=shown_by(budget.updated_by, is_signed=bool(self._board.signer(budget_id))),
            shown=shown,
            rows=[_row(one, self._board.names, query.now, zone) for one in standings[:ROWS]],
            total=len(standings),
            chart=chart,
            changes=[(one, shown_by(one.by, is_signed=one.is_signed)) for one in changes],
            refusals=refusals,
            alerts=alerts,
            missing=missing,
            names=self._board.names,
        )

    def _done(self, request: Request, query: PageQuery) -> str:
        """What the form that led here has done."""
        return self._desk.sentence(request.scope["viewer"].holder, query.one("done"))


def _row(one: Standing, names: Mapping[str, str], now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """A row of the list of accounts, as the template and the browser draw it."""
    parts = account_label(one.account, names)
    return {
        "budget": one.budget_id,
        "account": one.account,
        "href": f"/budgets/{segment(one.budget_id)}?account={quote(one.account, safe='')}",
        "parts": [[d, alias or v, v if alias else ""] for d, alias, v in parts],
        "spent": [money(one.spent_nanousd), format_usd(one.spent_nanousd)],
        "limit": [money(one.limit_nanousd), format_usd(one.limit_nanousd)],
        "left": [money(one.remaining_nanousd), format_usd(one.remaining_nanousd)],
        "share": round(min(one.share, 99.99), 8),
        "state": str(one.state),
        "refuses": one.refuses,
        "paused": one.paused,
        "opening": one.is_counting,
        "resets": until(one.window.end, now) if one.window.end else "never",
        "resets_at": one.window.end.isoformat() if one.window.end else "",
        "out": until(one.runs_out_at, now) if one.runs_out_at else "",
    }
