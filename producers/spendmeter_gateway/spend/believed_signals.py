"""Reads spend.signals, and ignores signals with a watermark beyond the end of spend.usage.

A watermark says which of this gateway's own events a signal includes; these then stop counting by themselves.
A watermark beyond the end of the log, forged or of a topic that was created anew, would make the gateway
forget events that no signal will ever include. The gateway queries Kafka for the end of the log on this loop,
never on a request's path, and only if neither an earlier answer nor an acknowledgement shows that the log is
long enough.
"""

import logging
from collections.abc import Mapping

from prometheus_client import Counter

from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.kafka.log_ends import FollowedWithinTheLog, LogEnds, WithinTheLog
from spendmeter.settings import Settings
from spendmeter.topics.signals import SignalFeed, SignalRead

log = logging.getLogger(__name__)

BEYOND_THE_END = Counter(
    "spendmeter_signal_watermarks_refused_total",
    "Ignored signals that include more of spend.usage than exists.",
)
_Read = tuple[str, Signal | None]
"""An account, and its signal or None for a tombstone."""


class BelievedSignals:
    """Follows spend.signals. Everything runs on one loop."""

    def __init__(self, settings: Settings, on_signal: SignalRead) -> None:
        self._ends = LogEnds(settings, settings.topic(Topic.USAGE))
        within = WithinTheLog[_Read](
            self._ends, _included_by, lambda read: on_signal(*read), lambda read: self._refuse(read[1])
        )
        self._feed = SignalFeed(settings, lambda account, signal: within.offer((account, signal)))
        self.stored = self._ends.stored
        """Note the partition and offset of a stored record of spend.usage."""
        followed = FollowedWithinTheLog(self._feed, self._ends, within)
        self.run = followed.run
        self.catch_up = followed.catch_up
        self.caught_up = followed.caught_up
        self._has_refused = False

    @property
    def last_answer(self) -> float | None:
        """See `CompactedTopics.last_answer`: since when the gateway may be blind, in the loop's time."""
        return self._feed.last_answer

    def _refuse(self, signal: Signal | None) -> None:
        assert signal is not None, "a tombstone includes nothing"
        BEYOND_THE_END.inc()
        if self._has_refused:
            return
        self._has_refused = True
        partition, offset = max(signal.watermark.items(), key=lambda one: one[1] - self._ends.end(one[0]))
        log.error(
            "a signal of %s includes %s[%d] up to offset %d, but that ends at %d: it is ignored, like all"
            " such signals (spendmeter_signal_watermarks_refused_total counts them). Something other than the"
            " stream writes signals, or the topic was created anew",
            signal.account,
            self._ends.topic,
            partition,
            offset,
            self._ends.end(partition),
        )


def _included_by(read: _Read) -> Mapping[int, int]:
    return read[1].watermark if read[1] is not None else {}
