"""Corrections: the event to send so that a recorded request has another final cost. Pure.

The n-th correction of an event is record n of a producer that the event names, and its id follows from
both. So whoever makes it, and however often, it is one event to the stream and to history: of two
people who correct the same state at once the first stored counts, at both, and the sequence stays
dense.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from spendmeter.contract.money import LIMIT_OF_AMOUNTS_NANOUSD, NanoUsd
from spendmeter.contract.usage import ALIASES, CostSource, UsageEvent, UsageKind
from spendmeter.domain.charge import flats_of
from spendmeter.values.dimensions import FIELDS
from spendmeter.values.ids import derived_uuid7, unix_ms_of

MAX_REASON_CHARACTERS = 500
_KEPT = (
    "occurred_at",
    "started_at",
    *FIELDS,
    "key_alias",
    *ALIASES,
    "deployment",
    "call_type",
    "status",
    "call_id",
    "response_id",
)
"""Fields of the original: the subject and the time, so that the same accounts and windows change; no usage.
"""


class NotCorrectable(ValueError):
    """There is no such correction; the message says why."""


@dataclass(frozen=True, slots=True)
class CorrectedEvent:
    """A usage event and the corrections of it that history has, each once."""

    original: UsageEvent
    corrections: Sequence[UsageEvent] = ()

    @property
    def cost_nanousd(self) -> NanoUsd:
        """Its cost with all corrections."""
        return NanoUsd(self.original.cost_nanousd + sum(c.cost_nanousd for c in self.corrections))

    @property
    def counts_flat(self) -> bool:
        """Whether budgets with a flat amount for unpriced requests still count that."""
        return sum(flats_of(event) for event in (self.original, *self.corrections)) > 0


def correct(
    recorded: CorrectedEvent, cost: NanoUsd, *, kind: UsageKind, reason: str, recorded_by: str
) -> UsageEvent | None:
    """The event that sets the request's final cost; None if it is already right.

    Raises:
        NotCorrectable: the event is itself a correction, or the amount is impossible.
    """
    original = recorded.original
    if original.kind is not UsageKind.USAGE:
        raise NotCorrectable(
            f"{original.event_id} is a {original.kind} of {original.corrects}; name that one"
        )
    if cost < 0:
        raise NotCorrectable("a request cannot cost less than 0 USD")
    difference = cost - recorded.cost_nanousd
    if abs(difference) > LIMIT_OF_AMOUNTS_NANOUSD:
        raise NotCorrectable("the difference is beyond the largest amount we hold")
    if difference == 0 and not recorded.counts_flat:
        return None
    producer_id = producer_of(original.event_id)
    seq = 1 + max((c.seq for c in recorded.corrections if c.producer_id == producer_id), default=0)
    return UsageEvent(
        event_id=derived_uuid7(unix_ms_of(original.event_id), "correction", original.event_id.hex, str(seq)),
        kind=kind,
        corrects=original.event_id,
        producer_id=producer_id,
        seq=seq,
        cost_nanousd=NanoUsd(difference),
        cost_source=_source(recorded),
        reason=reason[:MAX_REASON_CHARACTERS],
        recorded_by=recorded_by,
        **{name: getattr(original, name) for name in _KEPT},
    )


def producer_of(event_id: UUID) -> str:
    """The producer whose records are the corrections of that event."""
    return f"corrections/{event_id}"


def _source(recorded: CorrectedEvent) -> CostSource:
    source = recorded.original.cost_source
    if source is CostSource.UNPRICED and not recorded.counts_flat:
        # A person has set its cost before; `unpriced` would subtract the flat amount a second time.
        return CostSource.PRICEBOOK
    return source
