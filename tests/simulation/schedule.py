"""One schedule: everything that happens, in an order and with faults that the seed alone decides."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

from spendmeter_stream.judge.emission import COALESCE_FOR
from tests.simulation.broker import PARTITIONS, Broker, partition_of
from tests.simulation.budgets import Administrator
from tests.simulation.checks import SignalChecks, Violation
from tests.simulation.gateway import Flight, Gateway, Outbox
from tests.simulation.rest import check_overspend, check_rest
from tests.simulation.workers import (
    Fenced,
    FillerWorker,
    HistoryWorker,
    JudgeWorker,
    Kept,
    MeterWorker,
    Parts,
    Worker,
)

STEPS = (70, 140, 300)
GATEWAYS = 2
MAX_ZOMBIES = 3
MAX_QUIET_ROUNDS = 2_000
SUBJECTS: list[dict[str, Any]] = [
    {"key": key, "team": team, "model": model, "provider": "p", "tags": tags}
    for key, team, tags in (("k1", "t1", ("a",)), ("k2", "t1", ("a", "b")), ("k3", "t2", ()))
    for model in ("m1", "m2")
]
Action = Callable[[], None]


class Schedule:
    """The whole system under one source of chance."""

    def __init__(self, seed: int, parts: Parts) -> None:
        self.random = Random(seed)
        self.parts = parts
        self.broker = Broker()
        self.broker.chance = Random(f"the cluster of {seed}")
        self.broker.on_signal = SignalChecks(self.broker).check
        self.administrator = Administrator(self.broker, self.random)
        self.administrator.begin()
        self.history: dict[UUID, Kept] = {}
        self.history_lags = self.random.choice([0, 0.5, 0.9, 0.9])
        self.workers: list[Worker] = []
        for partition in range(PARTITIONS):
            self.workers += [self._meter(partition), self._judge(partition), self._history(partition)]
        self.workers.append(self._filler())
        self.zombies: list[Worker] = []
        self.flights: list[Flight] = []
        self.is_orderly = self.random.random() < 0.1
        """Every refusal is heeded, no budget changes, nothing is late: then the overspend has a bound."""
        self.gateways = [self._gateway(f"g{n}", []) for n in range(GATEWAYS)]
        self.late_crashes = self.random.choice([0, 2, 5])
        self.seen: Counter[str] = Counter()
        """How often what happened: a schedule in which nothing happens shows nothing."""

    def run(self) -> None:
        """Play the schedule, then let everything come to rest. Raises Violation."""
        actions, weights = zip(*self._actions(), strict=True)
        for action in self.random.choices(actions, weights, k=self.random.choice(STEPS)):
            action()
        self.come_to_rest()
        if self.is_orderly:
            check_overspend(self.broker)
        check_rest(self.broker, self.workers, self.gateways, self.history)

    def _actions(self) -> list[tuple[Action, float]]:
        """Every schedule has faults of its own: some are frequent in it, some do not come at all."""
        always: list[tuple[Action, float]] = [
            (self.request, 20 if self.is_orderly else 6),
            (lambda: self.random.choice(self.gateways).answer(), 3),
            (lambda: self.random.choice(self.gateways).log(), 3),
            (self.send, 5),
            (self.fly, 8),
            (self.read_signals, 5),
            (self.read_budgets, 2),
            (self.work, 28),
            (self.tick, 3),
            (lambda: self.random.choice(self.gateways).prune(), 0.5),
        ]
        faults: list[tuple[Action, float]] = [
            (self.crash, 2),
            (self.zombie_works, 6),
            (self.administrator.change, 0 if self.is_orderly else 1),
            (self.restart_gateway, 0.8),
            (self.roll, 0.3),
            (self.poison, 0.3),
            (self.forge, 0.5),
        ]
        return always + [(a, w * self.random.choice([0, 0.3, 1, 3])) for a, w in faults]

    # Actions.

    def request(self) -> None:
        random = self.random
        subject = dict(random.choice(SUBJECTS))
        if random.random() < 0.05:
            # Nobody else has this one, and it pays nothing: it must leave no trace.
            free = subject | {"tags": (f"free-{random.randrange(3)}",)}
            random.choice(self.gateways).request(free, 0, is_admitted_anyway=True)
        if random.random() < 0.3:
            # The same model by the other name that events have borne.
            subject["model"] = f"p/{subject['model']}"
        cost = random.choice([1, random.randint(1, 1_000), random.randint(1, 1_000)])
        if random.random() < 0.1:
            cost = 0
        if random.random() < 0.05 and not self.is_orderly:
            subject |= {"kind": "correction", "corrects": UUID(int=1)}
            cost = -cost
        gateway = random.choice(self.gateways)
        if random.random() < 0.2 and not self.is_orderly:
            subject["occurred_at"] = gateway.now - timedelta(minutes=random.choice([1, 20, 70]))
        decision = gateway.request(
            subject, cost, is_admitted_anyway=random.random() < 0.5 and not self.is_orderly
        )
        self.seen[type(decision).__name__] += 1

    def send(self) -> None:
        gateway = self.random.choice(self.gateways)
        if len(self.flights) < 12:
            self.flights += gateway.send()

    def fly(self) -> None:
        if not self.flights:
            return
        index = self.random.randrange(len(self.flights))
        flight = self.flights.pop(index)
        fate = self.random.random()
        if fate < 0.1:
            self.seen["lost"] += 1
            return
        self._arrive(flight)

    def _arrive(self, flight: Flight) -> None:
        batch = flight.batch
        if flight.base_offset is None:
            self.seen["resent"] += batch.is_resent
            flight.base_offset = self.broker.append_usage(batch.partition, batch.events)
            self.flights.append(flight)
        elif flight.sender in self.gateways:
            assert flight.sender is not None
            flight.sender.acknowledge(batch, flight.base_offset)

    def read_signals(self) -> None:
        gateway = self.random.choice(self.gateways)
        gateway.read_signals(self.random.randrange(PARTITIONS), self.random.randint(1, 5))

    def read_budgets(self) -> None:
        judges = [w for w in self.workers if isinstance(w, JudgeWorker)]
        readers: list[Gateway | JudgeWorker] = [*self.gateways, *judges]
        self.random.choice(readers).read_budgets(1)

    def work(self) -> None:
        worker = self.random.choice(self.workers)
        if not (isinstance(worker, HistoryWorker) and self.random.random() < self.history_lags):
            worker.step()

    def tick(self) -> None:
        self.broker.pass_time(timedelta(milliseconds=self.random.choice([1, 50, 400, 1_500])))

    def roll(self) -> None:
        self.seen["roll"] += 1
        hours = self.random.choice([0.3, 1, 1, 12, 24, 24 * 7])
        self.broker.pass_time(timedelta(hours=hours))

    def poison(self) -> None:
        self.broker.append_poison(self.random.randrange(PARTITIONS))

    def forge(self) -> None:
        """Somebody without a key writes under a gateway's producer_id, or copies what a gateway wrote."""
        random, gateway = self.random, self.random.choice(self.gateways)
        partition = random.randrange(PARTITIONS)
        stored = [one for one in self.broker.usage[1 - partition] if one.signature is not None]
        if stored and random.random() < 0.5:
            copied = random.choice(stored)
            assert copied.event is not None
            self.broker.append_foreign(partition, copied.event, copied.signature)
            self.seen["copied"] += 1
            return
        subject = random.choice([one for one in SUBJECTS if partition_of(one["key"]) == partition])
        seq = len(gateway.outbox.events) + random.choice([1, 1, 5, 1_000, 10**9, 2**61])
        forged = gateway._event(subject, random.randint(1, 1_000)).model_copy(update={"seq": seq})
        self.broker.append_foreign(
            partition, forged, random.choice([None, *(s.signature for s in stored[-1:])])
        )
        self.seen["forged"] += 1

    def crash(self) -> None:
        """A process dies between two effects, or is only thought dead and goes on for a while."""
        busy = [n for n, worker in enumerate(self.workers) if worker.is_busy]
        # Between two effects is where it hurts.
        index = self.random.choice(busy if busy and self.random.random() < 0.8 else range(len(self.workers)))
        old = self.workers[index]
        if old.is_busy and len(self.zombies) < MAX_ZOMBIES and self.random.random() < 0.6:
            self.zombies.append(old)
            if self.random.random() < 0.3 and not self.is_orderly:
                # What it is about to write is of a budget that its successor knows as another.
                self.administrator.change()
        self.seen["crash" if old.is_busy else "restart"] += 1
        self.workers[index] = self._successor(old)
        self.seen["begins anew"] += self.workers[index].begins_anew

    def zombie_works(self) -> None:
        if not self.zombies:
            return
        index = self.random.randrange(len(self.zombies))
        try:
            zombie = self.zombies[index]
            zombie.end()
            if isinstance(zombie, MeterWorker):
                self.broker.disturbed.add(zombie.partition)
            self.seen["zombie"] += 1
        except Fenced:
            self.zombies.pop(index)

    def restart_gateway(self) -> None:
        index = self.random.randrange(GATEWAYS)
        old = self.gateways[index]
        self.seen["gateway restarted"] += 1
        if self.random.random() < 0.2:
            # A disk that was restored: all of it is sent once more.
            self.seen["outbox restored"] += 1
            old.outbox.position = 0
        self.gateways[index] = self._gateway(old.name, old.outboxes)

    # Rest.

    def come_to_rest(self) -> None:
        """No more faults: everything that is under way arrives, and everybody reads to the end."""
        self.zombies.clear()
        for gateway in self.gateways:
            gateway.finish_calls()
        for _ in range(MAX_QUIET_ROUNDS):
            if self._is_at_rest():
                break
            for flight in list(self.flights):
                self.flights.remove(flight)
                self._arrive(flight)
            for gateway in self.gateways:
                if gateway.has_unsent and not any(f.sender is gateway for f in self.flights):
                    self.flights += gateway.send()
            for worker in self.workers:
                worker.step()
            self._die_late()
        else:
            raise Violation("the system does not come to rest")
        self.broker.pass_time(COALESCE_FOR)
        for worker in self.workers:
            if isinstance(worker, JudgeWorker):
                worker.read_budgets(len(self.broker.budgets))
                worker.finish()
        for gateway in self.gateways:
            gateway.read_budgets(len(self.broker.budgets))
            for partition in range(PARTITIONS):
                gateway.read_signals(partition, len(self.broker.signals[partition]))

    def _die_late(self) -> None:
        """Nothing later makes good what a worker did last: some of the stream's die until the very end."""
        for index, worker in enumerate(self.workers):
            may_die = isinstance(worker, MeterWorker) or (isinstance(worker, JudgeWorker) and worker.is_busy)
            if may_die and self.late_crashes and self.random.random() < 0.2:
                self.late_crashes -= 1
                self.workers[index] = self._successor(worker)

    def _is_at_rest(self) -> bool:
        return not (
            self.flights
            or any(gateway.has_unsent for gateway in self.gateways)
            or any(not worker.is_at_rest for worker in self.workers)
        )

    def _successor(self, old: Worker) -> Worker:
        if isinstance(old, MeterWorker):
            return self._meter(old.partition)
        if isinstance(old, JudgeWorker):
            return self._judge(old.partition)
        if isinstance(old, FillerWorker):
            return self._filler()
        return self._history(old.partition)

    def _gateway(self, name: str, outboxes: list[Outbox]) -> Gateway:
        gateway = Gateway(name, self.broker, self.parts, self.random, outboxes)
        gateway.all = lambda: self.gateways
        gateway.repriced = 0 if self.is_orderly else gateway.repriced
        return gateway

    def _meter(self, partition: int) -> Worker:
        return MeterWorker(partition, self.broker, self.parts, self.random)

    def _judge(self, partition: int) -> Worker:
        return JudgeWorker(partition, self.broker, self.parts, self.random)

    def _history(self, partition: int) -> Worker:
        return HistoryWorker(partition, self.broker, self.parts, self.random, self.history)

    def _filler(self) -> Worker:
        return FillerWorker(self.broker, self.parts, self.random, self.history)
