"""spend.signals as a gateway believes it: nothing whose watermark lies beyond the end of spend.usage.

A watermark says which of this gateway's own events a signal includes; these are then counted no longer. One
beyond the end of the log, forged or of a topic that was made anew, would have events forgotten that no
signal will ever include. How far the log goes is asked of Kafka on this loop, never on a request's path,
and only where neither an earlier answer nor an acknowledgement says that it goes far enough.
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
    "Signals that include more of spend.usage than there is, not believed.",
)
_Read = tuple[str, Signal | None]
"""An account, and its signal or None for a tombstone."""


class BelievedSignals:
    """Follows spend.signals. All on one loop."""

    def __init__(self, settings: Settings, on_signal: SignalRead) -> None:
        self._ends = LogEnds(settings, settings.topic(Topic.USAGE))
        within = WithinTheLog[_Read](
            self._ends, _included_by, lambda read: on_signal(*read), lambda read: self._refuse(read[1])
        )
        self._feed = SignalFeed(settings, lambda account, signal: within.offer((account, signal)))
        self.stored = self._ends.stored
        """Takes the partition and offset of a record of spend.usage that is stored."""
        followed = FollowedWithinTheLog(self._feed, self._ends, within)
        self.run = followed.run
        self.catch_up = followed.catch_up
        self.caught_up = followed.caught_up
        self._has_refused = False

    @property
    def last_answer(self) -> float | None:
        """As `CompactedTopics.last_answer`: since when we may be blind, in the loop's time."""
        return self._feed.last_answer

    def _refuse(self, signal: Signal | None) -> None:
        assert signal is not None, "a tombstone includes nothing"
        BEYOND_THE_END.inc()
        if self._has_refused:
            return
        self._has_refused = True
        partition, offset = max(signal.watermark.items(), key=lambda one: one[1] - self._ends.end(one[0]))
        log.error(
            "a signal of %s includes %s[%d] up to offset %d, and that ends at %d: it is not believed, nor any"
            " other like it (spendmeter_signal_watermarks_refused_total counts them). Somebody else than the"
            " stream writes signals, or the topic was made anew",
            signal.account,
            self._ends.topic,
            partition,
            offset,
            self._ends.end(partition),
        )


def _included_by(read: _Read) -> Mapping[int, int]:
    return read[1].watermark if read[1] is not None else {}
