"""What history answers the page with. Money is whole nano-USD. Pure."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from spendmeter.contract.money import NanoUsd
from spendmeter.history.reconciles import ReconcileRun


class SpendRow(NamedTuple):
    """What was spent under one value of each dimension of the question."""

    values: tuple[str, ...]
    """Empty text where an event has no value."""
    labels: tuple[str, ...]
    """What people call them: a key's alias. As the values where there is none."""
    spent_nanousd: NanoUsd
    requests: int
    input_tokens: int
    output_tokens: int
    unpriced: int
    """Requests whose price nobody knows: they are in no sum of money."""


class SpendTotals(NamedTuple):
    """All of a span, each request once however many tags it has."""

    spent_nanousd: NanoUsd
    requests: int
    input_tokens: int
    output_tokens: int
    unpriced: int
    corrections: int


class Point(NamedTuple):
    """One piece of one series."""

    at: datetime
    value: str
    label: str
    spent_nanousd: NanoUsd


class SpendSeries(NamedTuple):
    """Spend over time."""

    points: list[Point]
    """Of the values that the question named."""
    whole: list[Point]
    """Of all values; by tag, of every tag of a request."""
    totals: SpendTotals
    """All of it; by tag, a request once for each of its tags."""


class EventRow(NamedTuple):
    """A usage event, or a correction of one."""

    event_id: UUID
    occurred_at: datetime
    kind: str
    corrects: UUID | None
    cost_nanousd: NanoUsd
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
    tags: tuple[str, ...]
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


class RefusalRow(NamedTuple):
    """A request that was refused."""

    decision_id: UUID
    decided_at: datetime
    why: str
    name: str
    message: str
    budget_id: str
    account: str
    gateway: str
    limit_nanousd: NanoUsd | None
    spent_nanousd: NanoUsd | None


class AlertRow(NamedTuple):
    """Something that somebody should know."""

    alert_id: UUID
    emitted_at: datetime
    kind: str
    message: str
    budget_id: str
    account: str
    threshold: float | None
    spent_nanousd: NanoUsd | None
    limit_nanousd: NanoUsd | None


class DeliveryRow(NamedTuple):
    """What became of an alert on a route."""

    alert_id: UUID
    route: str
    """Empty where no route matches."""
    outcome: str
    at: datetime
    reason: str
    attempts: int
    reminders: int
    due_at: datetime | None
    sent_at: datetime | None
    """When the receiver first accepted it."""


class AlertDetail(NamedTuple):
    """An alert, and all that became of it."""

    alert: AlertRow
    window_start: datetime | None
    window_end: datetime | None
    steps: list[DeliveryRow]
    """By route, in their order."""


class BudgetChange(NamedTuple):
    """One revision of a budget, or its removal."""

    at: datetime
    revision: int
    by: str
    is_signed: bool
    removed: bool
    limit_nanousd: NanoUsd
    period: str
    timezone: str
    action: str
    enforcement: str
    reset_at: datetime | None
    raises: tuple[tuple[NanoUsd, datetime], ...]
    definition: str


class CurvePoint(NamedTuple):
    """What an account had spent at a moment."""

    at: datetime
    spent_nanousd: NanoUsd
    limit_nanousd: NanoUsd


class DoubtedModel(NamedTuple):
    """Requests of a model whose cost nobody knows, or for which another figure than LiteLLM's counts."""

    model: str
    provider: str
    why: str
    requests: int
    spent_nanousd: NanoUsd
    last_at: datetime


class TopicAge(NamedTuple):
    """How far history has come in one topic."""

    topic: str
    records: int
    last_appended_at: datetime | None
    last_stored_at: datetime | None


class Reconciled(NamedTuple):
    """The last comparison of recorded events, totals, signals and history, and when all was last equal."""

    last: ReconcileRun | None = None
    equal_at: datetime | None = None


class DeadLetterCount(NamedTuple):
    """Records that nobody could read, by reason."""

    reason: str
    component: str
    records: int
    last_at: datetime


class Cursor(NamedTuple):
    """Where a page of rows ended: the next one goes on below."""

    at: datetime
    id: UUID
