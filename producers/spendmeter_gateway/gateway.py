"""The gateway of one process: outbox, sender, budgets, signals and admission, wired together.

Kafka has its own thread and event loop, separate from the proxy's. So the gateway also serves a program
without a loop, starts before the first request and ends after the last. A
burst of signals (100,000 at a start) then shares the interpreter in slices and never blocks a loop that
requests wait for. The price is one lock, `GatewayState.lock`, held for microseconds: to decide a request,
to append an event to the outbox and count it, to apply one signal or acknowledgement.
Appending and counting are one step under the lock, so no signal that includes an
event can be applied before the event was counted.

Nothing here raises into a request, and no request waits for Kafka: recorded events are in a file.
"""

import asyncio
import atexit
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from prometheus_client import Counter

from spendmeter.contract.provider_object import ProviderObject, object_event_id
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.prices.book import PriceBook
from spendmeter.runtime import metrics
from spendmeter.topics.check import check_topics
from spendmeter.topics.state import Said, changes, until_changed
from spendmeter_gateway.admission.controller import AdmissionController
from spendmeter_gateway.admission.decide import Denied
from spendmeter_gateway.admission.decision_log import DecisionLog, decision_of
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.admission.reservation_attempt import AdmissionRequest
from spendmeter_gateway.admission.route_admission import RouteAdmission
from spendmeter_gateway.admission.state import GatewayState
from spendmeter_gateway.adoption import Adopter
from spendmeter_gateway.exchange import Exchange
from spendmeter_gateway.model import Caller, UsageDraft
from spendmeter_gateway.objects.follower import ObjectFollower
from spendmeter_gateway.objects.makers import ObjectMakers
from spendmeter_gateway.outbox.kafka import KafkaError
from spendmeter_gateway.outbox.recovery import OrphanedOutbox
from spendmeter_gateway.outbox.sender import Acknowledged, Sender
from spendmeter_gateway.outbox.writer import Outbox, OutboxUnwritable
from spendmeter_gateway.pricing.price_draft import Deployments, UnpricedModels
from spendmeter_gateway.pricing.price_list import PriceList, fallback
from spendmeter_gateway.recorder import Recorder
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_gateway.settlement import Drafts, Settlement

log = logging.getLogger(__name__)

ERRORS = Counter("spendmeter_internal_errors_total", "Bugs of ours that no request saw.", ["where"])

_RETRY_SECONDS = 1.0
WATCHED = (Topic.USAGE, Topic.BUDGETS, Topic.SIGNALS, Topic.DECISIONS, Topic.OBJECTS)
"""The topics that a gateway reads and writes."""
_STOP_MARGIN_SECONDS = 5.0
_DECISIONS_WITHIN_SECONDS = 1.0


