"""Known spend of one account in one window: the signal's part, and own events that it does not include.

An own event passes through three states. *Recorded*: its offset is unknown. *Uncovered*: it has been
acknowledged at an offset above the signal's watermark. *Covered*: the signal includes it, and it
is forgotten.

Only a recorded event can be counted twice, and only if a signal arrived after it was recorded:
a signal cannot include what came after the signal itself. Such events are doubtful. So is an event that
was sent more than once, because the acknowledged offset may be that of a later copy. Every
other own event is certain. Running sums make each step O(1), or O(1) per event that leaves.

Before that, an event may be *pending*: its request was answered, its cost is known, and LiteLLM has not
logged it yet. No signal can include it then, so it is certain.
"""

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from spendmeter.contract.signal import CLOSE_TO_LIMIT_SHARE, COALESCE_SHARE, Signal

Watermark = tuple[int, ...]
"""The partitions, then the last offset of each: a dict needs twice as much, and there are 100,000."""
NONE: Watermark = ()


def packed(offsets: Mapping[int, int]) -> Watermark:
    """The last offset by partition, packed."""
    return (*offsets.keys(), *offsets.values())


def unpacked(watermark: Watermark) -> dict[int, int]:
    """Partition of spend.usage: the last offset that is included."""
    half = len(watermark) // 2
    return dict(zip(watermark[:half], watermark[half:], strict=True))


def includes(watermark: Watermark, partition: int, offset: int) -> bool:
    """Whether the event at that offset is included."""
    half = len(watermark) // 2
    for place in range(half):
        if watermark[place] == partition:
            return offset <= watermark[half + place]
    return False


# Beyond this number, events share an entry and leave with the first of them: for an instant too little
# is counted, never too much. Reached only while the stream is away.
MAX_UNCOVERED_PER_PARTITION = 1_000

_NO_PENDING: dict[UUID, int] = {}
_NO_VERSION = -1


class KnownSpend(NamedTuple):
    """The known spend of one account in one window."""

    certain_nanousd: int
    """Spent beyond doubt, each event counted once, pending ones included."""
    doubtful_nanousd: int
    """Own events that the signal may already include: an acknowledgement or a signal will decide."""
    signal_nanousd: int
    watermark: dict[int, int]
    """Partition of spend.usage: the last offset that the signal includes. Empty without a signal."""
    uncovered_since_seconds: float | None
    """When the oldest stored event that is in no signal was acknowledged."""
    pending_nanousd: int = 0
    """The part that was answered and is not recorded yet."""


NOTHING = KnownSpend(0, 0, 0, {}, None)


class Acknowledgement(NamedTuple):
    """Where the brokers stored an event, according to the acknowledgement."""

    partition: int
    offset: int
    at_seconds: float
    resent: bool
    """Whether it was sent more than once, so that an earlier copy may be stored below `offset`."""


class _Uncovered:
    """Stored events of one partition that the signal does not include, one or more in an entry."""

    __slots__ = ("certain_nanousd", "doubtful_nanousd", "first_offset", "since_seconds")

    def __init__(self, first_offset: int, since_seconds: float) -> None:
        self.first_offset = first_offset
        self.since_seconds = since_seconds
        self.certain_nanousd = 0
        self.doubtful_nanousd = 0


