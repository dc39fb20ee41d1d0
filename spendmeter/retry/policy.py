"""How long to wait after a refusal, and when to give up. Pure: the caller brings the clock."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Lock
from typing import NamedTuple

from spendmeter.retry.refusals import BudgetRefusal

# Gateways read a change within milliseconds of us; after a too early attempt, try again.
_SETTLE_SECONDS = (0.05, 0.2, 1.0)


@dataclass(frozen=True)
class RetryPolicy:
    """The bounds of waiting."""

    max_wait_seconds: float = 3_600.0
    """In all, from the first refusal on. Then the refusal is raised, or passed on."""
    max_attempts: int = 1_000
    """Calls in all, the first included."""
    poll_seconds: float | None = 60.0
    """HTTP does not announce a raise or a reset, so retry this often, also before `retry-after`.
    None: only at `retry-after`; a refusal without it is then final."""


class Waiting(NamedTuple):
    """What `on_wait` gets before each wait."""

    budget: str | None
    spent_usd: Decimal | None
    limit_usd: Decimal | None
    until: datetime
    """The latest time of the next attempt."""
    reopens_at: datetime | None
    """When the budget's window ends, if the refusal said so."""
    attempt: int
    """The number of refused calls so far."""
    waited_seconds: float
    """In all so far."""
    wait_seconds: float


class RetryState:
    """One call through its refusals, until it is served or `RetryPolicy` ends."""

    def __init__(self, policy: RetryPolicy, *, follows_changes: bool = False) -> None:
        self._policy = policy
        self._follows_changes = follows_changes
        self._began_seconds: float | None = None
        self._attempts = 0
        self._settle: list[float] = []

    def heard(self) -> None:
        """Note that the budget has changed: the next refusals may still be from before the change."""
        self._settle = list(_SETTLE_SECONDS)

    def refused(self, refusal: BudgetRefusal, seconds: float, now: datetime) -> Waiting | None:
        """The wait until the next attempt; None to give up. `seconds` is of a monotonic clock."""
        self._attempts += 1
        if self._began_seconds is None:
            self._began_seconds = seconds
        waited = seconds - self._began_seconds
        left = self._policy.max_wait_seconds - waited
        wait = self._wait(refusal.retry_after_seconds, left)
        if wait is None or left <= 0 or self._attempts >= self._policy.max_attempts:
            return None
        after = refusal.retry_after_seconds
        return Waiting(
            budget=refusal.budget,
            spent_usd=refusal.spent_usd,
            limit_usd=refusal.limit_usd,
            until=_later(now, wait),
            reopens_at=None if after is None else _later(now, after),
            attempt=self._attempts,
            waited_seconds=waited,
            wait_seconds=wait,
        )

    def _wait(self, retry_after: float | None, left: float) -> float | None:
        poll = self._policy.poll_seconds
        if retry_after is not None and retry_after > left and poll is None and not self._follows_changes:
            # Give up now instead of after a wait that cannot help.
            return None
        waits = [seconds for seconds in (retry_after, poll) if seconds is not None]
        if self._settle:
            waits.append(self._settle.pop(0))
        if not waits and not self._follows_changes:
            return None
        return min([*waits, left])


def _later(now: datetime, seconds: float) -> datetime:
    """That moment, or the last one that there is."""
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


# Windows are few; at worst a forgotten one reports a second time.
MAX_WINDOWS_REMEMBERED = 10_000


class Reached(NamedTuple):
    """A fraction of a budget's limit that has been spent."""

    fraction: float
    budget: str
    spent_usd: Decimal
    limit_usd: Decimal


class SpendThresholds:
    """Calls back once for each fraction in each window of each account, the lowest first. Any thread."""

    def __init__(self, fractions: Iterable[float], callback: Callable[[Reached], None]) -> None:
        """Raises ValueError: a fraction is not above 0 and at most 1."""
        self._fractions = sorted(set(fractions))
        if not self._fractions or not all(0 < fraction <= 1 for fraction in self._fractions):
            raise ValueError("fractions of a limit are numbers above 0 and at most 1, such as 0.8")
        self._callback = callback
        self._reported: OrderedDict[Hashable, set[float]] = OrderedDict()
        self._lock = Lock()

    def see(self, window: Hashable, budget: str, spent_usd: Decimal, limit_usd: Decimal) -> None:
        """Report newly reached fractions; `window` names the account's window."""
        with self._lock:
            reported = self._reported.setdefault(window, set())
            self._reported.move_to_end(window)
            if len(self._reported) > MAX_WINDOWS_REMEMBERED:
                self._reported.popitem(last=False)
            reached = [
                fraction
                for fraction in self._fractions
                if fraction not in reported and spent_usd >= Decimal(repr(fraction)) * limit_usd
            ]
            reported.update(reached)
        for fraction in reached:
            self._callback(Reached(fraction, budget, spent_usd, limit_usd))
