"""Forms that change a budget: what is wanted, what it would do, and, confirmed, the change."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from spendmeter.budgets.change import InvalidChange
from spendmeter.budgets.file import InvalidBudgetFile
from spendmeter.client import InvalidReplaces, NoSuchBudget, SpendmeterClient, StaleBudget
from spendmeter.contract.budget import Action, Budget, Enforcement
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.records import render_validation_error
from spendmeter.domain.window import window_of
from spendmeter.files.scalars import Wrong, limit
from spendmeter.values.dimensions import DIMENSIONS
from spendmeter.values.period import NAMED_PERIODS
from spendmeter.values.times import TimeSpan, format_time, parse_time
from spendmeter_console.access.forms import FormTokens, InvalidForm
from spendmeter_console.access.guard import BUDGETS, NEW_BUDGET
from spendmeter_console.api.parameters import InvalidParameter
from spendmeter_console.api.routes import NotThere, Sources, query_of, scope_of
from spendmeter_console.changes.desk import AnotherChange, ChangeDesk, ChangeUncertain, TooManyChanges
from spendmeter_console.changes.preview import (
    AccountSpend,
    ChangeEffect,
    account_of,
    counted_by,
    effect,
    effect_of_new,
)
from spendmeter_console.changes.wanted import ChangeKind, WantedChange, changed, new_budget
from spendmeter_console.history.pool import HistoryBusy, Unusable
from spendmeter_console.history.spans import MAX_SPAN
from spendmeter_console.live.board import Selection
from spendmeter_console.pages.answer import page, rendered, zone_in
from spendmeter_console.pages.render import link, money, segment
from spendmeter_console.settings import ConsoleSettings
from spendmeter_console.viewer import EVERYTHING, Viewer

MAX_FORM_BYTES = 32_768
MAX_FIELDS = 30
SHOWN_ACCOUNTS = 20
MAX_ACCOUNTS_OF_NEW = 1_000
MATCH_ROWS = 3
SPANS = {
    "1h": ("1 hour", timedelta(hours=1)),
    "4h": ("4 hours", timedelta(hours=4)),
    "1d": ("1 day", timedelta(days=1)),
    "1w": ("1 week", timedelta(weeks=1)),
}
WINDOW = "window"
"""The raise ends with the present window."""
TITLES = {
    ChangeKind.RAISE: "Raise {} for a while",
    ChangeKind.LIMIT: "Set the limit of {}",
    ChangeKind.RESET: "Reset {}",
    ChangeKind.PAUSE: "Pause {}",
    ChangeKind.RESUME: "Resume {}",
    ChangeKind.REMOVE: "Remove {}",
}
_FIELDS = ("usd", "for", "until")
_WRITTEN = ("id", "limit_usd", "period", "timezone", "action", "enforcement", "replaces")
"""Fields of a new budget that go into it as they are written."""
_NEW_FIELDS = (
    *_WRITTEN,
    "warn_at",
    *(f"{name}{number}" for number in range(1, MATCH_ROWS + 1) for name in ("by", "is")),
)


class NotAllowed(Exception):
    """This person may not do this; the message says who may."""


_STATUS: dict[type[Exception], int] = {
    InvalidForm: 403,
    NotAllowed: 403,
    StaleBudget: 409,
    AnotherChange: 409,
    InvalidParameter: 422,
    InvalidChange: 422,
    InvalidReplaces: 422,
    InvalidBudgetFile: 422,
    ValidationError: 422,
    ChangeUncertain: 503,
    TooManyChanges: 503,
}
"""By what kept a change from being made: the status of the fresh form."""


class _ChangeRoute(Route):
    """`/budgets/{id}/{kind}` as it was sent: an id may hold a slash itself, which comes escaped."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and (found := _named_in(scope)) is not None:
            budget_id, kind = found
            child = {"endpoint": self.endpoint, "path_params": {"id": budget_id, "kind": kind}}
            is_answered = scope["method"] in (self.methods or ())
            return (Match.FULL if is_answered else Match.PARTIAL), child
        return Match.NONE, {}


