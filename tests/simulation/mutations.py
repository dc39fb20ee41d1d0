"""Guards broken one at a time: what the simulation must be able to see."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.total import HISTORY, Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import Account, BudgetBook
from spendmeter.domain.opening_balance import OpeningBalance
from spendmeter.domain.window import Window
from spendmeter.values.account import budget_id_of
from spendmeter_sinks.opening_balance.balance import A, Balances, Row
from spendmeter_stream.faust.store import VersionedStore
from spendmeter_stream.judge.judge import Evaluation, Judge, Timers
from spendmeter_stream.judge.merging import Merged, merge
from spendmeter_stream.meter.counting_starts import CountingStarts
from spendmeter_stream.meter.meter import FoldResult, Meter
from spendmeter_stream.meter.window_cache import CountedWindow
from spendmeter_stream.state import (
    TALLY,
    AccountState,
    AccountWindow,
    ChangelogEntry,
    CounterKey,
    TotalComponent,
)
from tests.simulation.workers import Parts


class NoTallyGuard(Meter):
    def _count(self, event: UsageEvent, counted: CountedWindow, offset: int, resent: bool | None) -> None:
        tally = counted.tally
        if not tally.first_offset <= offset <= tally.last_offset:
            return super()._count(event, counted, offset, resent)
        last, tally.last_offset = tally.last_offset, offset - 1
        super()._count(event, counted, offset, bool(resent))
        tally.last_offset = last
        return None


class NoProducerDedupe(Meter):
    def _is_resent(self, producer: str, seq: int, offset: int, appended_at: datetime) -> bool | None:
        return None if super()._is_resent(producer, seq, offset, appended_at) is None else False


class ProducersBeforeTallies(Meter):
    def fold(self, *args: Any) -> FoldResult:
        folded = super().fold(*args)
        folded.entries.sort(key=lambda entry: entry.key.startswith(b"t|"))
        return folded


class OpensInsideReplays(Meter):
    def open(self, book: BudgetBook, first_offset: int) -> list[ChangelogEntry]:
        self._openings.follow(book)
        self._openings.open_all(book, first_offset)
        return self._openings.changes()

    def _counted_window(
        self, book: BudgetBook, account: Account, window: Window, offset: int
    ) -> CountedWindow:
        self._frontier = offset
        return super()._counted_window(book, account, window, offset)

    def _count(self, event: UsageEvent, counted: CountedWindow, offset: int, resent: bool | None) -> None:
        self._frontier = offset
        super()._count(event, counted, offset, bool(resent))


class _OpensLate(CountingStarts):
    def open_all(self, book: BudgetBook, frontier: int) -> None:
        """The first event of each opens it."""


class OpensAtTheFirstEvent(Meter):
    def __init__(self, partition: int, max_accounts: int = 0, incarnation: str = "") -> None:
        super().__init__(partition, max_accounts, incarnation)
        self._openings = _OpensLate()

    def fold(self, *args: Any) -> FoldResult:
        folded = super().fold(*args)
        folded.openings += self._openings.changes()
        return folded


class DuplicatesDoNotMoveLastOffset(Meter):
    def _count(self, event: UsageEvent, counted: CountedWindow, offset: int, resent: bool | None) -> None:
        if resent is not True:
            super()._count(event, counted, offset, resent)


class FreeEventsOpenAccounts(Meter):
    def _windows_at_cost_0(self, event: UsageEvent, offset: int) -> Sequence[CountedWindow]:
        assert self._windows is not None
        return self._windows.of(event, offset)


class _CountsFreeRows(Balances):
    def add(self, rows: Iterable[Row[int]]) -> None:
        for account, start, amount in self._placed(rows):
            self._add(account, start, amount, 1)


class ReplaysSayNothing(Meter):
    def _count(self, event: UsageEvent, counted: CountedWindow, offset: int, resent: bool | None) -> None:
        was_changed, is_known = counted.is_changed, offset <= counted.tally.last_offset
        super()._count(event, counted, offset, resent)
        if is_known and counted.is_changed and not was_changed:
            counted.is_changed = False
            self._changed.remove(counted)


class _StaysOpen(CountingStarts):
    def follow(self, book: BudgetBook) -> None:
        """Whatever came and went meanwhile."""


class OpeningsAreNeverClosed(Meter):
    def __init__(self, partition: int, max_accounts: int = 0, incarnation: str = "") -> None:
        super().__init__(partition, max_accounts, incarnation)
        self._openings = _StaysOpen()


class TalliesHaveNoShape(Meter):
    """All shapes of a budget write to one key, as if the key had none."""

    def fold(self, *args: Any) -> FoldResult:
        folded = super().fold(*args)
        folded.entries = [
            ChangelogEntry(e.key.rpartition(b"|")[0] + b"|", e.value) if e.key.startswith(TALLY) else e
            for e in folded.entries
        ]
        return folded

    def _counted_window(
        self, book: BudgetBook, account: Account, window: Window, offset: int
    ) -> CountedWindow:
        _, shape = self._openings.open(book, account.budget, self._frontier)
        stored = self.tallies.pop(CounterKey(account.name, window.start, ""), None)
        if stored is not None:
            self.tallies[CounterKey(account.name, window.start, shape)] = stored
        return super()._counted_window(book, account, window, offset)


class LateEventsCountNow(Meter):
    def _counted_window(
        self, book: BudgetBook, account: Account, window: Window, offset: int
    ) -> CountedWindow:
        assert self._now is not None
        now = book.window_of(account.budget, self._now)
        return super()._counted_window(book, account, now or window, offset)


class TakesLowerOffsets(Judge):
    def apply(self, totals: Iterable[Total]) -> None:
        for total in totals:
            super().apply([total])
            if total.closes_opening:
                continue
            state = self.accounts[AccountWindow(total.account, total.window_start)]
            state.components[total.source_partition] = TotalComponent(
                total.last_offset, total.spent_nanousd, total.events, total.first_offset, total.shape or ""
            )


class _Merges(Judge):
    """Breaks how an account's parts are merged."""

    def merged(self, where: AccountWindow, state: AccountState, shape: str) -> Merged:
        taken = self._opening_balances.of(budget_id_of(where.account), where.window_start)
        right = merge(state.components, state.held, taken, shape)
        return self.broken(right, state, taken)

    def broken(self, right: Merged, state: AccountState, taken: OpeningBalance | None) -> Merged:
        raise NotImplementedError


