"""Which hours and days are to be summed up, and when. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

SLOTS = 2


class Grain(StrEnum):
    """How long a span is."""

    HOUR = "hour"
    DAY = "day"


class Span(NamedTuple):
    """An hour or a day in UTC; `start` is without a zone, as ClickHouse gives it."""

    grain: Grain
    start: datetime

    @property
    def day(self) -> datetime:
        """The day that it is in."""
        return self.start.replace(hour=0)


class Fingerprint(NamedTuple):
    """What stands in `usage` of a span: equal fingerprints mean equal rows."""

    rows: int
    hash: int


class Making(NamedTuple):
    """One making of the sums of a span: which one it is, and where it is written."""

    generation: int
    slot: int


def quiet(stale: Mapping[Span, Fingerprint], before: Mapping[Span, Fingerprint]) -> dict[Span, Fingerprint]:
    """The spans that no row has come to since `before`: summed up now, they stay so for a while."""
    return {span: seen for span, seen in stale.items() if before.get(span) == seen}


def by_day(spans: Iterable[Span]) -> dict[datetime, list[Span]]:
    """The spans of each day, the latest day first: most queries are for it."""
    days: dict[datetime, list[Span]] = defaultdict(list)
    for span in sorted(spans):
        days[span.day].append(span)
    return dict(sorted(days.items(), reverse=True))


def next_making(latest: Making | None, now_us: int) -> Making:
    """What follows on the latest making: a higher generation, whatever the clock says, in the other slot."""
    if latest is None:
        return Making(now_us, 0)
    return Making(max(now_us, latest.generation + 1), (latest.slot + 1) % SLOTS)
