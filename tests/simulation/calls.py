"""The calls of a gateway, from their admission to their late log event, and what it must know of its spend.

LiteLLM answers first and logs later, in any order. The ledger is a plain list of events, where the
gateway has running sums: it forgets what a signal has covered, or whose window or budget is gone,
and nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from spendmeter.contract.signal import Signal
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import BudgetBook
from spendmeter.values.account import budget_id_of
from spendmeter_gateway.spend.charges import Charge
from spendmeter_gateway.spend.tracker import WindowKey
from tests.simulation.broker import Recorded, Truth


@dataclass
class Call:
    """One request that was admitted."""

    request: UUID
    fields: dict[str, Any]
    cost_nanousd: int
    begun_at: datetime
    answered: UsageEvent | None = None
    """The event as it will be, once it is answered: when it occurred, only its log event tells."""
    is_pending: bool = False

    def unknown_nanousd(self, is_own: bool) -> int:
        """What a gateway cannot know yet of its cost; `is_own`: it runs there."""
        return 0 if is_own and self.is_pending else self.cost_nanousd


class Ledger:
    """A gateway's own events, by account and window."""

    def __init__(self) -> None:
        self._recorded: dict[WindowKey, dict[UUID, int]] = {}
        self._pending: dict[WindowKey, dict[UUID, int]] = {}
        self._covered: dict[WindowKey, dict[int, int]] = {}

    def answer(self, event_id: UUID, charges: Iterable[Charge]) -> None:
        for charge in charges:
            of_window = self._pending.setdefault((charge.account, charge.window_start), {})
            of_window[event_id] = charge.cost_nanousd

    def settle(self, event_id: UUID) -> None:
        for of_window in self._pending.values():
            of_window.pop(event_id, None)

    def record(self, event_id: UUID, charges: Iterable[Charge]) -> None:
        for charge in charges:
            of_window = self._recorded.setdefault((charge.account, charge.window_start), {})
            of_window[event_id] = charge.cost_nanousd

    def take(self, signal: Signal) -> None:
        covered = self._covered.setdefault((signal.account, signal.window_start), {})
        for partition, offset in signal.watermark.items():
            covered[partition] = max(offset, covered.get(partition, -1))

    def prune(self, book: BudgetBook, now: datetime, removed: set[str]) -> None:
        """Forget windows that have ended, and those of removed budgets, but for their credits.

        What a change of the budget made shorter ends here, and the next change may make it longer again. To
        have forgotten what was spent is harmless then: the gateway knows more.
        """
        everything: tuple[dict[WindowKey, dict[Any, int]], ...] = (
            self._recorded,
            self._pending,
            self._covered,
        )
        for windows in everything:
            for account, start in list(windows):
                budget_id = budget_id_of(account)
                budget = book.get(budget_id)
                window = None if budget is None else book.window_of(budget, start)
                has_ended = window is not None and window.end is not None and window.end <= now
                if budget_id in removed or has_ended:
                    windows[account, start] = {k: v for k, v in windows[account, start].items() if v < 0}

    def holds(self, key: WindowKey, event_id: UUID) -> bool:
        """Whether the event is an own one that was recorded in that window."""
        return event_id in self._recorded.get(key, {})

    def least_nanousd(self, key: WindowKey, truth: Truth) -> int:
        """What must be known beside the signal: what is pending, and own events that no signal has covered.

        Credits are left out with what they may take away: one that may be in the signal already counts twice.
        """
        return sum(self._pending.get(key, {}).values()) + self.uncovered_nanousd(key, truth)

    def uncovered_nanousd(self, key: WindowKey, truth: Truth) -> int:
        """The same without what is pending."""
        covered = self._covered.get(key, {})
        return sum(
            cost
            for event_id, cost in self._recorded.get(key, {}).items()
            if cost < 0 or not is_under(covered, truth.recorded[event_id])
        )


def is_under(watermark: dict[int, int], recorded: Recorded) -> bool:
    """Whether the event is stored, at an offset that the watermark includes."""
    return recorded.offset is not None and recorded.offset <= watermark.get(recorded.partition, -1)