class WindowBalance:
    """The running sums of one account in one window, in nano-USD."""

    __slots__ = (
        "_doubtful_to_seq", "_limit_nanousd", "_pending", "_pending_nanousd", "_recorded",
        "_recorded_doubtful_nanousd", "_recorded_nanousd", "_revision", "_signal_nanousd", "_uncovered",
        "_uncovered_doubtful_nanousd", "_uncovered_nanousd", "_unplaced_nanousd", "_version", "_watermark",
        "end", "is_dropped",
    )  # fmt: skip

    def __init__(self, end: datetime | None) -> None:
        self.end = end
        self.is_dropped = False
        """Whether its account now has another window, or none: then nothing more counts here."""
        self._revision, self._version = 0, _NO_VERSION
        self._signal_nanousd = self._limit_nanousd = 0
        self._watermark = NONE
        self._recorded = 0
        self._recorded_nanousd = 0
        self._recorded_doubtful_nanousd = 0
        self._doubtful_to_seq = 0
        self._uncovered: dict[int, deque[_Uncovered]] | None = None
        self._uncovered_nanousd = 0
        self._uncovered_doubtful_nanousd = 0
        self._unplaced_nanousd = 0
        self._pending: dict[UUID, int] | None = None
        self._pending_nanousd = 0

    def known(self) -> KnownSpend:
        """The sums as they stand."""
        return KnownSpend(
            self._signal_nanousd
            + self._recorded_nanousd
            - self._recorded_doubtful_nanousd
            + self._uncovered_nanousd
            - self._uncovered_doubtful_nanousd
            + self._unplaced_nanousd
            + self._pending_nanousd,
            self._recorded_doubtful_nanousd + self._uncovered_doubtful_nanousd,
            self._signal_nanousd,
            unpacked(self._watermark),
            min(events[0].since_seconds for events in self._uncovered.values()) if self._uncovered else None,
            self._pending_nanousd,
        )

    def most_nanousd(self) -> int:
        """The spend if the signal includes no doubtful event: certain and doubtful together."""
        return (
            self._signal_nanousd
            + self._recorded_nanousd
            + self._uncovered_nanousd
            + self._unplaced_nanousd
            + self._pending_nanousd
        )

    def is_urgent(self) -> bool:
        """Whether it must be sent at once: the limit is close, or a large part of it is unsent."""
        return (
            self._recorded_nanousd >= self._limit_nanousd * COALESCE_SHARE
            or self.most_nanousd() >= self._limit_nanousd * CLOSE_TO_LIMIT_SHARE
        )

    @property
    def pending(self) -> Mapping[UUID, int]:
        """The events that are pending, and the cost of each."""
        return _NO_PENDING if self._pending is None else self._pending

    def apply(self, signal: Signal, last_seq: int) -> None:
        """Apply a signal of this window; `last_seq` is that of the latest own event recorded."""
        order, known = (signal.revision, signal.version), (self._revision, self._version)
        if order < known:
            return
        before, watermark = unpacked(self._watermark), dict(signal.watermark)
        if order == known:
            # The same events. A dropped duplicate moves only the watermark, and a replay may deliver
            # the lower of the two last.
            for partition, offset in before.items():
                watermark[partition] = max(offset, watermark.get(partition, offset))
        if any(offset > before.get(partition, -1) for partition, offset in watermark.items()):
            self._recorded_doubtful_nanousd = self._recorded_nanousd
            self._doubtful_to_seq = last_seq
            self._unplaced_nanousd = 0
        self._revision, self._version = order
        self._signal_nanousd, self._watermark = signal.spent_nanousd, packed(watermark)
        self._limit_nanousd = signal.limit_nanousd
        if self._uncovered:
            self._forget_covered(self._uncovered, watermark)

    def answer(self, event_id: UUID, cost_nanousd: int) -> None:
        """Add a pending event; `settle` follows once for it."""
        if self._pending is None:
            self._pending = {}
        self._pending[event_id] = cost_nanousd
        self._pending_nanousd += cost_nanousd

    def settle(self, event_id: UUID) -> None:
        """Remove a pending event: it is being recorded, or has expired."""
        if self._pending is not None:
            self._pending_nanousd -= self._pending.pop(event_id)
            # An account has pending events for milliseconds; the dict need not outlive them.
            self._pending = self._pending or None

    def record(self, cost_nanousd: int, *, is_doubtful: bool = False) -> None:
        """Add an own event, recorded after every applied signal; doubtful: a signal may include it."""
        self._recorded += 1
        self._recorded_nanousd += cost_nanousd
        if is_doubtful:
            self._recorded_doubtful_nanousd += cost_nanousd

    def count_unplaced(self, cost_nanousd: int) -> None:
        """Add an own event whose offset will never be known: it counts until a signal includes
        anything new.
        """
        self._unplaced_nanousd += cost_nanousd

    def acknowledge(
        self, seq: int, cost_nanousd: int, at: Acknowledgement, *, is_doubtful: bool = False
    ) -> None:
        """Note that a recorded event has been stored."""
        self._recorded -= 1
        self._recorded_nanousd -= cost_nanousd
        if is_doubtful or seq <= self._doubtful_to_seq:
            self._recorded_doubtful_nanousd -= cost_nanousd
        if not cost_nanousd or includes(self._watermark, at.partition, at.offset):
            return
        if self._uncovered is None:
            self._uncovered = {}
        entry = _entry_for(self._uncovered.setdefault(at.partition, deque()), at)
        self._uncovered_nanousd += cost_nanousd
        if at.resent or is_doubtful:
            self._uncovered_doubtful_nanousd += cost_nanousd
            entry.doubtful_nanousd += cost_nanousd
        else:
            entry.certain_nanousd += cost_nanousd

    def is_empty(self) -> bool:
        """Whether it can be dropped without loss."""
        return self._version == _NO_VERSION and not (
            self._recorded or self._uncovered or self._unplaced_nanousd or self._pending
        )

    def _forget_covered(self, uncovered: dict[int, deque[_Uncovered]], watermark: Mapping[int, int]) -> None:
        for partition, last in watermark.items():
            events = uncovered.get(partition)
            while events and events[0].first_offset <= last:
                entry = events.popleft()
                self._uncovered_nanousd -= entry.certain_nanousd + entry.doubtful_nanousd
                self._uncovered_doubtful_nanousd -= entry.doubtful_nanousd
            if events is not None and not events:
                del uncovered[partition]


def _entry_for(events: deque[_Uncovered], at: Acknowledgement) -> _Uncovered:
    """The entry for an event at this offset; entries stay in offset order."""
    place = len(events)
    # The sender is first in, first out, so this loop hardly ever turns.
    while place and events[place - 1].first_offset > at.offset:
        place -= 1
    if len(events) < MAX_UNCOVERED_PER_PARTITION:
        entry = _Uncovered(at.offset, at.at_seconds)
        events.insert(place, entry)
        return entry
    entry = events[max(place - 1, 0)]
    entry.first_offset = min(entry.first_offset, at.offset)
    return entry
