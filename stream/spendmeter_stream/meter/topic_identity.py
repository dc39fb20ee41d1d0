"""A source topic deleted and made anew: its first records look like a replay of the old ones. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.usage import UsageEvent
from spendmeter.values.times import format_time


class UsageRecord(NamedTuple):
    """A record of the source partition; no event where it was a dead letter."""

    offset: int
    appended_at: datetime
    event: UsageEvent | None


class HighWatermark(NamedTuple):
    """An offset, and a time after which no record up to it was appended."""

    offset: int
    latest: datetime


class TopicRecreated(Exception):
    """Offsets that were folded before hold other, newer records now; to take them for a replay loses them."""


def refuse_if_recreated(partition: int, passed: HighWatermark, batch: Iterable[UsageRecord]) -> None:
    """Look at what claims to be a replay. Raises TopicRecreated."""
    for record in batch:
        if record.offset > passed.offset:
            return
        if record.appended_at > passed.latest:
            raise TopicRecreated(
                f"spend.usage[{partition}] was deleted and made anew: offset {record.offset} was appended at"
                f" {format_time(record.appended_at)}, but all up to {passed.offset} had been by"
                f" {format_time(passed.latest)}, and its records would be taken for a replay"
            )
