"""Known spend against an oracle that knows every event, over any interleaving of what can happen."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter_gateway.spend.charges import Charge
from spendmeter_gateway.spend.tracker import SpendTracker
from spendmeter_gateway.spend.window_balance import Acknowledgement

ACCOUNT = "key-day|key=k"
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
PARTITIONS = 2


class Event(NamedTuple):
    """An event of the world; `seq` only if it is this gateway's own."""

    id: int
    cost: int
    window: int
    partition: int
    seq: int | None


class Emitted(NamedTuple):
    """A signal, and what the oracle knows of it."""

    signal: Signal
    includes: frozenset[int]


class World(RuleBasedStateMachine):
    """Partitions, a stream that counts each event once, and one gateway that is told of it in any order."""

    acks = Bundle("acks")
    signals = Bundle("signals")

    @initialize()
    def begin(self) -> None:
        self.spend = SpendTracker()
        self.events: dict[int, Event] = {}
        self.logs: list[list[int]] = [[] for _ in range(PARTITIONS)]
        self.read = [0] * PARTITIONS
        self.counted: dict[int, dict[int, int]] = {}
        self.included: dict[int, set[int]] = {}
        self.unsent: list[int] = []
        self.pending: set[int] = set()
        self.seqs = 0
        self.recorded: set[int] = set()
        self.acknowledged: set[int] = set()
        self.resent: set[int] = set()
        self.bills: set[int] = set()
        self.revision = 1
        self.version = 0
        self.window = 0
        self.held: dict[int, Emitted] = {}

    # What happens outside this gateway.

    @rule(cost=st.integers(0, 50), partition=st.integers(0, PARTITIONS - 1))
    def another_gateway_spends(self, cost: int, partition: int) -> None:
        event = self._event(cost, partition, None)
        self.logs[partition].append(event.id)

    @rule(partition=st.integers(0, PARTITIONS - 1), count=st.integers(1, 5))
    def the_stream_counts(self, partition: int, count: int) -> None:
        for offset in range(
            self.read[partition], min(self.read[partition] + count, len(self.logs[partition]))
        ):
            event = self.events[self.logs[partition][offset]]
            included = self.included.setdefault(event.window, set())
            self.version += event.id not in included
            included.add(event.id)
            self.counted.setdefault(event.window, {})[partition] = offset
            self.read[partition] = offset + 1

    @rule(target=signals)
    def the_stream_is_prompt(self) -> Emitted:
        for partition in range(PARTITIONS):
            self.the_stream_counts(partition, len(self.logs[partition]))
        emitted = self._emit(self.window)
        self.a_signal_comes_perhaps_late_or_again(emitted)
        return emitted

    @rule(target=signals)
    def the_stream_signals(self) -> Emitted:
        return self._emit(self.window)

    @rule(target=signals)
    def the_stream_signals_of_an_earlier_window(self) -> Emitted:
        return self._emit(max(self.window - 1, 0))

    @rule()
    def the_limit_is_raised(self) -> None:
        self.revision += 1

    @rule()
    def the_budget_is_reset_or_its_window_ends(self) -> None:
        self.window += 1
        self.revision += 1

    # What this gateway does and hears.

    @rule(cost=st.integers(0, 50), partition=st.integers(0, PARTITIONS - 1))
    def a_request_finishes(self, cost: int, partition: int) -> None:
        self._record(self._event(cost, partition, None))

    @rule(cost=st.integers(0, 50), partition=st.integers(0, PARTITIONS - 1), is_first=st.booleans())
    def a_bill_is_recorded_that_another_gateway_may_have_sent(
        self, cost: int, partition: int, is_first: bool
    ) -> None:
        event = self._event(cost, partition, None)
        self.bills.add(event.id)
        if not is_first:
            self.logs[partition].append(event.id)
        self._record(event)

    @rule(choice=st.integers(0))
    def another_gateway_sends_the_same_bill(self, choice: int) -> None:
        if self.bills:
            event = self.events[sorted(self.bills)[choice % len(self.bills)]]
            self.logs[event.partition].append(event.id)

    @rule(cost=st.integers(1, 50), partition=st.integers(0, PARTITIONS - 1))
    def a_request_is_answered(self, cost: int, partition: int) -> None:
        event = self._event(cost, partition, None)
        self.pending.add(event.id)
        assert self.spend.answer(UUID(int=event.id), cost, self._charges(event), 0.0)

    @rule(choice=st.integers(0), costs=st.integers(0, 50))
    def it_is_logged_at_last_perhaps_at_another_cost(self, choice: int, costs: int) -> None:
        if self.pending:
            event = self.events[sorted(self.pending)[choice % len(self.pending)]]
            self.pending.discard(event.id)
            assert self.spend.settle(UUID(int=event.id)) == event.cost
            self._record(event._replace(cost=costs))

    @rule(choice=st.integers(0))
    def it_is_never_logged(self, choice: int) -> None:
        if self.pending:
            event_id = sorted(self.pending)[choice % len(self.pending)]
            self.pending.discard(event_id)
            self.spend.settle(UUID(int=event_id))
            assert self.spend.settle(UUID(int=event_id)) is None

    @rule(target=acks)
    def the_sender_sends(self) -> tuple[int, int] | None:
        return self._store(self.unsent.pop(0)) if self.unsent else None

    @rule()
    def the_sender_sends_and_hears_nothing(self) -> None:
        if self.unsent:
            self._store(self.unsent[0])
            self.resent.add(self.unsent[0])

    @rule(ack=consumes(acks))
    def an_acknowledgement_comes(self, ack: tuple[int, int] | None) -> None:
        if ack is not None:
            event = self.events[ack[0]]
            assert event.seq is not None
            self.acknowledged.add(event.id)
            resent = event.id in self.resent
            self.spend.acknowledge(event.seq, Acknowledgement(event.partition, ack[1], 0.0, resent))

    @rule(emitted=signals)
    def a_signal_comes_perhaps_late_or_again(self, emitted: Emitted) -> None:
        self.spend.apply(emitted.signal, MIDNIGHT)
        window = int((emitted.signal.window_start - MIDNIGHT) / timedelta(hours=1))
        held = self.held.get(window)
        if held is None or emitted.signal.order() >= held.signal.order():
            self.held[window] = emitted

    # What must hold.

    @invariant()
    def nothing_is_counted_twice_and_nothing_is_missed(self) -> None:
        for window in range(self.window + 1):
            held = self.held.get(window)
            spent = (held.includes if held else frozenset()) | {
                i for i in self.recorded | self.pending if self.events[i].window == window
            }
            truth = sum(self.events[i].cost for i in spent)
            known = self.spend.known(ACCOUNT, MIDNIGHT + timedelta(hours=window))
            assert known.certain_nanousd <= truth
            assert truth <= known.certain_nanousd + known.doubtful_nanousd

    @invariant()
    def only_what_is_unacknowledged_or_may_have_been_sent_twice_is_in_doubt(self) -> None:
        in_doubt = (self.recorded - self.acknowledged) | self.resent | self.bills
        for window in range(self.window + 1):
            most = sum(self.events[i].cost for i in in_doubt if self.events[i].window == window)
            known = self.spend.known(ACCOUNT, MIDNIGHT + timedelta(hours=window))
            assert 0 <= known.doubtful_nanousd <= most

    @invariant()
    def what_is_pending_is_told(self) -> None:
        for window in range(self.window + 1):
            start = MIDNIGHT + timedelta(hours=window)
            costs = {
                UUID(int=i): self.events[i].cost for i in self.pending if self.events[i].window == window
            }
            assert self.spend.pending(ACCOUNT, start) == costs
            assert self.spend.known(ACCOUNT, start).pending_nanousd == sum(costs.values())

    def _record(self, event: Event) -> None:
        self.seqs += 1
        event = self.events[event.id] = event._replace(seq=self.seqs)
        self.recorded.add(event.id)
        self.unsent.append(event.id)
        windows = self.spend.windows(self._charges(event))
        is_doubtful = event.id in self.bills
        self.spend.record_in(self.seqs, windows, (event.cost,), 0.0, is_doubtful=is_doubtful)

    def _charges(self, event: Event) -> list[Charge]:
        start = MIDNIGHT + timedelta(hours=event.window)
        return [Charge("key-day", ACCOUNT, start, None, NanoUsd(event.cost))]

    def _event(self, cost: int, partition: int, seq: int | None) -> Event:
        event = Event(len(self.events), cost, self.window, partition, seq)
        self.events[event.id] = event
        return event

    def _store(self, event_id: int) -> tuple[int, int]:
        log = self.logs[self.events[event_id].partition]
        log.append(event_id)
        return event_id, len(log) - 1

    def _emit(self, window: int) -> Emitted:
        includes = frozenset(self.included.get(window, ()))
        signal = Signal(
            budget_id="key-day",
            account=ACCOUNT,
            subject={"key": "k"},
            window_start=MIDNIGHT + timedelta(hours=window),
            window_end=None,
            limit_nanousd=NanoUsd(100),
            spent_nanousd=NanoUsd(sum(self.events[i].cost for i in includes)),
            state=State.OK,
            watermark=dict(self.counted.get(window, {})),
            revision=self.revision,
            version=self.version,
            emitted_at=MIDNIGHT,
        )
        return Emitted(signal, includes)


TestKnownSpend = World.TestCase
TestKnownSpend.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
