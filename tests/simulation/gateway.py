"""A gateway process: the real admission and known spend, over a model of outbox and sender.

The outbox survives the process; what the process knew of its own spend does not. A chunk becomes
one batch per partition. A batch may be stored and its acknowledgement lost, or be stored much
later than the sender gave it up; it is sent again, as it was, until an acknowledgement comes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from spendmeter.contract.decision import Why
from spendmeter.contract.signal import Signal
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.matching import Account, BudgetBook, subject_of
from spendmeter.domain.writers import SIGNED
from spendmeter_gateway.admission.decide import Decision, DecisionContext, Denied, decide
from spendmeter_gateway.model import Policy
from spendmeter_gateway.spend.charge_cache import ChargeCache
from spendmeter_gateway.spend.charges import charges_at_answer, charges_of
from spendmeter_gateway.spend.tracker import SpendTracker
from spendmeter_gateway.spend.window_balance import Acknowledgement
from tests.simulation.broker import PARTITIONS, Broker, partition_of
from tests.simulation.calls import Call, Ledger
from tests.simulation.checks import check_known, check_known_enough, check_refusal
from tests.simulation.workers import Parts

MAX_CHUNK = 4
STREAMED = 0.3
PENDING_MAX_SECONDS = 60.0
POLICY = Policy(on_stale="allow", stale_after_seconds=30.0, ack_wait_seconds=5.0)


@dataclass
class Outbox:
    """The file: what was recorded, and how far the position file says it was acknowledged."""

    producer_id: str
    events: list[UsageEvent] = field(default_factory=list)
    position: int = 0


@dataclass
class Batch:
    """One attempt to store some events of one outbox in one partition."""

    outbox: Outbox
    partition: int
    events: list[UsageEvent]
    is_resent: bool = False


@dataclass
class Flight:
    """A batch on its way to the broker, or its acknowledgement on the way back."""

    batch: Batch
    sender: "Gateway | None"
    base_offset: int | None = None


class Gateway:
    """One process; `restart` is its successor on the same host."""

    def __init__(
        self, name: str, broker: Broker, parts: Parts, random: Random, outboxes: list[Outbox]
    ) -> None:
        self.name, self.broker, self.parts, self.random = name, broker, parts, random
        self.all: Callable[[], list[Gateway]] = lambda: [self]
        self.repriced = 0.1
        """The part of its calls that LiteLLM logs at another cost than it answered them at."""
        self.skew = timedelta(seconds=random.choice([0, 0, 0, -40, 40]))
        # By its own clock, which may be far off when it begins.
        begun_at = broker.now + self.skew + timedelta(days=random.choice([0, 0, 0, -9_000, 3]))
        self.outbox = Outbox(f"{_uuid7(begun_at, random)}{SIGNED}")
        self.outboxes = [o for o in outboxes if o.position < len(o.events)] + [self.outbox]
        self.sent = self.outboxes[0].position
        self.unacknowledged: list[Batch] = []
        self.chunk_end = self.sent
        self.book = BudgetBook()
        self.budgets_read = 0
        self.spend, self.charged = SpendTracker(), ChargeCache()
        self.signals_read = [0] * PARTITIONS
        self.removed: set[str] = set()
        self.calls: list[Call] = []
        self.ledger = Ledger()
        # Until all budgets have been read, none is enforced.
        self.read_budgets(len(broker.budgets))

    @property
    def now(self) -> datetime:
        return self.broker.now + self.skew

    @property
    def seconds(self) -> float:
        return self.broker.now.timestamp()

    # Requests.

    def request(self, subject: dict[str, Any], cost_nanousd: int, is_admitted_anyway: bool) -> Decision:
        """One request asks; `is_admitted_anyway`: it was, long ago. What is late or a credit is recorded."""
        event = self._event(subject, cost_nanousd)
        accounts = self.book.accounts_of(subject_of(event))
        moment = DecisionContext(self.now, self.seconds, budgets_are_read=True, views_are_current=True)
        decision = decide(self.book, accounts, self.spend, moment, POLICY)
        self._check(decision, accounts)
        is_heeded = self.parts.refusals == "heeded" and not is_admitted_anyway
        if isinstance(decision, Denied) and is_heeded:
            return decision
        if "occurred_at" in subject or cost_nanousd < 0:
            self.record(event)
            return decision
        self.calls.append(Call(event.event_id, subject, cost_nanousd, self.now))
        for account in accounts:
            self._allow(account, cost_nanousd)
        return decision

    def _allow(self, account: Account, cost_nanousd: int) -> None:
        """Note what the account may cost in the end if this was the last call that was admitted."""
        window = self.book.window_of(account.budget, self.now)
        if window is None:
            return
        key = (account.name, window.start)
        known = self.spend.known(*key)
        # Own events and answers are known, so none of them is here beside what is in doubt.
        recorded = sum(r.event.cost_nanousd for r in self.broker.truth.in_window(account.name, window))
        told = known.signal_nanousd + self.ledger.uncovered_nanousd(key, self.broker.truth)
        running = sum(
            call.unknown_nanousd(gateway is self) for gateway in self.all() for call in gateway.calls
        )
        past = max(0, recorded - told) + known.doubtful_nanousd + running
        allowed = account.budget.limit_at(self.now) - 1 + past
        self.broker.allowed[key] = max(allowed, self.broker.allowed.get(key, 0))
        # A gateway whose clock is behind admits in the window before what may end in one that others are in.
        for name, start in self.broker.allowed:
            if name == account.name and start > window.start:
                self.broker.allowed[name, start] += cost_nanousd

    def answer(self) -> None:
        """A call is answered; but of a stream only the log event tells what it cost."""
        waiting = [call for call in self.calls if call.answered is None]
        if not waiting:
            return
        call = self.random.choice(waiting)
        cost = call.cost_nanousd
        if self.random.random() < self.repriced:
            cost = self.random.randint(0, 2 * cost)
        begun, seconds = call.begun_at, (self.now - call.begun_at).total_seconds()
        occurred = min(begun + timedelta(seconds=self.random.random() * seconds), self.now)
        call.answered = self._event(call.fields | {"event_id": call.request, "occurred_at": occurred}, cost)
        if self.random.random() >= STREAMED:
            self._answer(call)

    def _answer(self, call: Call) -> None:
        told = self._event(call.fields | {"event_id": call.request}, call.cost_nanousd)
        charges = charges_at_answer(self.book, told, call.begun_at, self.now)
        if self.parts.answers == "in the window of the moment":
            charges = charges_of(self.book, told, self.now)
        call.is_pending = self.spend.answer(call.request, call.cost_nanousd, charges, self.seconds)
        self.ledger.answer(call.request, charges)

    def log(self) -> None:
        """LiteLLM logs a call that was answered, in any order."""
        if answered := [call for call in self.calls if call.answered is not None]:
            self._log(self.random.choice(answered))

    def finish_calls(self) -> None:
        while any(call.answered is None for call in self.calls):
            self.answer()
        while self.calls:
            self.log()

    def _log(self, call: Call) -> None:
        assert call.answered is not None
        self.calls.remove(call)
        if self.parts.answers != "beside their events":
            self.spend.settle(call.request)
        self.ledger.settle(call.request)
        self.record(call.answered.model_copy(update={"seq": len(self.outbox.events) + 1}))

    def record(self, event: UsageEvent) -> None:
        """Append to the outbox and count, in one step: what was appended survives everything."""
        self.outbox.events.append(event)
        self.broker.truth.record(event)
        charges = charges_of(self.book, event, self.now)
        windows, costs_nanousd = self.charged.where(event, self.book, self.spend, self.now)
        self.spend.record_in(event.seq, windows, costs_nanousd, self.seconds)
        self.ledger.record(event.event_id, charges)

    def _event(self, fields: dict[str, Any], cost_nanousd: int) -> UsageEvent:
        return UsageEvent(
            producer_id=self.outbox.producer_id,
            seq=len(self.outbox.events) + 1,
            started_at=self.now,
            cost_source=CostSource.LITELLM,
            gateway=self.name,
            **{
                "event_id": UUID(int=self.random.getrandbits(128)),
                "cost_nanousd": cost_nanousd,
                "occurred_at": self.now,
                **fields,
            },
        )

    def _check(self, decision: Decision, accounts: tuple[Account, ...]) -> None:
        for account in accounts:
            self._check_account(account)
        if isinstance(decision, Denied) and decision.why is Why.LIMIT_REACHED:
            check_refusal(self.broker, decision, self.calls)

    def _check_account(self, account: Account) -> None:
        window = self.book.window_of(account.budget, self.now)
        if window is not None:
            known = self.spend.known(account.name, window.start)
            check_known(self.broker, account, window, known, self.calls)
            least = self.ledger.least_nanousd((account.name, window.start), self.broker.truth)
            check_known_enough(account, window, known, least)

    # The sender.

    def send(self) -> list[Flight]:
        """Begin the next chunk, or send again what has waited too long for its acknowledgement."""
        if self.unacknowledged:
            if self.parts.sender == "gives up":
                # As if too few copies were as good as stored.
                self.unacknowledged = []
                return self._next_chunk()
            if self.parts.sender == "overtakes":
                # The next chunk goes out beside the one that failed.
                waiting, self.unacknowledged = self.unacknowledged, []
                flights = self._next_chunk()
                self.unacknowledged += waiting
                return flights + self._resend(waiting)
            return self._resend(self.unacknowledged)
        return self._next_chunk()

    def _next_chunk(self) -> list[Flight]:
        if self.chunk_end > self.sent:
            self.sent = self.chunk_end
            if self.random.random() < 0.7:
                self.outboxes[0].position = self.sent
        while len(self.outboxes) > 1 and self.sent == len(self.outboxes[0].events):
            self.outboxes[0].position = self.sent
            self.outboxes.pop(0)
            self.sent = self.chunk_end = self.outboxes[0].position
        outbox = self.outboxes[0]
        chunk = outbox.events[self.sent : self.sent + self.random.randint(1, MAX_CHUNK)]
        self.chunk_end = self.sent + len(chunk)
        for partition in range(PARTITIONS):
            if events := [e for e in chunk if partition_of(e.key) == partition]:
                self.unacknowledged.append(Batch(outbox, partition, events))
        return [Flight(batch, self) for batch in self.unacknowledged]

    def _resend(self, batches: list[Batch]) -> list[Flight]:
        for batch in batches:
            batch.is_resent = True
        return [Flight(batch, self) for batch in batches]

    def acknowledge(self, batch: Batch, base_offset: int) -> None:
        if not any(batch is waiting for waiting in self.unacknowledged):
            return
        self.unacknowledged = [waiting for waiting in self.unacknowledged if waiting is not batch]
        if batch.outbox is self.outbox or self.parts.acknowledges == "predecessors' events too":
            resent = batch.is_resent and self.parts.resends == "told"
            for index, event in enumerate(batch.events):
                at = Acknowledgement(batch.partition, base_offset + index, self.seconds, resent)
                if self.parts.own_spend == "forgotten when acknowledged":
                    at = at._replace(offset=-1)
                self.spend.acknowledge(event.seq, at)
                if self.parts.answers == "until the next acknowledgement":
                    self.spend.expire(self.seconds + 1)
                for account in self.book.accounts_of(subject_of(event)):
                    self._check_account(account)

    @property
    def has_unsent(self) -> bool:
        return (
            self.chunk_end > self.sent
            or any(o.events[self.sent :] for o in self.outboxes[:1])
            or len(self.outboxes) > 1
        )

    # What it reads.

    def read_budgets(self, count: int) -> None:
        for budget_id, budget in self.broker.budgets[self.budgets_read : self.budgets_read + count]:
            if budget is None:
                self.book.remove(budget_id)
                self.removed.add(budget_id)
            else:
                self.book.put(budget)
                self.removed.discard(budget_id)
            self.budgets_read += 1

    def prune(self) -> None:
        for event_id in self.spend.expire(self.seconds - PENDING_MAX_SECONDS):
            self.ledger.settle(event_id)
            for call in self.calls:
                call.is_pending &= call.request != event_id
        self.ledger.prune(self.book, self.now, self.removed)
        self.spend.prune(self.spend.keys(), self.now, self.removed.__contains__)

    def read_signals(self, partition: int, count: int) -> None:
        at = self.signals_read[partition]
        for signal in self.broker.signals[partition][at : at + count]:
            self.signals_read[partition] += 1
            if isinstance(signal, Signal):
                self._take(signal)

    def _take(self, signal: Signal) -> None:
        if self.parts.own_windows == "together":
            known = self.book.get(signal.budget_id)
            window = self.book.window_of(known, self.now) if known else None
            if window is not None:
                changed = {"window_start": window.start, "window_end": window.end}
                signal = signal.model_copy(update=changed)
        if self.parts.own_spend == "under the watermark is counted":
            signal = signal.model_copy(update={"watermark": {}})
        self.spend.apply(signal, self.now)
        if signal.window_end is None or self.now < signal.window_end:
            self.ledger.take(signal)
        if (budget := self.book.get(signal.budget_id)) is not None:
            self._check_account(Account(budget, signal.account, ()))


def _uuid7(at: datetime, random: Random) -> UUID:
    bits = random.getrandbits(80) & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return UUID(int=int(at.timestamp() * 1000) << 80 | bits)
