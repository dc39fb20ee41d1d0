"""Known spend of every account and window: signals, and own events that no signal includes yet."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from spendmeter.contract.signal import Signal
from spendmeter.values.account import budget_id_of
from spendmeter_gateway.spend.charges import Charge
from spendmeter_gateway.spend.window_balance import NOTHING, Acknowledgement, KnownSpend, WindowBalance

# Reached only when Kafka has been away for long; further events count until the next signal.
MAX_RECORDED = 100_000
# This many answers may wait to be logged; the cost of further ones is known once they are logged.
MAX_PENDING = 10_000
_NO_PENDING: dict[UUID, int] = {}
# Starts and ends of windows; forgetting them costs only memory.
MAX_MOMENTS = 1_000

WindowKey = tuple[str, datetime]
"""The name of an account and the start of one of its windows."""


class Limit:
    """What an account may spend in a window, for repeated checks by `is_below`."""

    __slots__ = ("key", "nanousd", "window")

    def __init__(self, key: WindowKey, nanousd: int) -> None:
        self.key, self.nanousd = key, nanousd
        self.window: WindowBalance | None = None
        """The balance found last: with cold caches, finding it costs most of the time."""


class _Recorded(NamedTuple):
    """An own event whose acknowledgement is still out."""

    at_seconds: float
    charged: tuple[WindowBalance, ...]
    costs_nanousd: tuple[int, ...]
    is_doubtful: bool


class _Answered(NamedTuple):
    """A pending own event: its answer is known, and LiteLLM has not logged it."""

    at_seconds: float
    answer_given: object
    charged: tuple[WindowBalance, ...]


class SpendTracker:
    """The spend that this gateway knows of. No I/O, clock or lock: the caller has these.

    Seconds are of one monotonic clock of the caller's; money is nano-USD.
    """

    def __init__(self) -> None:
        self._windows: dict[WindowKey, WindowBalance] = {}
        self._recorded: dict[int, _Recorded] = {}
        self._answered: dict[UUID, _Answered] = {}
        self._last_seq = 0
        self._moments: dict[datetime, datetime] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def known(self, account: str, window_start: datetime) -> KnownSpend:
        """The known spend of exactly that window; nothing if it has neither a signal nor an event."""
        window = self._windows.get((account, window_start))
        return NOTHING if window is None else window.known()

    def is_below(self, limits: Iterable[Limit]) -> bool:
        """Whether the possible spend of each of these windows, doubtful events included, is below
        its limit.
        """
        for limit in limits:
            window = limit.window
            if window is None or window.is_dropped:
                limit.window = window = self._windows.get(limit.key)
            if window is not None and window.most_nanousd() >= limit.nanousd:
                return False
        return True

    def oldest_recorded_seconds(self) -> float | None:
        """When the oldest event without acknowledgement was recorded."""
        for recorded in self._recorded.values():
            return recorded.at_seconds
        return None

    def apply(self, signal: Signal, now: datetime) -> None:
        """Apply a signal; an older one, or one of an ended window, changes nothing."""
        if signal.window_end is None or now < signal.window_end:
            # Thousands of signals have the same moments, each in its own object.
            start, end = self._moment(signal.window_start), signal.window_end
            key = (signal.account, start)
            self._window(key, None if end is None else self._moment(end)).apply(signal, self._last_seq)

    def answer(
        self, event_id: UUID, answer_given: object, charges: Iterable[Charge], now_seconds: float
    ) -> bool:
        """Count an event that will be recorded, until `settle` or `expire`; False beyond MAX_PENDING.

        `settle` returns `answer_given`. Settle it without releasing the lock under which it is recorded:
        then it counts exactly once throughout.
        """
        if event_id in self._answered:
            return True
        if len(self._answered) >= MAX_PENDING:
            return False
        windows = []
        for charge in charges:
            window = self._window_charged(charge)
            window.answer(event_id, int(charge.cost_nanousd))
            windows.append(window)
        self._answered[event_id] = _Answered(now_seconds, answer_given, tuple(windows))
        return True

    def settle(self, event_id: UUID) -> object:
        """End the event's pending state; returns what `answer` was given, or None if it was not pending."""
        answered = self._answered.pop(event_id, None)
        if answered is None:
            return None
        for window in answered.charged:
            window.settle(event_id)
        return answered.answer_given

    def expire(self, before_seconds: float) -> list[UUID]:
        """Forget events that have been pending since before that moment; returns them."""
        expired = []
        for event_id, answered in self._answered.items():
            if answered.at_seconds >= before_seconds:
                break
            expired.append(event_id)
        for event_id in expired:
            self.settle(event_id)
        return expired

    @property
    def pending_count(self) -> int:
        """How many events are pending."""
        return len(self._answered)

    def pending(self, account: str, window_start: datetime) -> Mapping[UUID, int]:
        """The events that are pending in that window, and the cost of each in nano-USD."""
        window = self._windows.get((account, window_start))
        return _NO_PENDING if window is None else window.pending

    def record(self, seq: int, charges: Iterable[Charge], now_seconds: float) -> bool:
        """Count an own event from now on; `seq` rises from call to call. Returns whether it is urgent.

        No signal that includes the event may have been applied before: append to the outbox and
        record under the same lock under which `apply` is called.
        """
        charges = list(charges)
        costs_nanousd = tuple([int(charge.cost_nanousd) for charge in charges])
        return self.record_in(seq, self.windows(charges), costs_nanousd, now_seconds)

    def windows(self, charges: Iterable[Charge]) -> tuple[WindowBalance, ...]:
        """The window of each charge."""
        return tuple([self._window_charged(charge) for charge in charges])

    def record_in(
        self,
        seq: int,
        windows: tuple[WindowBalance, ...],
        costs_nanousd: tuple[int, ...],
        now_seconds: float,
        *,
        is_doubtful: bool = False,
    ) -> bool:
        """Like `record`, for windows that all still exist, each at its cost.

        `is_doubtful`: a signal may already include the event, sent by another gateway.
        """
        if len(self._recorded) >= MAX_RECORDED:
            if is_doubtful:
                return True
            for window, cost_nanousd in zip(windows, costs_nanousd, strict=True):
                window.count_unplaced(cost_nanousd)
            return True
        is_urgent = False
        for window, cost_nanousd in zip(windows, costs_nanousd, strict=True):
            window.record(cost_nanousd, is_doubtful=is_doubtful)
            is_urgent = is_urgent or window.is_urgent()
        self._recorded[seq] = _Recorded(now_seconds, windows, costs_nanousd, is_doubtful)
        self._last_seq = seq
        return is_urgent

    def count_unplaced(self, charges: Iterable[Charge]) -> None:
        """Count an event that will never be acknowledged, until its accounts' next signals."""
        for charge in charges:
            self._window_charged(charge).count_unplaced(charge.cost_nanousd)

    def acknowledge(self, seq: int, at: Acknowledgement) -> None:
        """Note that an own event has been stored; an unknown or already acknowledged seq changes nothing."""
        recorded = self._recorded.pop(seq, None)
        if recorded is not None:
            for window, cost_nanousd in zip(recorded.charged, recorded.costs_nanousd, strict=True):
                window.acknowledge(seq, cost_nanousd, at, is_doubtful=recorded.is_doubtful)

    def keys(self) -> list[WindowKey]:
        """The present windows, for `prune` to go through in slices."""
        return list(self._windows)

    def prune(self, keys: Iterable[WindowKey], now: datetime, is_removed: Callable[[str], bool]) -> None:
        """Drop those of these windows that have ended, are empty, or whose budget was removed."""
        for key in keys:
            window = self._windows.get(key)
            if window is not None and (
                (window.end is not None and window.end <= now)
                or window.is_empty()
                or is_removed(budget_id_of(key[0]))
            ):
                del self._windows[key]
                window.is_dropped = True

    def _window_charged(self, charge: Charge) -> WindowBalance:
        return self._window((charge.account, charge.window_start), charge.window_end)

    def _window(self, key: WindowKey, end: datetime | None) -> WindowBalance:
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = WindowBalance(end)
        elif window.end is not None and (end is None or end > window.end):
            # It began with a reset, and the budget now has a longer period.
            window.end = end
        return window

    def _moment(self, time: datetime) -> datetime:
        """One shared object for all equal ones."""
        if len(self._moments) >= MAX_MOMENTS:
            self._moments.clear()
        return self._moments.setdefault(time, time)