class AddsWhatHistoryHolds(_Merges):
    """A part that ends below the opening is added to history, which has it too."""

    def broken(self, right: Merged, state: AccountState, taken: OpeningBalance | None) -> Merged:
        spent = sum(part.spent_nanousd for part in state.components.values())
        return right._replace(spent_nanousd=NanoUsd(spent)) if HISTORY in state.components else right


class KeepsItsWatermark(_Merges):
    """Own events that history holds stay uncovered at the gateway that made them."""

    def broken(self, right: Merged, state: AccountState, taken: OpeningBalance | None) -> Merged:
        parts = state.components.items()
        return right._replace(watermark={p: c.last_offset for p, c in parts if isinstance(p, int)})


class MergesAtOneVersion(_Merges):
    def broken(self, right: Merged, state: AccountState, taken: OpeningBalance | None) -> Merged:
        counted = [part for p, part in state.components.items() if p != HISTORY]
        return right._replace(version=sum(part.last_offset + 1 for part in counted))


class IsWholeTooSoon(_Merges):
    """It does not wait for the word that all of the budget's accounts were told."""

    def broken(self, right: Merged, state: AccountState, taken: OpeningBalance | None) -> Merged:
        return right._replace(is_whole=True)


class KeepsWhatAnEarlierShapeHeld(_Merges):
    """A part of history stands however much later the budget's opening is."""

    def broken(self, right: Merged, state: AccountState, taken: OpeningBalance | None) -> Merged:
        if HISTORY not in state.components or taken is None or state.held is None:
            return right
        return merge(state.components, state.held._replace(before=taken.before, shape=taken.shape), taken, "")


class TakesWhatTheStreamCounts(Balances):
    """Everything that history has by now, also what lies behind the opening."""

    def _placed(self, rows: Iterable[Row[A]]) -> Iterator[tuple[Any, datetime, A]]:
        return super()._placed([(row[0], -1, *row[2:]) for row in rows])


class CountsItsOwnVersions(Judge):
    def judge(self, book: BudgetBook, now: datetime) -> Evaluation:
        said = super().judge(book, now)
        for n, signal in enumerate(said.signals):
            self._told_so_far = getattr(self, "_told_so_far", 0) + 1
            said.signals[n] = signal.model_copy(update={"version": self._told_so_far})
        return said


