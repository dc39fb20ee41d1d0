"""A watermark in as little memory as an account may take: there are 100,000. Pure.

As a tuple: the partitions, then the last offset of each. A dict takes twice as much.
"""

from collections.abc import Mapping

Watermark = tuple[int, ...]
NONE: Watermark = ()


def packed(offsets: Mapping[int, int]) -> Watermark:
    """The last offset by partition, packed."""
    return (*offsets.keys(), *offsets.values())


def unpacked(watermark: Watermark) -> dict[int, int]:
    """Partition of spend.usage: the last offset that is included."""
    half = len(watermark) // 2
    return dict(zip(watermark[:half], watermark[half:], strict=True))


def includes(watermark: Watermark, partition: int, offset: int) -> bool:
    """Whether the event at that place is included."""
    half = len(watermark) // 2
    for place in range(half):
        if watermark[place] == partition:
            return offset <= watermark[half + place]
    return False
