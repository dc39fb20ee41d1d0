"""One route at work: read alerts, offer each until it is accepted or refused, write that down, commit.

Each route is a consumer group of its own, so a receiver that hangs delays no other. A crash at any point
repeats what was not written down yet, under the same id. Alerts of one account go out in their order.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata
from prometheus_client import Counter, Gauge, Histogram

from spendmeter.contract.alert import MAX_REASON_CHARS, Alert, AlertDelivery, DeliveryOutcome
from spendmeter.contract.dead_letter import Reason
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import consumer, start
from spendmeter.kafka.groups import ALERTS_GROUP, committed_by
from spendmeter.runtime.process import pause, run_until
from spendmeter.topics.state import Said, topic_states
from spendmeter.values.account import account_name
from spendmeter.values.times import NO_WINDOWS_FROM
from spendmeter_sinks.alerts.delivery_log import DeliveryLog, RouteState
from spendmeter_sinks.alerts.message import Message, MessageContexts, render, render_digest
from spendmeter_sinks.alerts.receivers import Accepted, Later, Receiver, Refused
from spendmeter_sinks.alerts.routes import Route, closes, due, next_reminder, routes_of, span
from spendmeter_sinks.alerts.settings import AlertSettings

log = logging.getLogger(__name__)

SENT = Counter("spendmeter_alerts_sent_total", "Messages that a receiver accepted.", ["route"])
SKIPPED = Counter("spendmeter_alerts_skipped_total", "Alerts that are not sent.", ["route"])
FAILED = Counter("spendmeter_alerts_failures_total", "Offers that a receiver did not accept.", ["route"])
REFUSED = Counter("spendmeter_alert_records_refused_total", "Records on spend.alerts that are no alert.")
HELD = Gauge(
    "spendmeter_alerts_held", "Alerts that wait for a digest, quiet hours or an escalation.", ["route"]
)
OLDEST = Gauge(
    "spendmeter_alerts_oldest_unsent_seconds",
    "Age of the oldest alert that a receiver has not accepted yet; 0 while there is none.",
    ["route"],
)
SECONDS = Histogram(
    "spendmeter_alerts_seconds",
    "From the crossing to the receiver, of alerts that nothing held.",
    ["route"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600),
)

POLL_MS = 500
MAX_RECORDS_PER_POLL = 200
COMMIT_EVERY_SECONDS = 1.0
"""What is read again after a crash is known by its id, so there is no hurry."""
RETRY_KAFKA_SECONDS = 1.0
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 60.0
MAX_REFUSALS = 3
"""So often a message is offered that the receiver will not have: its operator may be at work on it."""
MAX_DIGEST = 200
"""Alerts in one message; more are sent as several."""
RECOVERED_FIRST = "it recovered before it was due"
RECOVERED_SINCE = "it recovered: no more reminders"
FINISH_WITHIN_SECONDS = 10.0
SESSION_TIMEOUT_MS = 10_000


class Clock(NamedTuple):
    """Time and chance, so that tests can have their own."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    chance: Callable[[], float] = random.random


