"""The endpoints of `/v1`. Each refuses a parameter that it does not know, with 422 and the field's name."""

import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spendmeter.domain.matching import Subject
from spendmeter.values.dimensions import DIMENSIONS
from spendmeter_console.api.models import (
    AccountsPage,
    ApiAnswer,
    ApiProblem,
    BudgetsPage,
    EventsPage,
    MeView,
    RefusalDetail,
    RefusalsPage,
    SpendPage,
    account_view,
    budget_view,
    event_view,
    refusal_detail,
    refusal_view,
    spend_view,
    totals_view,
)
from spendmeter_console.api.openapi import document
from spendmeter_console.api.parameters import (
    MAX_OFFSET,
    InvalidParameter,
    PageQuery,
    cursor_text,
    name_text,
    uuid_of,
)
from spendmeter_console.history.pool import HistoryBusy, HistoryPool, Unusable
from spendmeter_console.live.board import Board, Selection
from spendmeter_console.live.standing import Standing
from spendmeter_console.viewer import EVERYTHING, ViewScope

BEARER = "Bearer "
SPAN = ("from", "to", "range", "zone")
PAGED = ("limit", "after")
MAX_KEY_CHARS = 1_024
_Endpoint = Callable[[Request], Awaitable[ApiAnswer]]


@dataclass(frozen=True)
class Sources:
    """Where answers come from."""

    board: Board
    history: HistoryPool
    clock: Callable[[], datetime]


class NotThere(Exception):
    """There is no such thing, or it is not the viewer's: nobody learns which."""


class Unknown(Exception):
    """The key is no key that anything is known of."""


def routes(sources: Sources) -> list[Route]:
    """All endpoints."""
    api = _Api(sources)
    return [
        Route("/v1/openapi.json", _document),
        Route("/v1/budgets", _answering(api.budgets)),
        Route("/v1/accounts", _answering(api.accounts)),
        Route("/v1/spend", _answering(api.spend)),
        Route("/v1/events", _answering(api.events)),
        Route("/v1/refusals", _answering(api.refusals)),
        Route("/v1/refusals/{id}", _answering(api.refusal)),
        Route("/v1/me", _answering(api.me)),
    ]


def query_of(request: Request, now: datetime) -> PageQuery:
    """The parameters of a request."""
    return PageQuery(request.query_params.multi_items(), now)


def scope_of(request: Request) -> ViewScope:
    """What the viewer may see. The guard has let nobody without one get here."""
    scope: ViewScope = request.scope["viewer"].scope
    return scope


