"""The sender: sends the outbox to Kafka, first in, first out.

A chunk is the next unsent events in seq order, grouped by partition into exactly one Kafka batch
per partition. It is sent, and failed parts are sent again from the same records, until every
batch is acknowledged; only then is the next chunk read. So for one producer and partition:

- events first arrive with rising seq;
- a resend has the same bytes and the same seq, so it is at or below the highest seq seen;
- nothing new arrives before everything earlier is stored, so no resend delays a first arrival.

Therefore a reader drops a resend by comparing its seq with the highest seq seen from that producer on
that partition. An event keeps its partition, even if partitions were added meanwhile.
If the topic has been replaced by now, events in doubt name the one that may also have them.

A chunk costs a request to Kafka, whatever its size, and the proxy pays for it. So events wait up to
a linger for others, unless one of them is urgent: then all are sent at once.

Outboxes of dead processes are finished first, each under its own producer id.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from prometheus_client import Counter, Gauge

from spendmeter.contract.records import SENT_BEFORE_HEADER, Record, sent_before
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import MAX_INCARNATION_CHARS
from spendmeter.kafka.client import MAX_SIGNATURE_BYTES, batch_of
from spendmeter.settings import Settings
from spendmeter.topics.state import TopicState
from spendmeter_gateway.loops import call_soon
from spendmeter_gateway.outbox.frames import OutboxRecord, by_partition, record_of
from spendmeter_gateway.outbox.kafka import Delivery, NotDelivered
from spendmeter_gateway.outbox.reader import OutboxReader
from spendmeter_gateway.outbox.recovery import OrphanedOutbox
from spendmeter_gateway.outbox.writer import Outbox

log = logging.getLogger(__name__)

FAILED = Counter("spendmeter_sender_failures_total", "Attempts to send that failed.")

_FIRST_BACKOFF_SECONDS = 0.05
_MAX_BACKOFF_SECONDS = 2.0
_SECONDS_BETWEEN_LOGS = 30.0


class Backoff:
    """Waits longer after each failure in a row, and logs it at most once in thirty seconds."""

    def __init__(self) -> None:
        self._backoff_seconds = 0.0
        self._quiet_until = 0.0

    async def back_off(self, what: str) -> None:
        FAILED.inc()
        if time.monotonic() >= self._quiet_until:
            log.warning("%s; events stay in the outbox and are sent when it works again", what)
            self._quiet_until = time.monotonic() + _SECONDS_BETWEEN_LOGS
        self._backoff_seconds = min(
            max(2 * self._backoff_seconds, _FIRST_BACKOFF_SECONDS), _MAX_BACKOFF_SECONDS
        )
        await asyncio.sleep(self._backoff_seconds)

    def end(self) -> None:
        if self._backoff_seconds:
            log.warning("Kafka accepts events again")
        self._backoff_seconds = self._quiet_until = 0.0


SENT = Counter("spendmeter_sender_sent_total", "Events that Kafka has acknowledged.")
RESENT = Counter(
    "spendmeter_sender_resent_total", "Events sent again because it was unknown whether they had arrived."
)
OLDEST_UNSENT_SECONDS = Gauge(
    "spendmeter_outbox_oldest_unsent_seconds", "Age of the oldest event that Kafka has not acknowledged."
)

# A chunk has at most as many bytes as one Kafka batch holds.
MAX_CHUNK_EVENTS = 500
SENT_BEFORE_BYTES = len(SENT_BEFORE_HEADER) + MAX_INCARNATION_CHARS + 10
"""More than the size of the header that names the earlier incarnation."""
# This much does not wait for more.
WORTH_A_REQUEST_BYTES = 64 * 1024


class Acknowledged(NamedTuple):
    """One event of this process's own outbox that Kafka has stored."""

    seq: int
    partition: int
    offset: int
    resent: bool
    """Whether it was sent more than once: an earlier copy may have a lower offset."""