class RouteRelay(ConsumerRebalanceListener):  # type: ignore[misc]
    """One route of the relay, wherever its group's only partition is."""

    def __init__(
        self,
        settings: AlertSettings,
        routes: Sequence[Route],
        route: Route,
        receiver: Receiver,
        contexts: MessageContexts,
        deliveries: DeliveryLog,
        clock: Clock = Clock(),  # noqa: B008
    ) -> None:
        self._settings, self._routes, self._route = settings, routes, route
        self._receiver, self._contexts = receiver, contexts
        self._deliveries, self._clock = deliveries, clock
        self._partition = TopicPartition(settings.topic(Topic.ALERTS), 0)
        self._group = f"{ALERTS_GROUP}.{route.name}"
        self._incarnation = ""
        self._assigned, self._stop = asyncio.Event(), asyncio.Event()
        self._again = asyncio.Event()
        self._assignment = 0
        """Which one it is: a later one may come before the end of what the earlier one led to is seen."""
        self._work: asyncio.Task[None] | None = None
        self._state = RouteState()
        self._open_at = 0.0
        """The loop's time before which the receiver is left in peace."""
        self._failures = 0
        """In a row."""
        self._unsent: dict[int, datetime] = {}
        self._said = Said(log)
        self.ready = asyncio.Event()
        """Set once this process has the route, or knows that another has it."""
        for metric in (SENT, SKIPPED, FAILED):
            metric.labels(route.name)
        HELD.labels(route.name).set_function(lambda: len(self._state.held))
        OLDEST.labels(route.name).set_function(self._oldest_seconds)

    def _oldest_seconds(self) -> float:
        oldest = min(self._unsent.values(), default=None)
        return (self._clock.now() - oldest).total_seconds() if oldest else 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; what is on its way then is finished, and the rest stays in Kafka."""
        self._stop = stop
        while not stop.is_set():
            try:
                await self._follow()
            except KafkaError as error:
                self._said.say(f"route {self._route.name}: cannot reach Kafka, trying again: {error!r}")
            await pause(stop, RETRY_KAFKA_SECONDS)
        await self._receiver.close()

    def begin_again(self) -> None:
        """Go on as if the process had just been started."""
        self._again.set()
        if self._work is not None:
            self._work.cancel()

    # The two are called by aiokafka, which only logs what they raise.
    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._assigned.clear()
        work, self._work = self._work, None
        if work is not None and work is not asyncio.current_task():
            work.cancel()
            await asyncio.wait([work])

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        if assigned:
            self._assignment += 1
            self._assigned.set()
        else:
            self.ready.set()

    async def _follow(self) -> None:
        kafka = consumer(
            self._settings,
            group=self._group,
            group_instance_id=self._settings.alerts_instance,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=SESSION_TIMEOUT_MS // 5,
        )
        kafka.subscribe([self._partition.topic], listener=self)
        self._again.clear()
        try:
            await start(kafka)
            # A consumer learns of a topic of the same name within minutes, a new one at once.
            while not (self._stop.is_set() or self._again.is_set()):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._assigned.wait(), POLL_MS / 1_000)
                if self._assigned.is_set():
                    await self._work_until_revoked(kafka)
        finally:
            await self.on_partitions_revoked(set())
            with suppress(TimeoutError):
                await asyncio.wait_for(kafka.stop(), FINISH_WITHIN_SECONDS)

    async def _work_until_revoked(self, kafka: AIOKafkaConsumer) -> None:
        assignment = self._assignment
        work = self._work = asyncio.create_task(self._relay(kafka))
        # An offer that is under way may yet be accepted, and need not be made again then.
        await run_until(self._stop, work, finish_within_seconds=FINISH_WITHIN_SECONDS)
        try:
            await work
        except (CommitFailedError, IllegalStateError) as error:
            log.info("route %s: its group has moved on: %s", self._route.name, error)
            if assignment == self._assignment:
                self._assigned.clear()
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            if self._stop.is_set():
                return
            log.info("route %s was given to another process", self._route.name)

    async def _relay(self, kafka: AIOKafkaConsumer) -> None:
        self._unsent.clear()
        self._state = await self._deliveries.read(self._route.name)
        await self._begin(kafka)
        self.ready.set()
        loop = asyncio.get_running_loop()
        done, commit_at = None, loop.time()
        # What is held may be over by what has come meanwhile.
        backlog_end = (await kafka.end_offsets([self._partition]))[self._partition]
        while not self._stop.is_set():
            has_read_backlog = await kafka.position(self._partition) >= backlog_end
            if has_read_backlog:
                await self._send_due()
            wait_ms = self._patience_ms() if has_read_backlog else POLL_MS
            batches = await kafka.getmany(timeout_ms=wait_ms, max_records=MAX_RECORDS_PER_POLL)
            for records in batches.values():
                await self._handle(records)
                if self._unsent:
                    return  # stopped before all was accepted: it is read again, and what was, is known
                done = records[-1].offset + 1
            if done is not None and loop.time() >= commit_at:
                await self._commit(kafka, done)
                done, commit_at = None, loop.time() + COMMIT_EVERY_SECONDS
        if done is not None:
            await self._commit(kafka, done)

    async def _begin(self, kafka: AIOKafkaConsumer) -> None:
        """Go on where the route was left; a new route begins with what comes from now on."""
        states = await topic_states(kafka._client, [self._partition.topic])
        self._incarnation = states[self._partition.topic].incarnation
        committed = (await committed_by(self._settings, self._group, [self._partition])).get(self._partition)
        if committed is not None and committed.metadata == self._incarnation:
            kafka.seek(self._partition, committed.offset)
            return
        began = self._state.began
        if began is not None and began.offset is not None and began.incarnation == self._incarnation:
            # Kafka has forgotten the group, which was away for long; what was sent is known by its id.
            kafka.seek(self._partition, began.offset)
            return
        if committed is not None or began is not None:
            # The topic was made anew: all of it is new.
            await kafka.seek_to_beginning(self._partition)
            return
        ends = await kafka.end_offsets([self._partition])
        began_now = AlertDelivery(
            route=self._route.name,
            alert_id=None,
            outcome=DeliveryOutcome.STARTED,
            at=self._clock.now(),
            offset=ends[self._partition],
            incarnation=self._incarnation,
        )
        await self._write([began_now])
        await self._commit(kafka, ends[self._partition])
        kafka.seek(self._partition, ends[self._partition])
        log.info("route %s begins with what comes from now on", self._route.name)

    def _patience_ms(self) -> int:
        """Until the next that is due; never 0, with which a poll would let nobody else run."""
        due_at = self._state.next_due
        if due_at is None:
            return POLL_MS
        left = (due_at - self._clock.now()).total_seconds()
        return max(1, min(int(1_000 * left), POLL_MS))

    async def _commit(self, kafka: AIOKafkaConsumer, offset: int) -> None:
        await kafka.commit({self._partition: OffsetAndMetadata(offset, self._incarnation)})

    async def _write(self, deliveries: Sequence[AlertDelivery]) -> None:
        """Stored first, believed then."""
        await self._deliveries.write(deliveries)
        for delivery in deliveries:
            if delivery.route == self._route.name:
                self._state.apply(delivery)
            if delivery.outcome is DeliveryOutcome.SKIPPED:
                SKIPPED.labels(delivery.route).inc()

    async def _handle(self, records: Sequence[ConsumerRecord]) -> None:
        """Deal with each of these records: hold it, skip it, or send it and return once that is done."""
        now = self._clock.now()
        lanes: dict[str, list[tuple[int, Alert]]] = defaultdict(list)
        alerts = {record.offset: alert for record in records if (alert := _alert_in(record)) is not None}
        ours = set()
        for offset, alert in alerts.items():
            await self._close(alert, now)
            if alert.alert_id in ours or self._state.knows(alert.alert_id):
                continue
            if not await self._is_ours(alert, now):
                continue
            if (put_off := self._put_off(alert, alerts.values(), now)) is not None:
                await self._write([put_off])
                continue
            ours.add(alert.alert_id)
            account = alert.signal.account if alert.signal else account_name("", alert.subject.items())
            lanes[account].append((offset, alert))
            self._unsent[offset] = alert.emitted_at
        await self._contexts.learn(alert for lane in lanes.values() for _, alert in lane)
        free = asyncio.Semaphore(self._receiver.lanes)
        await _all(self._send_lane(lane, free) for lane in lanes.values())

    async def _is_ours(self, alert: Alert, now: datetime) -> bool:
        found = routes_of(self._routes, alert)
        if not found and self._route is self._routes[0]:
            # One of the routes says it for all.
            await self._write([_delivery("", alert, DeliveryOutcome.SKIPPED, now, "no route matches")])
        return self._route in found

    def _put_off(self, alert: Alert, others: Iterable[Alert], now: datetime) -> AlertDelivery | None:
        """That it is held, or need not be sent at all; None where it is sent now."""
        if self._route.after is not None and any(closes(other, alert) for other in others):
            return _delivery(self._route.name, alert, DeliveryOutcome.SKIPPED, now, RECOVERED_FIRST)
        digest_at = min(
            (one.due_at for one in self._state.held.values() if one.due_at is not None), default=None
        )
        found = due(self._route, alert, now, digest_at)
        if found is None:
            return None
        return _delivery(self._route.name, alert, DeliveryOutcome.HELD, now, found.why, due_at=found.at)

    async def _close(self, recovered: Alert, now: datetime) -> None:
        """What an account's recovery ends: an escalation that has not gone out, and reminders."""
        ended = []
        if self._route.after is not None:
            ended += [
                _delivery(
                    self._route.name,
                    one.alert,
                    DeliveryOutcome.SKIPPED,
                    now,
                    RECOVERED_FIRST,
                )
                for one in self._state.held.values()
                if one.alert is not None and closes(recovered, one.alert)
            ]
        ended += [
            one.model_copy(update={"due_at": None, "at": now, "reason": RECOVERED_SINCE})
            for one in self._state.reminding.values()
            if one.alert is not None and closes(recovered, one.alert)
        ]
        if ended:
            await self._write(ended)

    async def _send_lane(self, lane: Iterable[tuple[int, Alert]], free: asyncio.Semaphore) -> None:
        async with free:
            for offset, alert in lane:
                message = render(self._route, alert, self._contexts.of(alert))
                sent = await self._send(message, [alert])
                if not sent:
                    return
                await self._write(sent)
                del self._unsent[offset]

    async def _send_due(self) -> None:
        now = self._clock.now()
        held, reminding = self._state.due(now)
        alerts = [one.alert for one in held if one.alert is not None]
        at_once = MAX_DIGEST if self._receiver.digests else 1
        for begin in range(0, len(alerts), at_once):
            some = alerts[begin : begin + at_once]
            await self._contexts.learn(some)
            messages = [render(self._route, alert, self._contexts.of(alert)) for alert in some]
            await self._write(await self._send(render_digest(self._route, messages), some))
        for one in reminding:
            await self._remind(one, now)

    async def _remind(self, one: AlertDelivery, now: datetime) -> None:
        alert, number = one.alert, one.reminders + 1
        if alert is None:
            return
        await self._contexts.learn([alert])
        message = render(self._route, alert, self._contexts.of(alert), number)
        for written in await self._send(message, [alert]):
            await self._write(
                [
                    written.model_copy(
                        update={
                            "reminders": number,
                            "due_at": next_reminder(self._route, alert, number, self._clock.now()),
                        }
                    )
                ]
            )

    async def _send(self, message: Message, alerts: Sequence[Alert]) -> list[AlertDelivery]:
        """Offer a message until it is accepted or skipped; a delivery of each of its alerts says which.

        Nothing where the relay ends first.
        """
        name, refusals, attempts = self._route.name, 0, 0
        while True:
            if not await self._is_open():
                return []
            now = self._clock.now()
            if now - max(alert.emitted_at for alert in alerts) > self._route.max_age:
                why = f"older than {span(self._route.max_age)}"
                return [_delivery(name, one, DeliveryOutcome.SKIPPED, now, why, attempts) for one in alerts]
            answer = await self._receiver.offer(message)
            attempts, now = attempts + 1, self._clock.now()
            if isinstance(answer, Accepted):
                self._accepted(message, now)
                return [
                    _delivery(
                        name,
                        one,
                        DeliveryOutcome.SENT,
                        now,
                        attempts=attempts,
                        due_at=next_reminder(self._route, one, 0, now),
                    )
                    for one in alerts
                ]
            FAILED.labels(name).inc()
            refusals += isinstance(answer, Refused)
            if refusals >= MAX_REFUSALS:
                log.warning("route %s: an alert is skipped: %s", name, answer.why)
                return [
                    _delivery(name, one, DeliveryOutcome.SKIPPED, now, f"refused: {answer.why}", attempts)
                    for one in alerts
                ]
            self._back_off(answer)

    def _accepted(self, message: Message, now: datetime) -> None:
        SENT.labels(self._route.name).inc()
        if self._failures:
            log.warning("route %s: the receiver accepts messages again", self._route.name)
        self._failures, self._open_at = 0, 0.0
        if not message.reminder and len(message.alerts) == 1:
            waited = now - message.alerts[0].emitted_at
            SECONDS.labels(self._route.name).observe(max(0.0, waited.total_seconds()))

    def _back_off(self, answer: Later | Refused) -> None:
        """Leave the receiver in peace: as long as it asks for, else longer each time, with jitter."""
        longest = min(FIRST_BACKOFF_SECONDS * 2 ** min(self._failures, 16), MAX_BACKOFF_SECONDS)
        wait = longest * (0.5 + self._clock.chance() / 2)
        if isinstance(answer, Later) and answer.after_seconds is not None:
            wait = answer.after_seconds + self._clock.chance() * FIRST_BACKOFF_SECONDS
        now = asyncio.get_running_loop().time()
        # Lanes that fail together have failed once.
        if now >= self._open_at:
            self._failures += 1
        self._open_at = max(self._open_at, now + wait)
        self._said.say(
            f"route {self._route.name}: {answer.why}; alerts stay in Kafka and are sent when it works again"
        )

    async def _is_open(self) -> bool:
        """Return once the receiver may be called; False where the relay ends first."""
        loop = asyncio.get_running_loop()
        while not self._stop.is_set() and (wait := self._open_at - loop.time()) > 0:
            await pause(self._stop, wait)
        return not self._stop.is_set()