class Gateway:
    """Admits and records from any thread or loop, between `start` and `stop`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._signing_keys = settings.read_signing_keys()
        self.views = GatewayState(settings)
        self._decision_log = DecisionLog(settings)
        self.name = settings.gateway
        self.objects = ObjectMakers(settings, self._object_known)
        self.follower = ObjectFollower(
            settings.follow_objects_seconds, lambda name: self.has_recorded(object_event_id(name))
        )
        self._controller = AdmissionController(settings, self.views, self._refused)
        self.routes = RouteAdmission(settings, self.views, self._controller)
        self.adopter = Adopter(settings, self.views)
        self.unpriced = UnpricedModels()
        self._prices = PriceList(settings.pricebook, fallback(settings.price_fallback), self.unpriced.forget)
        self._recorder = Recorder(settings, self.views, self._wake)
        self._settlement = Settlement(
            settings.pending_max_seconds,
            self.record,
            self.release,
            self.answered,
            self.views.strict.holds.__contains__,
        )
        self._predecessors: Sequence[OrphanedOutbox] = ()
        self._sender: Sender | None = None
        self._resent_to_seq = 0
        self._thread = threading.Thread(target=self._run, name="spendmeter", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._has_outbox = asyncio.Event()

    def start(self) -> None:
        """Open the outbox and begin to read and send. This works even without Kafka or the disk."""
        self._open_outbox()
        try:
            metrics.serve(self._settings, ports=self._settings.metrics_ports)
        except metrics.NotServed as error:
            # Of a proxy's workers, as many have a page as there are ports.
            log.warning("%s", error)
        self._thread.start()
        metrics.READY.watch(self._loop)
        # uvicorn dies by the signal that it was sent, and then this is not called. Nothing is lost:
        # the next start sends what the outbox holds.
        atexit.register(self.stop)

    def stop(self) -> None:
        """Send what is in the outbox, for at most `drain_seconds`, and stop. May be called again."""
        atexit.unregister(self.stop)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(self._settings.drain_seconds + _STOP_MARGIN_SECONDS)

    @property
    def price_book(self) -> PriceBook | None:
        """The operator's prices in force now."""
        return self._prices.book

    async def budgets_read(self) -> None:
        """Return once every budget stored in Kafka by now is in force here. Raises KafkaError."""
        reading = asyncio.run_coroutine_threadsafe(self.views.budgets.catch_up(), self._loop)
        await asyncio.wrap_future(reading)

    async def objects_read(self) -> None:
        """Return once every object published by gateways until now is known here. Raises KafkaError."""
        reading = asyncio.run_coroutine_threadsafe(self.objects.catch_up(), self._loop)
        await asyncio.wrap_future(reading)

    def has_recorded(self, event_id: UUID) -> bool:
        """Whether this gateway has recorded that event, as far as it remembers."""
        return self._recorder.has_recorded(event_id)

    def record(self, draft: UsageDraft, ends: Hashable = None) -> UsageEvent | None:
        """Record an event and end the request `ends` with it; None if LiteLLM logged it before."""
        event = self._recorder.record(self._prices.apply(draft), ends)
        if event is not None:
            self.unpriced.note(event, time.monotonic())
        return event

    def settle(self, draft: UsageDraft | None, ends: Hashable) -> UsageEvent | None:
        """End a request, if it is known, with what it cost; with None where that is nothing."""
        if draft is not None:
            return self.record(draft, ends)
        if ends is not None:
            self.release(ends)
        return None

    def answered(self, request: UUID, draft: UsageDraft, begun_at: datetime) -> None:
        """Count the answer of a request that began then, until its event is recorded."""
        self._recorder.answered(request, self._prices.apply(draft), begun_at)

    def admits_at_once(self, caller: Caller) -> bool:
        """Whether `admit` is sure to let the request through."""
        return self.views.admits(caller.subject)

    async def admit(
        self,
        caller: Caller,
        deployments: Deployments = tuple,
        asking: AdmissionRequest | None = None,
        *,
        holds: bool = True,
    ) -> Refusal | None:
        """Admit a request (None) or refuse it; waits only as long as the settings say.

        Under `strict` budgets the possible cost of `asking` is held until `record` or `release` ends it,
        unless its calls will be judged one by one (`holds` is False).
        """
        subject = caller.subject

        def is_unpriced() -> bool:
            return self.unpriced.knows(subject.model_group, deployments, time.monotonic())

        return await self._controller.admit(
            caller, lambda: self.views.decide(subject, is_unpriced), asking, holds=holds
        )

    def release(self, request: Hashable) -> None:
        """End a request without an event: nothing counts or is held for it any longer."""
        self._recorder.end(request)

    def exchange_ended(self, exchange: Exchange, drafts: Drafts) -> None:
        """End an HTTP exchange: calls that LiteLLM does not log are settled soon. Any thread."""
        self._settlement.add(exchange, drafts)

    def _refused(self, refusal: Refusal) -> None:
        outbox, pending = self._recorder.outbox, self._pending_at(refusal.refuse)
        producer_id, seq = (None, 0) if outbox is None else (outbox.producer_id, outbox.last_seq)
        self._decision_log.add(decision_of(refusal, self._settings.gateway, producer_id, seq, pending))

    def _pending_at(self, refuse: Denied) -> Mapping[UUID, int]:
        if refuse.account is None or refuse.window is None:
            return {}
        return self.views.pending.of(refuse.account.name, refuse.window.start)

    def _open_outbox(self) -> None:
        root = self._settings.data_dir / "outbox"
        try:
            # If our outbox could not be opened, these are already locked and would not be found again.
            self._predecessors = self._predecessors or Outbox.predecessors(
                root, can_sign=bool(self._signing_keys)
            )
            self._recorder.outbox = Outbox.open(
                root,
                max_bytes=self._settings.outbox_max_bytes,
                fsync=self._settings.outbox_fsync,
                is_signed=bool(self._signing_keys),
                predecessors=self._predecessors,
            )
        except (OSError, OutboxUnwritable) as error:
            log.error("the outbox cannot be opened, events are LOST until it can be: %s", error)

    def _object_known(self, one: ProviderObject) -> None:
        if one.gateway == self.name:
            self.follower.follow(one)

    def _wake(self, is_urgent: bool) -> None:
        if self._sender is not None and not self._loop.is_closed():
            self._sender.wake(is_urgent=is_urgent)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        tasks = [
            asyncio.create_task(_again_and_again(what, run))
            for what, run in (
                ("sender", self._send),
                ("decisions", self._decision_log.run),
                ("objects", self.objects.run),
                ("makers", self.objects.send),
                ("budgets", self.views.budgets.run),
                ("signals", self.views.signals.run),
                ("ready", self._become_ready),
                ("adoption", self.adopter.run),
                ("prune", self.views.prune),
                ("prices", self._prices.follow),
                ("sweep", self.views.strict.sweep),
                ("settlement", self._settlement.run),
                ("topics", self._watch_topics),
            )
        ]
        await self._stopping.wait()
        metrics.READY.set(0)
        self._settlement.settle_all()
        if self._sender is not None and not await self._sender.drain(self._settings.drain_seconds):
            log.warning("Kafka has not stored everything; the next start sends the rest of the outbox")
        await self._decision_log.drain(_DECISIONS_WITHIN_SECONDS)
        await self.objects.drain(_DECISIONS_WITHIN_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._recorder.close()

    async def _send(self) -> None:
        while self._recorder.outbox is None:
            await asyncio.sleep(_RETRY_SECONDS)
            self._open_outbox()
        self._has_outbox.set()
        outbox, left, self._predecessors = self._recorder.outbox, self._predecessors, ()
        self._sender = Sender(
            self._settings, outbox, left, self._acknowledged, self._settings.linger_ms / 1000
        )
        try:
            await self._sender.run()
        finally:
            # If it runs again, it resends what it had sent without an answer.
            self._resent_to_seq = outbox.last_seq

    def _acknowledged(self, stored: Acknowledged) -> None:
        resent = stored.resent or stored.seq <= self._resent_to_seq
        self.views.acknowledged(stored, resent=resent)

    async def _watch_topics(self) -> None:
        """Log what is wrong with the topics, and when they change. Requests are served all the same."""
        said = Said(log)
        names = [self._settings.topic(topic) for topic in WATCHED]
        while True:
            try:
                checked = await check_topics(self._settings, WATCHED, whatever_partitions=True)
            except KafkaError:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            for found in checked.findings:
                said.say(found.sentence)
            now = await until_changed(self._settings, names, checked.states)
            said.say(
                f"{'; '.join(changes(checked.states, now))}: no budget counts this gateway's events until"
                " the stream has moved to topics that continue these (`spendmeter move --to-prefix NEW`)"
            )

    async def _become_ready(self) -> None:
        await self.views.all_read()
        await self._has_outbox.wait()
        if self._stopping.is_set():
            return
        metrics.READY.set(1)
        log.info("ready: %d budgets, %d windows", len(self.views.budgets.book), len(self.views.spend))
        await asyncio.Future()


async def _again_and_again(what: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run for ever. A bug is logged and the proxy keeps serving; elsewhere it would stop the process."""
    while True:
        try:
            await run()
        except Exception:
            ERRORS.labels(what).inc()
            log.exception("%s failed, starting again", what)
        await asyncio.sleep(_RETRY_SECONDS)


_the_gateway: Gateway | None = None
_starting = threading.Lock()


def the_gateway(settings: GatewaySettings) -> Gateway:
    """The one gateway of this process, started at the first call; a forked child gets its own."""
    global _the_gateway
    if _the_gateway is not None:
        return _the_gateway
    with _starting:
        if _the_gateway is None:
            gateway = Gateway(settings)
            gateway.start()
            _the_gateway = gateway
        return _the_gateway


def _forget_the_parents() -> None:
    global _the_gateway
    _the_gateway = None


os.register_at_fork(after_in_child=_forget_the_parents)
