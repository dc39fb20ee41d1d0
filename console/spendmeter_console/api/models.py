"""What `/v1` answers. Money is a decimal string of USD, exact to the nano-dollar; times are RFC 3339, UTC."""

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from spendmeter.contract.budget import Budget
from spendmeter.contract.decision import Decision
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.signal import State
from spendmeter.values.times import UtcTime
from spendmeter_console.history.rows import EventRow, RefusalRow, SpendRow, SpendTotals
from spendmeter_console.live.standing import Standing
from spendmeter_sinks.explain.command import is_right
from spendmeter_sinks.explain.evidence import DecisionEvidence

Usd = Annotated[str, Field(pattern=r"^-?\d+(\.\d{1,9})?$", examples=["0.0105"])]


class ApiAnswer(BaseModel):
    """The base of all answers."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class RaiseView(ApiAnswer):
    """A temporary addition to a limit."""

    usd: Usd
    until: UtcTime


class BudgetView(ApiAnswer):
    """A budget in force."""

    id: str
    match: dict[str, str]
    limit_usd: Usd
    """Now in force, raises included."""
    period: str
    timezone: str
    starts_at: UtcTime | None
    reset_at: UtcTime | None
    warn_at: list[float]
    action: str
    enforcement: str
    unpriced: str
    paused: bool
    raises: list[RaiseView]
    replaces: str | None
    revision: int
    updated_at: UtcTime
    updated_by: str
    """As the record claims, unless `signed`."""
    signed: bool
    accounts: int
    """That the viewer may see and that have spent anything, or are its only one."""
    exceeded: int
    warning: int


class AccountView(ApiAnswer):
    """How an account stands in the present window of its budget."""

    account: str
    budget: str
    subject: dict[str, str]
    key_alias: str | None
    limit_usd: Usd
    spent_usd: Usd
    remaining_usd: Usd
    """Below 0 where more was spent than the limit."""
    state: State
    refuses: bool
    """False where the budget only warns, or is paused."""
    window_start: UtcTime
    resets_at: UtcTime | None
    """The end of the window; null of a lifetime."""
    runs_out_at: UtcTime | None
    """When it reaches its limit at the rate of late, if that is before the reset."""
    opening: bool
    """What the window held before the budget began is not in it yet: more was spent than it says."""
    as_of: UtcTime | None
    """Of the signal; null where nothing was spent in this window."""


class SpendView(ApiAnswer):
    """What one combination of values spent."""

    values: dict[str, str]
    """By dimension; empty text where an event has no value."""
    key_alias: str | None
    spent_usd: Usd
    requests: int
    input_tokens: int
    output_tokens: int
    unpriced: int
    """Requests whose price nobody knows: they are in no sum of money."""


class TotalsView(ApiAnswer):
    """All of the span, each request once however many tags it has."""

    spent_usd: Usd
    requests: int
    input_tokens: int
    output_tokens: int
    unpriced: int


class EventView(ApiAnswer):
    """A usage event, or a correction of one."""

    event_id: UUID
    occurred_at: UtcTime
    kind: str
    corrects: UUID | None
    cost_usd: Usd
    cost_source: str
    cost_doubt: str
    status: str
    estimated: bool
    key: str
    key_alias: str
    user: str
    team: str
    organization: str
    project: str
    end_user: str
    tags: list[str]
    session: str
    model: str
    model_group: str
    provider: str
    gateway: str
    call_type: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    prices: dict[str, str]
    duration_ms: int
    reason: str
    recorded_by: str


class RefusalView(ApiAnswer):
    """A request that was refused."""

    decision_id: UUID
    decided_at: UtcTime
    why: str
    name: str
    message: str
    budget: str
    account: str
    gateway: str
    limit_usd: Usd | None
    spent_usd: Usd | None


class CountedEventView(ApiAnswer):
    """An event that a refusal rests on."""

    event_id: UUID
    occurred_at: UtcTime
    cost_usd: Usd
    model: str
    name: str
    gateway: str


class RefusalDetail(ApiAnswer):
    """A refusal and what it rests on, as `spendmeter explain` has it."""

    decision: Decision
    right: bool
    """Whether the events that were known bear it out."""
    budget_by: str
    """Who set the limit: claimed where no signature says so."""
    events: int
    spent_usd: Usd
    largest: list[CountedEventView]


class Page(ApiAnswer):
    """The base of answers that come in pages."""

    next: str | None
    """Give it as `after` for the next page; null at the end."""


class BudgetsPage(Page):
    budgets: list[BudgetView]


class AccountsPage(Page):
    accounts: list[AccountView]


class SpendPage(ApiAnswer):
    start: UtcTime
    end: UtcTime
    by: list[str]
    spend: list[SpendView]
    """The largest first; a request with several tags is in the row of each."""
    total: TotalsView
    next: str | None
    """Give it as `after` for the next page; null at the end."""


class EventsPage(Page):
    events: list[EventView]


class RefusalsPage(Page):
    refusals: list[RefusalView]


class MeView(ApiAnswer):
    """What the holder of a key may still spend."""

    key_alias: str | None
    accounts: list[AccountView]
    """Closest to its limit first: the next request is refused by the first that refuses and is exceeded."""


class ApiProblem(ApiAnswer):
    """Why there is no answer."""

    error: str
    field: str | None = None
    """The parameter that cannot be."""


def account_view(standing: Standing, names: Mapping[str, str]) -> AccountView:
    """A standing as the API has it."""
    return AccountView(
        account=standing.account,
        budget=standing.budget_id,
        subject=standing.subject,
        key_alias=names.get(standing.subject.get("key", "")),
        limit_usd=format_usd(standing.limit_nanousd),
        spent_usd=format_usd(standing.spent_nanousd),
        remaining_usd=format_usd(standing.remaining_nanousd),
        state=standing.state,
        refuses=standing.refuses,
        window_start=standing.window.start,
        resets_at=standing.window.end,
        runs_out_at=standing.runs_out_at,
        opening=standing.is_counting,
        as_of=standing.signalled_at,
    )


def budget_view(budget: Budget, limit: NanoUsd, accounts: list[Standing], *, signed: bool) -> BudgetView:
    """A budget with the number of its accounts."""
    return BudgetView(
        id=budget.id,
        match=dict(budget.match),
        limit_usd=format_usd(limit),
        period=budget.period,
        timezone=budget.timezone,
        starts_at=budget.starts_at,
        reset_at=budget.reset_at,
        warn_at=list(budget.warn_at),
        action=budget.action,
        enforcement=budget.enforcement,
        unpriced=budget.unpriced,
        paused=budget.paused,
        raises=[RaiseView(usd=format_usd(one.amount_nanousd), until=one.until) for one in budget.raises],
        replaces=budget.replaces,
        revision=budget.revision,
        updated_at=budget.updated_at,
        updated_by=budget.updated_by,
        signed=signed,
        accounts=len(accounts),
        exceeded=sum(one.state is State.EXCEEDED for one in accounts),
        warning=sum(one.state is State.WARNING for one in accounts),
    )


def spend_view(row: SpendRow, by: list[str]) -> SpendView:
    """A row of spend."""
    alias = row.labels[by.index("key")] if "key" in by else None
    return SpendView(
        values=dict(zip(by, row.values, strict=True)),
        key_alias=alias if alias and alias not in row.values else None,
        spent_usd=format_usd(row.spent_nanousd),
        requests=row.requests,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        unpriced=row.unpriced,
    )


def totals_view(row: SpendTotals) -> TotalsView:
    """The totals of a span."""
    return TotalsView(
        spent_usd=format_usd(row.spent_nanousd),
        requests=row.requests,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        unpriced=row.unpriced,
    )


def event_view(row: EventRow) -> EventView:
    """An event."""
    fields = row._asdict()
    return EventView(cost_usd=format_usd(fields.pop("cost_nanousd")), **fields)


def refusal_view(row: RefusalRow) -> RefusalView:
    """A refusal in a list."""
    return RefusalView(
        decision_id=row.decision_id,
        decided_at=row.decided_at,
        why=row.why,
        name=row.name,
        message=row.message,
        budget=row.budget_id,
        account=row.account,
        gateway=row.gateway,
        limit_usd=None if row.limit_nanousd is None else format_usd(row.limit_nanousd),
        spent_usd=None if row.spent_nanousd is None else format_usd(row.spent_nanousd),
    )


def refusal_detail(decision: Decision, evidence: DecisionEvidence | None) -> RefusalDetail:
    """A refusal with its evidence."""
    return RefusalDetail(
        decision=decision,
        right=is_right(decision, evidence),
        budget_by=evidence.budget_by if evidence else "",
        events=evidence.events if evidence else 0,
        spent_usd=format_usd(evidence.spent_nanousd if evidence else NanoUsd(0)),
        largest=[
            CountedEventView(
                event_id=one.event_id,
                occurred_at=one.occurred_at,
                cost_usd=format_usd(one.cost_nanousd),
                model=one.model,
                name=one.name,
                gateway=one.gateway,
            )
            for one in (evidence.largest if evidence else ())
        ],
    )
