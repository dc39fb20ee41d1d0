"""spend.signals in memory: the latest signal of every account."""

import logging

from aiokafka.structs import ConsumerRecord
from prometheus_client import Counter

from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.runtime.compacted import CompactedTopics
from spendmeter.runtime.settings import Settings

log = logging.getLogger(__name__)

REFUSED = Counter("spendmeter_signal_records_refused_total", "Records on spend.signals that are no signal.")


class SignalTopic:
    """Follows spend.signals and keeps, per account, the highest (window_start, revision, version)."""

    def __init__(self, settings: Settings) -> None:
        self.signals: dict[str, Signal] = {}
        self._reader = CompactedTopics(settings, [settings.topic(Topic.SIGNALS)], self.take)
        self.run = self._reader.run
        self.read_to_end = self._reader.read_to_end
        self.catch_up = self._reader.catch_up
        self.caught_up = self._reader.caught_up

    def take(self, record: ConsumerRecord) -> None:
        """Bring one record in; a tombstone takes its account out."""
        account = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self.signals.pop(account, None)
            return
        try:
            signal = decode(Signal, record.value, record.headers)
        except InvalidRecord as invalid:
            REFUSED.inc()
            log.warning("spend.signals offset %d is no signal, ignored: %s", record.offset, invalid)
            return
        known = self.signals.get(account)
        if known is None or signal.order() >= known.order():
            self.signals[account] = signal