class ForgetsWhatWaits(Judge):
    def judge(self, book: BudgetBook, now: datetime) -> Evaluation:
        self._waiting = Timers()
        return super().judge(book, now)


class IsDeafToBudgets(Judge):
    def budget_changed(self, budget_id: str) -> None:
        """The accounts of the budget are judged when something is spent again."""


class LastWriteWins(VersionedStore):
    def _put(self, partition: int, key: bytes, value: bytes | None) -> None:
        kept = self._entries.setdefault(partition, {})
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value


MUTATIONS: dict[str, Parts] = {
    "the meter has no guard in its tallies": Parts(meter=NoTallyGuard),
    "the meter does not drop resends": Parts(meter=NoProducerDedupe),
    "producers and position are written before the tallies": Parts(meter=ProducersBeforeTallies),
    "a budget opens in the middle of a replay": Parts(meter=OpensInsideReplays),
    "a dropped duplicate leaves last_offset alone": Parts(meter=DuplicatesDoNotMoveLastOffset),
    "what costs nothing opens an account": Parts(meter=FreeEventsOpenAccounts),
    "what cost nothing is in an opening balance": Parts(balances=_CountsFreeRows),
    "a replay does not repeat its totals": Parts(meter=ReplaysSayNothing),
    "an opening outlives its budget": Parts(meter=OpeningsAreNeverClosed),
    "tallies of all shapes of a budget share a key": Parts(meter=TalliesHaveNoShape),
    "a late event counts in the window of its arrival": Parts(meter=LateEventsCountNow),
    "openings are stored after what rests on them": Parts(meter_writes="openings last"),
    "the judge takes totals of a lower offset": Parts(judge=TakesLowerOffsets),
    "versions come from a counter of the judge's own": Parts(judge=CountsItsOwnVersions),
    "what was held back is never told": Parts(judge=ForgetsWhatWaits),
    "a changed budget is not judged again": Parts(judge=IsDeafToBudgets),
    "alerts are remembered before they are sent": Parts(alerts="after remembering"),
    "what is told is stored beside what is remembered": Parts(alerts="beside remembering"),
    "budgets are expired by a book that lags": Parts(catches_up=False),
    "the changelog keeps what was written last": Parts(store=LastWriteWins),
    "offsets are committed before the batch is stored": Parts(commits="before storing"),
    "the sender goes on past a chunk that failed": Parts(sender="overtakes"),
    "the sender does not say that it sent twice": Parts(resends="unread"),
    "own events under the watermark are counted again": Parts(own_spend="under the watermark is counted"),
    "own events are forgotten when they are acknowledged": Parts(own_spend="forgotten when acknowledged"),
    "what was answered is forgotten at the next acknowledgement": Parts(
        answers="until the next acknowledgement"
    ),
    "what was answered counts beside its event": Parts(answers="beside their events"),
    "what was answered counts in the window of that moment": Parts(answers="in the window of the moment"),
    "who is refused is served": Parts(refusals="told only"),
    "signals of another window count in this one": Parts(own_windows="together"),
    "acknowledgements of a predecessor's events are taken for own": Parts(
        acknowledges="predecessors' events too"
    ),
    "history keeps every copy": Parts(history="every copy"),
    "a part that ends below the opening is added to history": Parts(judge=AddsWhatHistoryHolds),
    "merging leaves the watermark behind": Parts(judge=KeepsItsWatermark),
    "merging does not raise the version": Parts(judge=MergesAtOneVersion),
    "an account is called whole before its opening was merged": Parts(judge=IsWholeTooSoon),
    "what an earlier opening took counts for a later one": Parts(judge=KeepsWhatAnEarlierShapeHeld),
    "an opening balance takes all that history has": Parts(balances=TakesWhatTheStreamCounts),
    "an opening balance does not wait for history": Parts(fills="at once"),
    "a group that says nothing is taken for one that has read all": Parts(fills="unheard"),
    "the sender gives up what was refused": Parts(sender="gives up"),
    "that all was told is told before it was": Parts(closes="before the totals"),
    "nobody asks who wrote a record": Parts(checks_writers="nobody"),
    "the meter does not ask who wrote a record": Parts(checks_writers="history"),
    "history does not ask who wrote a record": Parts(checks_writers="meter"),
    "a copy in another partition is taken for its original": Parts(
        checks_writers="meter and history, wherever they stand"
    ),
    "a new budget is opened by its first event": Parts(meter=OpensAtTheFirstEvent),
}
