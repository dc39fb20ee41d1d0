"""What is behind a difference: the events of one component as Kafka and as history have them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from spendmeter_sinks.reconcile.replay import ComparedComponent


class FirstCopy(NamedTuple):
    """The first copy of an event."""

    offset: int
    cost_nanousd: int


Copies = Mapping[UUID, FirstCopy]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The events that differ, by what is wrong with them."""

    missing_in_history: tuple[UUID, ...] = ()
    """Kafka has them."""
    altered_in_history: tuple[UUID, ...] = ()
    """History has another amount than Kafka."""
    unknown_to_kafka: tuple[UUID, ...] = ()
    """History has them at offsets at which Kafka has something else."""
    suspects: tuple[UUID, ...] = ()
    """Where Kafka and history agree the stream is wrong: the events that alone would explain it, else all."""


def first_copies(copies: Iterable[tuple[UUID, FirstCopy]]) -> dict[UUID, FirstCopy]:
    """Of each event the copy with the lowest offset."""
    first: dict[UUID, FirstCopy] = {}
    for event_id, copy in copies:
        known = first.get(event_id)
        if known is None or copy.offset < known.offset:
            first[event_id] = copy
    return first


def weigh(lane: ComparedComponent, in_kafka: Copies, in_history: Copies, kafka_from: int) -> Evidence:
    """Name the events behind a component that does not agree. `kafka_from`: the first offset read."""
    missing = _by_offset({e: c for e, c in in_kafka.items() if e not in in_history})
    altered = _by_offset(
        {e: c for e, c in in_history.items() if e in in_kafka and in_kafka[e].cost_nanousd != c.cost_nanousd}
    )
    unknown = _by_offset(
        {e: c for e, c in in_history.items() if e not in in_kafka and c.offset >= kafka_from}
    )
    if missing or altered or unknown:
        return Evidence(missing, altered, unknown)
    claimed = lane.claimed.spent_nanousd if lane.claimed else 0
    alone = {e: c for e, c in in_history.items() if c.cost_nanousd == abs(claimed - lane.spent_nanousd)}
    return Evidence(suspects=_by_offset(alone or in_history))


def _by_offset(copies: Copies) -> tuple[UUID, ...]:
    return tuple(sorted(copies, key=lambda event_id: copies[event_id].offset))