class Sender:
    """Sends the outboxes' events, in order, as long as it runs."""

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        predecessors: Sequence[OrphanedOutbox],
        on_acknowledged: Callable[[Acknowledged], None],
        linger_seconds: float = 0.0,
    ) -> None:
        self._outbox = outbox
        self._predecessors = list(predecessors)
        self._on_acknowledged = on_acknowledged
        self._linger_seconds = linger_seconds
        self._delivery = Delivery(settings)
        self._topic_name = settings.topic(Topic.USAGE)
        self._signing_keys = settings.read_signing_keys()
        self._woken, self._idle = asyncio.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        # The wakes that matter now: the loop sets them, and whoever wakes it clears them.
        self._is_waiting = self._is_lingering = False
        self._is_urgent = self._is_draining = False
        self._urgent_to_seq = 0
        self._waiting_since: float | None = None
        self._failures = Backoff()
        OLDEST_UNSENT_SECONDS.set_function(self._oldest_unsent_seconds)

    @property
    def is_lingering(self) -> bool:
        """Whether unsent events are waiting for more."""
        return self._is_lingering

    def wake(self, *, is_urgent: bool = True) -> None:
        """Send an appended event within the linger, or at once if it is urgent. From any thread."""
        if is_urgent:
            self._is_urgent = True
        # A running sender checks again by itself. Waking a loop is a system call and gives up the
        # interpreter.
        if self._is_waiting or (is_urgent and self._is_lingering):
            loop = self._loop
            if loop is not None:
                self._is_waiting = self._is_lingering = False
                call_soon(loop, self._wake_now)

    async def drain(self, timeout_seconds: float) -> bool:
        """Wait until everything appended is acknowledged; False if the time is over first.

        Runs on the loop of `run`.
        """
        self._is_draining = True
        self._wake_now()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Send until cancelled. Kafka may be away for any time, at the start, too."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._topic()
            while self._predecessors:
                await self._finish(self._predecessors[0])
                self._predecessors.pop(0)
            while True:
                if not await self._send_own():
                    await self._wait()
                await self._linger()
        finally:
            self._is_waiting, self._loop = False, None
            await self._delivery.close()
            for left in self._predecessors:
                left.release()

    def _wake_now(self) -> None:
        self._idle.clear()
        self._woken.set()

    async def _wait(self) -> None:
        """Return once something is appended; everything earlier is stored."""
        self._woken.clear()
        self._is_waiting = True
        # Events appended before this point woke nobody.
        if not self._outbox.unsent.waiting_bytes:
            self._waiting_since = None
            self._idle.set()
            await self._woken.wait()
        self._is_waiting = False

    async def _linger(self) -> None:
        """Return once the unsent events must go: one is urgent, they are many, or the linger is over."""
        self._woken.clear()
        self._is_lingering = True
        # Events that became urgent before this point woke nobody.
        if not self._is_hurried() and self._outbox.unsent.waiting_bytes < WORTH_A_REQUEST_BYTES:
            later = asyncio.get_running_loop().call_later(self._linger_seconds, self._woken.set)
            await self._woken.wait()
            later.cancel()
        self._is_lingering = False

    def _is_hurried(self) -> bool:
        """Whether something urgent is unsent: a chunk may end before it."""
        if self._is_urgent:
            # Cleared before the check: events that become urgent later wake the loop again.
            self._is_urgent = False
            self._urgent_to_seq = self._outbox.last_seq
        return self._is_draining or self._outbox.unsent.position.acknowledged_seq < self._urgent_to_seq

    async def _finish(self, predecessor: OrphanedOutbox) -> None:
        producer_id = predecessor.unsent.producer_id
        try:
            while await self._send_chunk(predecessor.unsent, None):
                pass
            predecessor.remove()
        except OSError as error:
            # An unreadable outbox must not delay the others; the next process tries again.
            log.error("outbox %s of an earlier process cannot be finished, it stays: %s", producer_id, error)
            predecessor.release()
        else:
            log.info("outbox %s of an earlier process is finished", producer_id)

    async def _send_own(self) -> bool:
        try:
            return await self._send_chunk(self._outbox.unsent, self._on_acknowledged)
        except OSError as error:
            await self._failures.back_off(f"the outbox cannot be read: {error}")
            return True

    async def _send_chunk(
        self, unsent: OutboxReader, on_stored: Callable[[Acknowledged], None] | None
    ) -> bool:
        """Send the next chunk until it is acknowledged; False if there is none. Raises OSError."""
        frames = unsent.read(MAX_CHUNK_EVENTS)
        if not frames:
            return False
        left = [record_of(frame) for frame in frames]
        # One partition may get them all, in one batch, and each may need the header for the earlier
        # incarnation.
        more_bytes = SENT_BEFORE_BYTES + (MAX_SIGNATURE_BYTES if self._signing_keys else 0)
        left = left[: len(batch_of((one.record for one in left), more_bytes))]
        last_seq = left[-1].seq
        self._waiting_since = left[0].occurred_at_seconds
        while left:
            before = await self._position(unsent)
            if unsent.is_in_doubt:
                RESENT.inc(len(left))
            left = await self._attempt(unsent, left, on_stored, before)
        unsent.acknowledge(last_seq)
        return True

    async def _attempt(
        self,
        unsent: OutboxReader,
        outgoing: Sequence[OutboxRecord],
        on_stored: Callable[[Acknowledged], None] | None,
        before: str = "",
    ) -> list[OutboxRecord]:
        """Send once; returns the events that may not be stored, still in seq order.

        `before`: the earlier incarnation of the topic that may hold these events, too.
        """
        batches = by_partition(outgoing, unsent.position.partitions)
        failure: NotDelivered | None = None
        resent, unsent.is_in_doubt = unsent.is_in_doubt, True
        try:
            stored = await self._delivery.send(
                {p: [self._to_send(o.record, p, before) for o in batch] for p, batch in batches.items()}
            )
        except NotDelivered as failed:
            stored, failure = dict(failed.stored), failed
        for partition, base_offset in stored.items():
            SENT.inc(len(batches[partition]))
            for index, one in enumerate(batches[partition]):
                if on_stored is not None:
                    on_stored(Acknowledged(one.seq, partition, base_offset + index, resent))
        if failure is not None:
            await self._failures.back_off(f"events were not acknowledged: {failure}")
        else:
            self._failures.end()
        return sorted(o for p, batch in batches.items() if p not in stored for o in batch)

    def _to_send(self, record: Record, partition: int, before: str) -> Record:
        """The record with its signature, and with the earlier incarnation if there is one."""
        signature = self._signing_keys.sign(self._topic_name, partition, record.key, record.value)
        signed = record._replace(headers=[*record.headers, *signature]) if signature else record
        return sent_before(signed, before) if before else signed

    async def _position(self, unsent: OutboxReader) -> str:
        """Set the partition count for the next events.

        An event that may be stored already goes to the same partition, unless the topic has been replaced.
        Returns the incarnation that may then hold it; empty if the topic is the same.
        """
        now, so_far = await self._topic(fresh=unsent.is_in_doubt), unsent.position
        if now.incarnation and now.incarnation == so_far.incarnation:
            # A topic's partitions never become fewer: a broker that says so is behind.
            now = now._replace(partitions=max(now.partitions, so_far.partitions))
        is_another = bool(so_far.incarnation and now.incarnation and now.incarnation != so_far.incarnation)
        if unsent.is_in_doubt:
            if is_another:
                # Its id stays until nothing is in doubt: the process after a crash must know it, too.
                unsent.assign_partitions(now.partitions, so_far.incarnation)
                return so_far.incarnation
            if now.partitions < so_far.partitions:
                unsent.assign_partitions(now.partitions, now.incarnation)
        elif (now.partitions, now.incarnation) != (so_far.partitions, so_far.incarnation):
            unsent.assign_partitions(now.partitions, now.incarnation)
        return ""

    async def _topic(self, *, fresh: bool = False) -> TopicState:
        while True:
            try:
                return await self._delivery.topic(fresh=fresh)
            except NotDelivered as failed:
                await self._failures.back_off(f"Kafka cannot be reached: {failed}")

    def _oldest_unsent_seconds(self) -> float:
        return 0.0 if self._waiting_since is None else max(0.0, time.time() - self._waiting_since)
