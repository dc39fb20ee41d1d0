"""The makers of objects that providers keep: noted at one gateway, known at every one (spend.objects)."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable

from prometheus_client import Counter, Gauge

from spendmeter.contract.dead_letter import Reason
from spendmeter.contract.provider_object import ProviderObject
from spendmeter.contract.records import InvalidRecord, decode, encode_object
from spendmeter.contract.topics import Topic
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.settings import Settings
from spendmeter_gateway.outbox.kafka import ConsumerRecord
from spendmeter_gateway.outbox.side_queue import RecordQueue

log = logging.getLogger(__name__)

KNOWN = Gauge("spendmeter_objects_known", "Objects of providers whose maker is known here.")
FORGOTTEN = Counter(
    "spendmeter_objects_forgotten_total", "Objects whose maker was forgotten: there were too many."
)
LOST = Counter("spendmeter_objects_lost_total", "Objects whose maker no other gateway will know.")
REFUSED = Counter("spendmeter_object_records_refused_total", "Records on spend.objects that are no object.")

MAX_KNOWN = 100_000
"""Beyond this the oldest are forgotten; whoever reads one of those is charged for it, if nobody was before.
"""


class ObjectMakers:
    """`made` and `maker` from any thread; `run` and `send` on the loop of Kafka's."""

    def __init__(self, settings: Settings, on_known: Callable[[ProviderObject], None]) -> None:
        """`on_known` is called with each object that becomes known, including those from before the start."""
        self._on_known = on_known
        self._known: OrderedDict[str, ProviderObject] = OrderedDict()
        self._lock = threading.Lock()
        self._queue = RecordQueue(settings, Topic.OBJECTS, encode_object, LOST)
        self._reader = CompactedTopics(settings, [settings.topic(Topic.OBJECTS)], self.apply)
        self.run = self._reader.run
        self.catch_up = self._reader.catch_up
        self.send = self._queue.run
        self.drain = self._queue.drain

    def made(self, one: ProviderObject) -> None:
        """Note that an object was made here; of two claims the first counts."""
        if self._put(one):
            self._queue.add(one)

    def billed(self, object_id: str) -> None:
        """Note that its bill is recorded: nobody needs to read it for that any more."""
        known = self.maker(object_id)
        if known is not None and known.read_as:
            self.made(known.model_copy(update={"read_as": ""}))

    def maker(self, object_id: str) -> ProviderObject | None:
        """Who made it; None if that is not known here, or not yet."""
        with self._lock:
            return self._known.get(object_id)

    def apply(self, record: ConsumerRecord) -> None:
        """Apply one record of the topic; an invalid one changes nothing."""
        if record.value is None:
            return
        try:
            one = decode(ProviderObject, record.value, record.headers)
            if (record.key or b"").decode(errors="replace") != one.object_id:
                raise InvalidRecord(Reason.INVALID, f"its key is not its object, {one.object_id!r}")
        except InvalidRecord as invalid:
            REFUSED.inc()
            log.warning("spend.objects offset %d is no object, ignored: %s", record.offset, invalid)
            return
        self._put(one)

    def _put(self, one: ProviderObject) -> bool:
        with self._lock:
            known = self._known.get(one.object_id)
            if known is not None:
                if one.read_as or not known.read_as:
                    return False
                one = known.model_copy(update={"read_as": ""})
            self._known[one.object_id] = one
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
                FORGOTTEN.inc()
            KNOWN.set(len(self._known))
        self._on_known(one)
        return True