def _named_in(scope: Scope) -> tuple[str, ChangeKind] | None:
    raw = (scope.get("raw_path") or b"").decode("latin-1")
    before, _, last = raw.rpartition("/")
    if not before.startswith(f"{BUDGETS}/") or last not in [*ChangeKind]:
        return None
    return unquote(before.removeprefix(f"{BUDGETS}/")), ChangeKind(last)


class _Question(NamedTuple):
    """What a form asks for, as it was written, and as it was understood."""

    fields: dict[str, str]
    wanted: WantedChange | None = None
    """None while something is missing or wrong."""
    wrong: str = ""
    field: str = ""
    """Which one is wrong."""


class ChangePages:
    """Each kind of change has a page: GET is its form and what it would do, POST does it."""

    def __init__(
        self, sources: Sources, settings: ConsoleSettings, desk: ChangeDesk, tokens: FormTokens
    ) -> None:
        self._board, self._history, self._clock = sources.board, sources.history, sources.clock
        self._settings, self._desk, self._tokens = settings, desk, tokens

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [
            _ChangeRoute(f"{BUDGETS}/{{id:path}}/{{kind}}", page(self.change), methods=["GET", "POST"]),
            Route(NEW_BUDGET, page(self.create), methods=["GET", "POST"]),
        ]

    async def change(self, request: Request) -> Response:
        kind: ChangeKind = request.path_params["kind"]
        try:
            if request.method == "POST":
                return await self._confirmed(request, kind)
            budget, query = self._changeable(request), query_of(request, self._clock())
            query.allow(_FIELDS)
            given = {name: query.one(name) for name in _FIELDS}
            return self._form(request, budget, kind, self._question(kind, given, budget, zone_in(request)))
        except NotAllowed as error:
            return self._refused(request, str(error))

    async def create(self, request: Request) -> Response:
        viewer: Viewer = request.scope["viewer"]
        try:
            self._allow(viewer)
        except NotAllowed as error:
            return self._refused(request, str(error))
        if request.method == "POST":
            return await self._created(request, viewer)
        query = query_of(request, self._clock())
        query.allow(_NEW_FIELDS)
        given = {name: query.one(name) for name in _NEW_FIELDS}
        return await self._new_form(request, viewer, given if query.pairs else {})

    def _allow(self, viewer: Viewer) -> None:
        if not self._settings.web_changes:
            raise NotAllowed(
                "This page changes nothing: SPENDMETER_WEB_CHANGES is off. The command line does:"
                " spendmeter budget"
            )
        if not viewer.is_editor:
            raise NotAllowed("Only editors change budgets; the file of people says who is one")

    def _changeable(self, request: Request) -> Budget:
        viewer: Viewer = request.scope["viewer"]
        budget = self._board.budget(viewer.scope, request.path_params["id"])
        if budget is None:
            raise NotThere("no budget of this name is in force, or it is not yours to see")
        self._allow(viewer)
        if not viewer.may_change(budget.match):
            raise NotAllowed("This budget counts other teams, too; who sees all of them changes it")
        return budget

    def _question(self, kind: ChangeKind, given: dict[str, str], budget: Budget, zone: ZoneInfo) -> _Question:
        now = self._clock()
        try:
            wanted = _wanted(kind, given, budget, zone, now)
            if wanted is not None:
                changed(budget, wanted, now)
        except InvalidParameter as error:
            return _Question(given, wrong=_sentence(error), field=error.field)
        except (InvalidChange, ValidationError) as error:
            return _Question(given, wrong=_sentence(error))
        return _Question(given, wanted)

    def _form(
        self, request: Request, budget: Budget, kind: ChangeKind, question: _Question, status: int = 200
    ) -> Response:
        viewer: Viewer = request.scope["viewer"]
        now, wanted = self._clock(), question.wanted
        standings = self._board.select(Selection(viewer.scope, budget_id=budget.id))
        found = effect(standings, budget, changed(budget, wanted, now), now) if wanted else None
        window = window_of(budget, now)
        return rendered(
            request,
            "change.html",
            now,
            422 if question.wrong and status == 200 else status,
            title=TITLES[kind],
            kind=str(kind),
            budget=budget,
            limit=budget.limit_at(now),
            action=_address(budget.id, kind),
            fields=question.fields,
            wrong=question.wrong,
            wrong_field=question.field,
            spans={name: label for name, (label, _) in SPANS.items()}
            | ({WINDOW: "the present window"} if window is not None and window.end is not None else {}),
            wanted=wanted,
            until_text=format_time(wanted.until) if wanted and wanted.until else "",
            usd_text=format_usd(wanted.amount_nanousd) if wanted and wanted.amount_nanousd else "",
            token=self._tokens.issue(viewer.holder) if wanted else "",
            **self._shown(found),
        )

    def _shown(self, found: ChangeEffect | None) -> dict[str, Any]:
        return {
            "effect": found,
            "shown_accounts": SHOWN_ACCOUNTS,
            "signs": self._desk.signs,
            "names": self._board.names,
        }

    async def _confirmed(self, request: Request, kind: ChangeKind) -> Response:
        viewer: Viewer = request.scope["viewer"]
        budget_id, sent = request.path_params["id"], await _read_form(request)
        given = {name: sent.get(name, "") for name in _FIELDS}

        async def work(client: SpendmeterClient) -> str:
            budget, now = self._changeable(request), self._clock()
            wanted = _wanted(kind, given, budget, zone_in(request), now)
            if wanted is None:
                raise InvalidChange("fill in how much, and until when")
            revision = _revision(sent)
            try:
                if kind is ChangeKind.REMOVE:
                    await client.remove(budget_id, revision)
                else:
                    await client.change(budget_id, lambda known: _in_force(known, wanted, now), revision)
            except NoSuchBudget as error:
                raise NotThere(str(error)) from None
            return _done_sentence(budget_id, wanted)

        try:
            form = self._tokens.accept(viewer.holder, sent.get("token", ""))
            content = f"{kind} {budget_id} {' '.join(given.values())} on revision {sent.get('revision', '')}"
            await self._desk.carry_out(form, content, viewer.name, work)
        except tuple(_STATUS) as error:
            return self._again(request, kind, given, error)
        path = BUDGETS if kind is ChangeKind.REMOVE else f"{BUDGETS}/{segment(budget_id)}"
        return RedirectResponse(link(path, ("done", form.nonce)), 303)

    def _again(self, request: Request, kind: ChangeKind, given: dict[str, str], error: Exception) -> Response:
        """A fresh form, over the budget as it is now, with what kept the change from being made."""
        budget = self._changeable(request)
        question = self._question(kind, given, budget, zone_in(request))
        said = _changed_meanwhile(budget) if isinstance(error, StaleBudget) else _sentence(error)
        field = error.field if isinstance(error, InvalidParameter) else question.field
        return self._form(
            request, budget, kind, question._replace(wrong=said, field=field), _STATUS[type(error)]
        )

    async def _new_form(
        self,
        request: Request,
        viewer: Viewer,
        given: dict[str, str],
        wrong: str = "",
        status: int = 200,
    ) -> Response:
        budget, found, missing = None, None, ""
        if given:
            try:
                budget = self._made(viewer, given)
            except (InvalidBudgetFile, InvalidChange, NotAllowed) as error:
                wrong = wrong or _sentence(error)
                status = 422 if status == 200 else status
        if budget is not None:
            try:
                found = await self._effect_of_new(request, budget)
            except (Unusable, HistoryBusy) as error:
                missing = str(error)
        return rendered(
            request,
            "new_budget.html",
            self._clock(),
            status,
            fields=given,
            wrong=wrong,
            missing=missing,
            made=budget,
            dimensions=DIMENSIONS,
            rows=range(1, MATCH_ROWS + 1),
            periods=NAMED_PERIODS,
            actions=[*Action],
            enforcements=[*Enforcement],
            replaceable=[one.id for one in self._board.budgets(viewer.scope)[:1_000]]
            if viewer.scope.is_everything
            else [],
            token=self._tokens.issue(viewer.holder) if budget is not None else "",
            **self._shown(found),
        )

    def _made(self, viewer: Viewer, given: Mapping[str, str]) -> Budget:
        if given["replaces"] and not viewer.scope.is_everything:
            raise NotAllowed("What your budget would replace may be others'; leave it out")
        match = dict(self._match(viewer, given))
        warn_at = [part.strip() for part in given["warn_at"].split(",") if part.strip()]
        named: dict[str, object] = {name: given[name] for name in _WRITTEN if given[name]}
        budget = new_budget(named | {"match": match, "warn_at": warn_at}, self._clock())
        if not viewer.may_change(budget.match):
            teams = ", ".join(sorted(viewer.scope.teams or ()))
            raise NotAllowed(f"Your budgets name one of your teams ({teams}) as their team")
        if self._board.budget(EVERYTHING, budget.id) is not None:
            raise InvalidChange(f"there is a budget {budget.id} already; change that, or choose another id")
        return budget

    def _match(self, viewer: Viewer, given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        seen = set()
        for number in range(1, MATCH_ROWS + 1):
            dimension, value = given[f"by{number}"], given[f"is{number}"]
            if not dimension:
                if value:
                    raise InvalidChange(f"{value[:50]!r} is of no dimension; choose one beside it")
                continue
            if dimension in seen:
                raise InvalidChange(f"{dimension} is chosen twice; keep one")
            seen.add(dimension)
            yield dimension, self._key_of(viewer, value) if dimension == "key" else value

    def _key_of(self, viewer: Viewer, value: str) -> str:
        """The hash of the key that people call so; what is no alias of one key stays."""
        found = [key for key, alias in self._board.names.items() if alias == value]
        if len(found) > 1:
            raise InvalidChange(f"{len(found)} keys are called {value[:50]!r}; give the hash of one")
        return found[0] if found and viewer.scope.is_everything else value

    async def _effect_of_new(self, request: Request, budget: Budget) -> ChangeEffect | None:
        now = self._clock()
        window, counted = window_of(budget, now), counted_by(budget)
        if window is None or counted is None:
            return None
        by, filters = counted
        span = TimeSpan(max(window.start, now - MAX_SPAN + timedelta(minutes=1)), now + timedelta(minutes=1))
        rows = await self._history.ask(
            scope_of(request), lambda h: h.spend(span, by, filters, MAX_ACCOUNTS_OF_NEW)
        )
        spent = [
            AccountSpend(account, row.spent_nanousd)
            for row in rows
            if (account := account_of(budget, by, row.values)) is not None
        ]
        return effect_of_new(budget, spent, now)

    async def _created(self, request: Request, viewer: Viewer) -> Response:
        sent = await _read_form(request)
        given = {name: sent.get(name, "") for name in _NEW_FIELDS}

        async def work(client: SpendmeterClient) -> str:
            made = await client.create(self._made(viewer, given))
            return f"{made.id} is in force: {money(made.limit_nanousd)} per {made.period}."

        try:
            form = self._tokens.accept(viewer.holder, sent.get("token", ""))
            content = f"new {' '.join(f'{name}={value}' for name, value in given.items() if value)}"
            await self._desk.carry_out(form, content, viewer.name, work)
        except tuple(_STATUS) as error:
            return await self._new_form(request, viewer, given, _sentence(error), _STATUS[type(error)])
        return RedirectResponse(link(f"{BUDGETS}/{segment(given['id'])}", ("done", form.nonce)), 303)

    def _refused(self, request: Request, sentence: str) -> Response:
        return rendered(
            request,
            "error.html",
            self._clock(),
            status=403,
            title="Not yours to change",
            sentence=sentence,
        )


def _wanted(
    kind: ChangeKind, given: Mapping[str, str], budget: Budget, zone: ZoneInfo, now: datetime
) -> WantedChange | None:
    """The change that is written there; None while what it needs is missing. Raises InvalidParameter."""
    if kind not in (ChangeKind.RAISE, ChangeKind.LIMIT):
        return WantedChange(kind)
    amount = _amount(given["usd"]) if given["usd"] else None
    if kind is ChangeKind.LIMIT:
        return WantedChange(kind, amount) if amount is not None else None
    until = _until(given, budget, zone, now)
    return WantedChange(kind, amount, until) if amount is not None and until is not None else None


def _amount(written: str) -> NanoUsd:
    try:
        return limit(written.strip().removeprefix("$"))
    except Wrong as wrong:
        raise InvalidParameter("usd", str(wrong)) from None


def _until(given: Mapping[str, str], budget: Budget, zone: ZoneInfo, now: datetime) -> datetime | None:
    """When a raise ends: the moment that is written, in the reader's zone, else after the chosen span."""
    if given["until"]:
        try:
            found = datetime.fromisoformat(given["until"])
            return parse_time((found if found.tzinfo else found.replace(tzinfo=zone)).isoformat())
        except ValueError:
            raise InvalidParameter(
                "until", f"{given['until'][:50]!r} is no time such as 2026-11-30T18:00"
            ) from None
    if not given["for"]:
        return None
    if given["for"] == WINDOW:
        window = window_of(budget, now)
        if window is None or window.end is None:
            raise InvalidParameter("for", "this budget's window has no end; choose a span")
        return window.end
    if given["for"] not in SPANS:
        raise InvalidParameter("for", f"{given['for'][:50]!r} is no span; choose one of the list")
    return (now + SPANS[given["for"]][1]).replace(microsecond=0)


def _in_force(budget: Budget, wanted: WantedChange, now: datetime) -> Budget:
    found = changed(budget, wanted, now)
    assert found is not None, "a removal is no record"
    return found


def _revision(sent: Mapping[str, str]) -> int:
    written = sent.get("revision", "")
    if not (written.isascii() and written.isdecimal() and len(written) <= 19):
        raise InvalidForm("this form does not say of which revision it is; here is a fresh one")
    return int(written)


def _sentence(error: Exception) -> str:
    match error:
        case InvalidBudgetFile():
            return "; ".join(problem.message for problem in error.problems)
        case ValidationError():
            return render_validation_error(error)
        case InvalidParameter():
            return str(error).partition(": ")[2]
    return str(error)


def _changed_meanwhile(budget: Budget) -> str:
    by = f" by {budget.updated_by}" if budget.updated_by else ""
    return (
        f"{budget.id} was changed{by} since you opened this form, and your change was not made."
        " This is the budget as it is now; confirm again if you still want it"
    )


def _done_sentence(budget_id: str, wanted: WantedChange) -> str:
    match wanted.kind:
        case ChangeKind.RAISE:
            return f"{budget_id} is raised by {money(wanted.amount_nanousd)}."
        case ChangeKind.LIMIT:
            return f"The limit of {budget_id} is {money(wanted.amount_nanousd)}."
        case ChangeKind.RESET:
            return f"{budget_id} begins anew: what was spent before no longer counts."
        case ChangeKind.PAUSE:
            return f"{budget_id} is paused: it refuses nothing, and still counts."
        case ChangeKind.RESUME:
            return f"{budget_id} is in force again."
        case ChangeKind.REMOVE:
            return f"{budget_id} is removed."


def _address(budget_id: str, kind: ChangeKind) -> str:
    return f"{BUDGETS}/{segment(budget_id)}/{kind}"


async def _read_form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises InvalidParameter: it is too long, or has a field twice."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise InvalidParameter("form", "it is too long; send what the form has")
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidParameter("form", f"it has more than {MAX_FIELDS} fields") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise InvalidParameter("form", "a field is given twice; keep one")
    return fields
