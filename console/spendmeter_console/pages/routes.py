"""The pages, and what keeps them fresh."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from spendmeter.contract.money import format_usd
from spendmeter.contract.signal import State
from spendmeter.contract.signing import shown as shown_by
from spendmeter.values.dimensions import DIMENSIONS, Dimension
from spendmeter_console.access.guard import ME, SIGN_IN, cookie_name, cookies, set_session
from spendmeter_console.access.people import People
from spendmeter_console.access.rates import bucket_of
from spendmeter_console.access.sessions import Sessions
from spendmeter_console.api.parameters import (
    MAX_OFFSET,
    RANGES,
    UTC_ZONE,
    InvalidParameter,
    cursor_text,
    uuid_of,
    zone_of,
)
from spendmeter_console.api.routes import NotThere, Sources, query_of, scope_of
from spendmeter_console.history.pool import HistoryBusy, Unusable
from spendmeter_console.history.queries import MAX_ROWS
from spendmeter_console.history.rows import Cursor, DeadLetterCount, EventRow, TopicAge
from spendmeter_console.history.spans import Interval, InvalidSpan, TimeSpan, midnight, month_start
from spendmeter_console.live.board import Selection
from spendmeter_console.live.standing import Standing, closest_first
from spendmeter_console.pages import charts, figures
from spendmeter_console.pages.health import MetricsPages
from spendmeter_console.pages.render import account_label, environment, moment, money, segment, until
from spendmeter_console.pages.sheets import EVENT_HEAD, csv_lines, event_cells
from spendmeter_console.settings import ConsoleSettings
from spendmeter_console.viewer import Viewer
from spendmeter_sinks.explain.command import is_right

STATIC = Path(__file__).parent / "static"
MAX_FORM_BYTES = 4_096
MAX_FOLLOWERS = 500
MAX_FOLLOWERS_OF_ONE = 20
PAUSE_SECONDS = 0.25
"""Between two messages to one reader, so that a burst is one."""
ALIVE_SECONDS = 15.0
ROWS = 100
MAX_ROWS_AT_ONCE = 200
RUNS_OUT_NEXT = 8
MAX_CSV_ROWS = 100_000
_SPAN = ("from", "to", "range", "zone")
_ENV = environment()
_Endpoint = Callable[[Request], Awaitable[Response]]


def routes(
    sources: Sources, settings: ConsoleSettings, people: People, sessions: Sessions, metrics: MetricsPages
) -> list[BaseRoute]:
    """Every page."""
    pages = Pages(sources, settings, people, sessions, metrics)
    return [
        Route("/", _page(pages.overview)),
        Route("/budgets", _page(pages.budgets)),
        Route("/budgets/rows", _page(pages.budget_rows)),
        Route("/budgets/{id:path}", _page(pages.budget)),
        Route("/explore", _page(pages.explore)),
        Route("/explore.csv", _page(pages.explore_csv)),
        Route("/events", _page(pages.events)),
        Route("/events.csv", _page(pages.events_csv)),
        Route("/refusals", _page(pages.refusals)),
        Route("/refusals/{id}", _page(pages.refusal)),
        Route("/alerts", _page(pages.alerts)),
        Route("/prices", _page(pages.prices)),
        Route("/health", _page(pages.health)),
        Route("/me", _page(pages.me)),
        Route("/live", _page(pages.live)),
        Route(SIGN_IN, _page(pages.sign_in), methods=["GET", "POST"]),
        Route("/sign-out", _page(pages.sign_out), methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


class Pages:
    """Each method answers one address."""

    def __init__(
        self,
        sources: Sources,
        settings: ConsoleSettings,
        people: People,
        sessions: Sessions,
        metrics: MetricsPages,
    ) -> None:
        self._board, self._history, self._clock = sources.board, sources.history, sources.clock
        self._settings, self._people, self._sessions = settings, people, sessions
        self._metrics = metrics
        self._followers: Counter[str] = Counter()

    async def overview(self, request: Request) -> Response:
        scope, zone, now = scope_of(request), zone_in(request), self._clock()
        missing, past, present = "", None, None
        try:
            past = await self._history.ask(
                scope, lambda h: figures.past(h, now, zone), ("past", zone.key, f"{now:%j%H}"), 60
            )
            present = await self._history.ask(
                scope, lambda h: figures.present(h, now, zone), ("present", zone.key), 0.5
            )
        except (Unusable, HistoryBusy) as error:
            missing = str(error)
        standings = self._board.select(Selection(scope))
        return _rendered(
            request,
            "overview.html",
            now,
            past=past,
            present=present,
            missing=missing,
            month_left=_month_left(now, zone),
            next_out=_runs_out_next(standings),
            states=Counter(str(one.state) for one in standings),
            names=self._board.names,
            silent=self._board.silent_seconds,
        )

    async def budgets(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow(("search", "state", "budget"))
        selection = Selection(scope, query.one("search"), query.state(), query.one("budget"))
        found = self._board.select(selection)
        return _rendered(
            request,
            "budgets.html",
            query.now,
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
        query.allow(("account",))
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
        return _rendered(
            request,
            "budget.html",
            query.now,
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

    async def explore(self, request: Request) -> Response:
        query = query_of(request, self._clock())
        query.allow((*_SPAN, "by", "interval", "first", "filter_by", "filter_value", *DIMENSIONS))
        if query.one("filter_by"):
            # The form cannot name a field after what is chosen in another.
            dimension = query.dimension("filter_by", query.one("filter_by"))
            kept = [
                (name, value)
                for name, value in query.pairs
                if name not in ("filter_by", "filter_value", dimension) and (value or name in DIMENSIONS)
            ]
            return RedirectResponse(
                _address("/explore", [*kept, (dimension, query.one("filter_value"))]), 303
            )
        zone = query.zone(zone_in(request))
        span, by, filters = query.span(zone, "7d"), query.by(("team",)), query.filters()
        interval, first = query.interval(span), query.whole("first", 0, 0, MAX_OFFSET)
        found = await self._ask_exploring(request, span, interval, zone, by, filters, first)
        kept = [pair for pair in query.pairs if (pair[1] and pair[0] != "first") or pair[0] in filters]
        return _rendered(
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
            next=_address("/explore", [*kept, ("first", str(first + ROWS))]),
            csv=_address("/explore.csv", kept),
            narrowed=lambda row: _narrowed(kept, by, row.values),
            events=lambda row: _events_of(kept, by, row.values),
            without=lambda one: _address("/explore", [(n, v) for n, v in kept if n != one]),
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
    ) -> figures.Exploration:
        try:
            return await self._history.ask(
                scope_of(request),
                lambda h: figures.explore(h, span, interval, zone, by, filters, ROWS, first),
            )
        except InvalidSpan as invalid:
            raise InvalidParameter("interval", str(invalid)) from None

    async def explore_csv(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*_SPAN, "by", "interval", "filter_by", "filter_value", *DIMENSIONS))
        zone = query.zone(zone_in(request))
        span, by, filters = query.span(zone, "7d"), query.by(("team",)), query.filters()
        rows = await self._history.ask(scope, lambda h: h.spend(span, by, filters, MAX_CSV_ROWS))
        alias = ["key_alias"] if "key" in by else []
        head = [*by, *alias, "spent_usd", "requests", "input_tokens", "output_tokens", "unpriced"]

        def lines() -> Iterable[list[Any]]:
            for row in rows:
                called = [row.labels[by.index("key")]] if alias else []
                yield [*row.values, *called, format_usd(row.spent_nanousd), *row[3:]]

        return Response(csv_lines([head, *lines()]), headers=_csv_headers("spend"), media_type="text/csv")

    async def events(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*_SPAN, "after", *DIMENSIONS))
        zone = query.zone(zone_in(request))
        span, filters, after = query.span(zone, "7d"), query.filters(), query.after()
        rows = await self._history.ask(scope, lambda h: h.events(span, filters, ROWS + 1, after))
        kept = [(name, value) for name, value in query.pairs if name != "after"]
        last = rows[ROWS - 1] if len(rows) > ROWS else None
        return _rendered(
            request,
            "events.html",
            query.now,
            rows=rows[:ROWS],
            span=span,
            filters=filters,
            next=_address("/events", [*kept, ("after", cursor_text(last.occurred_at, last.event_id))])
            if last
            else "",
            csv=_address("/events.csv", kept),
            explore=_address("/explore", kept),
            is_first=after is None,
        )

    async def events_csv(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*_SPAN, *DIMENSIONS))
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

        return StreamingResponse(written(), headers=_csv_headers("events"), media_type="text/csv")

    async def refusals(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*_SPAN, "after", "budget"))
        span, after = query.span(query.zone(zone_in(request)), "7d"), query.after()
        budget = query.one("budget")
        rows = await self._history.ask(scope, lambda h: h.refusals(span, ROWS + 1, budget, after))
        counts = await self._history.ask(scope, lambda h: h.count_refusals(span))
        last = rows[ROWS - 1] if len(rows) > ROWS else None
        kept = [(name, value) for name, value in query.pairs if name != "after"]
        return _rendered(
            request,
            "refusals.html",
            query.now,
            rows=rows[:ROWS],
            counts=counts,
            budget=budget,
            range=query.one("range") or "7d",
            ranges=RANGES,
            next=_address("/refusals", [*kept, ("after", cursor_text(last.decided_at, last.decision_id))])
            if last
            else "",
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
        return _rendered(
            request,
            "refusal.html",
            self._clock(),
            decision=decision,
            evidence=evidence,
            right=is_right(decision, evidence),
            names=self._board.names,
        )

    async def alerts(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow((*_SPAN, "after"))
        span, after = query.span(query.zone(zone_in(request)), "7d"), query.after()
        rows = await self._history.ask(scope, lambda h: h.alerts(span, ROWS + 1, "", after))
        last = rows[ROWS - 1] if len(rows) > ROWS else None
        kept = [(name, value) for name, value in query.pairs if name != "after"]
        return _rendered(
            request,
            "alerts.html",
            query.now,
            rows=rows[:ROWS],
            range=query.one("range") or "7d",
            ranges=RANGES,
            next=_address("/alerts", [*kept, ("after", cursor_text(last.emitted_at, last.alert_id))])
            if last
            else "",
        )

    async def prices(self, request: Request) -> Response:
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow(_SPAN)
        span = query.span(query.zone(zone_in(request)), "30d")
        rows = await self._history.ask(scope, lambda h: h.doubted(span))
        return _rendered(
            request,
            "prices.html",
            query.now,
            unpriced=[row for row in rows if row.why == "unpriced"],
            doubted=[row for row in rows if row.why != "unpriced"],
            range=query.one("range") or "30d",
            ranges=RANGES,
        )

    async def health(self, request: Request) -> Response:
        scope, now = scope_of(request), self._clock()
        if not scope.is_everything:
            raise NotThere("the health of the system is for who may see all of it")
        missing = ""
        ages: list[TopicAge] = []
        unreadable: list[DeadLetterCount] = []
        began = time.monotonic()
        try:
            ages, unreadable = await self._history.ask(scope, lambda h: h.health(), "health", 2)
        except (Unusable, HistoryBusy) as error:
            missing = str(error)
        return _rendered(
            request,
            "health.html",
            now,
            missing=missing,
            ages=ages,
            unreadable=unreadable,
            took_ms=round((time.monotonic() - began) * 1000),
            processes=await self._metrics.read(),
            silent=self._board.silent_seconds,
            caught_up=self._board.caught_up.is_set(),
            accounts=len(self._board.select(Selection(scope))),
            budgets=len(self._board.budgets(scope)),
        )

    async def me(self, request: Request) -> Response:
        return _rendered(request, "me.html", self._clock(), endpoint=ME)

    async def live(self, request: Request) -> Response:
        """A message whenever something has changed of what the viewer may see."""
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow(("budget",))
        budget_id = query.one("budget")
        if budget_id and self._board.budget(scope, budget_id) is None:
            raise NotThere("no budget of this name is in force, or it is not yours to see")
        follower = bucket_of(request.scope["client_address"])
        if self._followers.total() >= MAX_FOLLOWERS or self._followers[follower] >= MAX_FOLLOWERS_OF_ONE:
            return PlainTextResponse("too many pages are open; this one is as of when it was loaded\n", 503)

        async def messages() -> AsyncIterator[bytes]:
            self._followers[follower] += 1
            try:
                edition = self._board.edition(scope, budget_id)
                yield b"retry: 2000\nevent: begun\ndata: \n\n"
                while True:
                    try:
                        async with asyncio.timeout(ALIVE_SECONDS):
                            edition = await self._board.wait_changed(scope, edition, budget_id)
                    except TimeoutError:
                        yield b": alive\n\n"
                        continue
                    yield f"event: changed\ndata: {edition}\n\n".encode()
                    await asyncio.sleep(PAUSE_SECONDS)
            finally:
                self._followers[follower] -= 1
                if not self._followers[follower]:
                    del self._followers[follower]

        return StreamingResponse(
            messages(), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    async def sign_in(self, request: Request) -> Response:
        onward = _own_path(request.query_params.get("next", "/"))
        if request.scope["viewer"] is not None:
            return RedirectResponse(onward, 303)
        if request.method == "GET":
            return _rendered(request, "sign_in.html", self._clock(), wrong="", onward=onward)
        person = self._people.by_token((await _form(request)).get("token", "").strip())
        if person is None:
            return _rendered(
                request,
                "sign_in.html",
                self._clock(),
                status=401,
                wrong="nobody has this token; check that all of it was copied",
                onward=onward,
            )
        response = RedirectResponse(onward, 303)
        set_session(response, self._settings, self._sessions.begin(person))
        return response

    async def sign_out(self, request: Request) -> Response:
        for session_id in cookies(request.headers, cookie_name(self._settings)):
            self._sessions.end(session_id)
        response = RedirectResponse(SIGN_IN, 303)
        response.delete_cookie(cookie_name(self._settings), path="/", secure=self._settings.is_https)
        return response


def zone_in(request: Request) -> ZoneInfo:
    """The reader's zone, which their browser keeps in a cookie; UTC where it says none."""
    for value in cookies(request.headers, "spendmeter_zone"):
        try:
            return zone_of("zone", value)
        except InvalidParameter:
            continue
    return UTC_ZONE


