"""The canary's plan, the result of a round, and what it may spend in a day. Pure."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from spendmeter.budgets.change import reset, with_fields
from spendmeter.contract.budget import Action, Budget, Enforcement
from spendmeter.contract.money import NanoUsd
from spendmeter.values.dimensions import Dimension

BILLED_WITHIN_SECONDS = 600.0
"""A request that got no answer may be served and billed so much later: LiteLLM's own timeout."""
MAX_UNANSWERED = 1_000
ID_PREFIX = "canary"
"""Every budget of a canary begins with it, so that no other budget is ever named by mistake."""


class FailedAt(StrEnum):
    """Where a round failed."""

    PROXY = "proxy"
    KEY = "key"
    MODEL = "model"
    PRICE = "price"
    KAFKA = "kafka"
    BUDGET = "budget"
    """Removed, or not the canary's."""
    OTHER_BUDGET = "other_budget"
    """Another budget than the canary's refused."""
    BELOW_LIMIT = "below_limit"
    """Refused before the limit was reached."""
    REFUSAL = "refusal"
    """Not refused after the limit was reached."""
    READMISSION = "readmission"
    """Still refused after the reset."""
    DAILY_LIMIT = "daily_limit"
    """All that may be spent in a day is spent."""


class CanaryFailure(Exception):
    """A round cannot go on; the message says why and how to mend it."""

    def __init__(self, failed_at: FailedAt, message: str, *, may_be_billed: bool = False) -> None:
        super().__init__(message)
        self.failed_at = failed_at
        self.may_be_billed = may_be_billed
        """Whether a request went out to which there was no answer."""


class CanaryPlan(NamedTuple):
    """What the canary spends, and how long it waits."""

    budget_id: str
    match: Mapping[Dimension, str]
    """Always with the hash of the canary's key."""
    limit_nanousd: NanoUsd
    within_seconds: float
    """A refusal or a readmission that comes later is a failure."""

    def new_budget(self, now: datetime) -> Budget:
        """The budget, counting from now on.

        Raises:
            pydantic.ValidationError: such a budget is invalid.
        """
        return Budget(
            id=self.budget_id,
            match=dict(self.match),
            limit_nanousd=self.limit_nanousd,
            # No window ends in the middle of a round.
            period="lifetime",
            reset_at=now,
            warn_at=(),
            updated_at=now,
        )

    def armed(self, known: Budget, now: datetime) -> Budget:
        """The budget as a round needs it: nothing spent, and in force."""
        self.check(known)
        return self._fresh(known, now, paused=False)

    def disarmed(self, known: Budget, now: datetime) -> Budget:
        """The budget as it stays behind: nothing spent, and paused, so that it refuses nothing."""
        self.check(known)
        return self._fresh(known, now, paused=True)

    def check(self, known: Budget) -> None:
        """Raises CanaryFailure if this budget was not made by this canary."""
        if known.match != self.match or known.period != "lifetime" or known.replaces is not None:
            raise CanaryFailure(
                FailedAt.BUDGET,
                f"the budget {known.id} is not of this canary's key, and is left as it is;"
                f" name another one with --budget, such as {ID_PREFIX}-2",
            )

    def _fresh(self, known: Budget, now: datetime, *, paused: bool) -> Budget:
        return with_fields(
            reset(known, now, now),
            limit_nanousd=self.limit_nanousd,
            action=Action.BLOCK,
            enforcement=Enforcement.SETTLED,
            warn_at=(),
            raises=(),
            paused=paused,
        )


class CanaryRound(BaseModel):
    """What one round has measured; times in milliseconds, None where the round ended before."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    """When it began."""
    refused_after_ms: float | None
    """From the answer that reached the limit to the first refusal."""
    readmitted_after_ms: float | None
    """From the reset, before it was sent, to the first answer that was served again."""
    requests: int
    served_past_limit: int
    """Served though the limit had been reached."""
    refused_below_limit: int
    cost_nanousd: NanoUsd
    spent_today_nanousd: NanoUsd
    failed_at: FailedAt | None
    failure: str

    @property
    def is_right(self) -> bool:
        """Whether the round went through and nothing was refused wrongly."""
        return self.failed_at is None and not self.refused_below_limit


class UnansweredRequests:
    """Requests that had no answer. Each may still be billed, and then counts in a later round."""

    def __init__(self) -> None:
        self._sent: list[float] = []

    def add(self, seconds: float) -> None:
        """Note one; `seconds` is of a monotonic clock."""
        self._sent = [*self._sent[1 - MAX_UNANSWERED :], seconds]

    def count(self, seconds: float) -> int:
        """How many may still be billed."""
        return sum(seconds - one < BILLED_WITHIN_SECONDS for one in self._sent)


class DailyAllowance:
    """What this process may spend in a day (UTC). A request is sent only while some is left."""

    def __init__(self, limit_nanousd: NanoUsd) -> None:
        self.limit_nanousd = limit_nanousd
        self._day = date.min
        self._spent = 0

    def spend(self, cost: NanoUsd, now: datetime) -> None:
        """Count the cost of an answer."""
        self._spent = self.spent(now) + cost
        self._day = now.astimezone(UTC).date()

    def spent(self, now: datetime) -> NanoUsd:
        """What was spent on this day."""
        return NanoUsd(self._spent if now.astimezone(UTC).date() == self._day else 0)

    def is_left(self, now: datetime) -> bool:
        """Whether another request may be sent."""
        return self.spent(now) < self.limit_nanousd