def _alert_in(record: ConsumerRecord) -> Alert | None:
    try:
        alert = decode(Alert, record.value, record.headers)
        if max(_times_of(alert)) >= NO_WINDOWS_FROM:
            raise InvalidRecord(Reason.INVALID, "it has a time that no zone's clock can show")
        return alert
    except InvalidRecord as invalid:
        # The sink keeps what it cannot read as a dead letter.
        REFUSED.inc()
        log.warning("spend.alerts offset %d is no alert, ignored: %s", record.offset, invalid)
        return None


def _times_of(alert: Alert) -> Iterator[datetime]:
    yield alert.emitted_at
    if (signal := alert.signal) is not None:
        times = (signal.window_start, signal.window_end, signal.forecast_exhausted_at, signal.emitted_at)
        yield from (time for time in times if time is not None)


def _delivery(
    route: str,
    alert: Alert,
    outcome: DeliveryOutcome,
    now: datetime,
    reason: str = "",
    attempts: int = 0,
    due_at: datetime | None = None,
) -> AlertDelivery:
    return AlertDelivery(
        route=route,
        alert_id=alert.alert_id,
        outcome=outcome,
        at=now,
        reason=reason[:MAX_REASON_CHARS],
        attempts=attempts,
        due_at=due_at,
        alert=alert,
    )


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Run all of them; the first error ends the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