def _page(endpoint: _Endpoint) -> _Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except InvalidParameter as error:
            return _failed(request, 422, "This question cannot be", str(error))
        except NotThere as error:
            return _failed(request, 404, "Not here", str(error))
        except (Unusable, HistoryBusy) as error:
            return _failed(
                request,
                503,
                "History does not answer",
                f"{error}. Budgets and what is left of them are live all the same.",
            )

    return answer


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _failed(request, status, HTTPStatus(status).phrase, "there is nothing at this address")


async def _broken(request: Request, error: Exception) -> Response:
    return _failed(request, 500, "This is a bug of ours", "the page could not be made; the log says why")


ERRORS: Mapping[Any, Any] = {HTTPException: _not_found, Exception: _broken}
"""By what was raised: what is answered."""


def _failed(request: Request, status: int, title: str, sentence: str) -> Response:
    if request.url.path.startswith("/v1/"):
        return Response(json.dumps({"error": sentence}), status, media_type="application/json")
    return _rendered(
        request, "error.html", datetime.now().astimezone(), status=status, title=title, sentence=sentence
    )


def _rendered(request: Request, template: str, now: datetime, status: int = 200, **values: Any) -> Response:
    zone = zone_in(request)
    viewer: Viewer | None = request.scope.get("viewer")
    text = _ENV.get_template(template).render(
        **values,
        viewer=viewer,
        path=request.url.path,
        now=now,
        zone=zone.key,
        at=lambda time, form="": moment(time, zone, now, form),
        until=lambda time: until(time, now),
    )
    return Response(text, status, media_type="text/html")


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
        "share": round(min(one.share, 99.99), 4),
        "state": str(one.state),
        "refuses": one.refuses,
        "paused": one.paused,
        "opening": one.is_counting,
        "resets": until(one.window.end, now) if one.window.end else "never",
        "resets_at": one.window.end.isoformat() if one.window.end else "",
        "out": until(one.runs_out_at, now) if one.runs_out_at else "",
    }