class _Api:
    def __init__(self, sources: Sources) -> None:
        self._board, self._history, self._clock = sources.board, sources.history, sources.clock

    async def budgets(self, request: Request) -> BudgetsPage:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow(PAGED)
        limit, after = query.limit(), query.after_name()
        left = [budget for budget in self._board.budgets(scope) if budget.id > after]
        shown = left[:limit]
        accounts: dict[str, list[Standing]] = defaultdict(list)
        for standing in self._board.select(Selection(scope)):
            accounts[standing.budget_id].append(standing)
        return BudgetsPage(
            budgets=[
                budget_view(
                    one,
                    one.limit_at(query.now),
                    accounts[one.id],
                    signed=bool(self._board.signer(one.id)),
                )
                for one in shown
            ],
            next=name_text(shown[-1].id) if len(left) > limit else None,
        )

    async def accounts(self, request: Request) -> AccountsPage:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*PAGED, "budget", "state", "search"))
        selection = Selection(scope, query.one("search"), query.state(), query.one("budget"))
        limit, after = query.limit(), query.after_name()
        # By name, which does not change: in the order of what is spent an account could be skipped.
        found = sorted(self._board.select(selection), key=lambda one: one.account)
        left = [one for one in found if one.account > after]
        shown = left[:limit]
        return AccountsPage(
            accounts=[account_view(one, self._board.names) for one in shown],
            next=name_text(shown[-1].account) if len(left) > limit else None,
        )

    async def spend(self, request: Request) -> SpendPage:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*PAGED, *SPAN, "by", *DIMENSIONS))
        span, by, filters, limit = (
            query.span(query.zone()),
            query.by(("team",)),
            query.filters(),
            query.limit(),
        )
        offset = _offset(query)
        rows = await self._history.ask(scope, lambda h: h.spend(span, by, filters, limit + 1, offset))
        total = await self._history.ask(scope, lambda h: h.totals(span, filters))
        names = [str(one) for one in by]
        return SpendPage(
            start=span.start,
            end=span.end,
            by=names,
            spend=[spend_view(row, names) for row in rows[:limit]],
            total=totals_view(total),
            next=name_text(str(offset + limit))
            if len(rows) > limit and offset + limit <= MAX_OFFSET
            else None,
        )

    async def events(self, request: Request) -> EventsPage:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*PAGED, *SPAN, *DIMENSIONS))
        span, filters, limit, after = query.span(query.zone()), query.filters(), query.limit(), query.after()
        rows = await self._history.ask(scope, lambda h: h.events(span, filters, limit + 1, after))
        last = rows[limit - 1] if len(rows) > limit else None
        return EventsPage(
            events=[event_view(row) for row in rows[:limit]],
            next=cursor_text(last.occurred_at, last.event_id) if last else None,
        )

    async def refusals(self, request: Request) -> RefusalsPage:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*PAGED, *SPAN, "budget"))
        span, limit, budget, after = (
            query.span(query.zone()),
            query.limit(),
            query.one("budget"),
            query.after(),
        )
        rows = await self._history.ask(scope, lambda h: h.refusals(span, limit + 1, budget, after))
        last = rows[limit - 1] if len(rows) > limit else None
        return RefusalsPage(
            refusals=[refusal_view(row) for row in rows[:limit]],
            next=cursor_text(last.decided_at, last.decision_id) if last else None,
        )

    async def refusal(self, request: Request) -> RefusalDetail:
        query_of(request, self._clock()).allow(())
        decision_id = uuid_of("id", request.path_params["id"])
        found = await self._history.ask(scope_of(request), lambda h: h.decision(decision_id))
        if found is None:
            raise NotThere(f"there is no refusal {decision_id}; it is here about a second after it was made")
        return refusal_detail(*found)

    async def me(self, request: Request) -> MeView:
        query_of(request, self._clock()).allow(())
        key = key_hash(request.headers.get("authorization", ""))
        now = self._clock()
        # Both sources are read for every key, so that timing does not show which keys exist.
        try:
            known = await self._history.ask(EVERYTHING, lambda h: h.subject_of_key(key, now))
        except (Unusable, HistoryBusy):
            known = None
        alias, subject = known or ("", Subject(key=key))
        standings = self._board.accounts_of_subject(subject)
        if known is None and not any("key" in one.subject and one.signalled_at for one in standings):
            named = any(budget.match.get("key") == key for budget in self._board.budgets(EVERYTHING))
            if not named:
                raise Unknown("nothing is known of this key: no request and no budget names it")
        return MeView(
            key_alias=alias or None, accounts=[account_view(one, self._board.names) for one in standings]
        )


def key_hash(authorization: str) -> str:
    """The hash under which LiteLLM, and so every event, knows the key in the header."""
    key = authorization.removeprefix(BEARER).strip() if authorization.startswith(BEARER) else ""
    if not key or len(key) > MAX_KEY_CHARS:
        raise Unknown("send the key that you call the gateway with: Authorization: Bearer sk-…")
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def problem(error: Exception) -> Response | None:
    """What a program is answered for an error that is no bug of ours."""
    match error:
        case InvalidParameter():
            return _problem(422, str(error), error.field)
        case NotThere():
            return _problem(404, str(error))
        case Unknown():
            return _problem(401, str(error))
        case Unusable():
            return _problem(503, f"history does not answer: {error}")
        case HistoryBusy():
            return _problem(503, str(error))
    return None


def _answering(endpoint: _Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            found = await endpoint(request)
        except Exception as error:
            answered = problem(error)
            if answered is None:
                raise
            return answered
        return Response(found.model_dump_json(), media_type="application/json")

    return answer


async def _document(request: Request) -> Response:
    return JSONResponse(document())


def _offset(query: PageQuery) -> int:
    value = query.after_name()
    if not value:
        return 0
    if not (value.isascii() and value.isdecimal() and len(value) <= 6 and int(value) <= MAX_OFFSET):
        raise InvalidParameter("after", "it is no `next` of an answer; leave it out to begin")
    return int(value)


def _problem(status: int, error: str, field: str | None = None) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    body = ApiProblem(error=error, field=field).model_dump_json(exclude_none=True)
    return Response(body, status, headers, media_type="application/json")