def _runs_out_next(standings: list[Standing]) -> list[Standing]:
    """Whoever reaches their limit first at the rate of late; then whoever is closest to it."""
    soon = sorted(
        (one for one in standings if one.runs_out_at is not None and one.state is not State.EXCEEDED),
        key=lambda one: (one.runs_out_at, one.account),
    )
    others = [one for one in standings if one.runs_out_at is None and one.share > 0]
    return [*soon, *sorted(others[:RUNS_OUT_NEXT], key=closest_first)][:RUNS_OUT_NEXT]


def _month_left(now: datetime, zone: ZoneInfo) -> float:
    """How many days of the month are left after today."""
    return (month_start(now, zone, 1) - midnight(now, zone, 1)) / timedelta(days=1)


def _address(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    return f"{path}?{query}" if query else path


def _narrowed(kept: list[tuple[str, str]], by: list[Dimension], values: tuple[str, ...]) -> str:
    """The same question of one row alone, by the next dimensions that say something."""
    fixed = dict(zip(by, values, strict=True))
    known = {name for name, _ in kept}
    onward = [one for one in ("model", "key", "team", "user") if one not in fixed and one not in known][:2]
    pairs = [(name, value) for name, value in kept if name not in ("by", *fixed)]
    return _address("/explore", [*pairs, *fixed.items(), *(("by", one) for one in onward)])


def _events_of(kept: list[tuple[str, str]], by: list[Dimension], values: tuple[str, ...]) -> str:
    fixed = dict(zip(by, values, strict=True))
    pairs = [(name, value) for name, value in kept if name not in ("by", "interval", *fixed)]
    return _address("/events", [*pairs, *fixed.items()])


def _own_path(value: str) -> str:
    """Where to go on after a sign-in: a path of this page, whatever the link says."""
    is_path = value.startswith("/") and not value.startswith(("//", "/\\")) and value.isprintable()
    return value if is_path and "\\" not in value else "/"


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise InvalidParameter("token", "this form is too long; send the token alone")
    return dict(parse_qsl(body.decode("utf-8", "replace")))


def _csv_headers(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}.csv"'}
