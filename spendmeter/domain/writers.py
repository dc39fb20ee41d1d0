"""Who may write under a `producer_id`. Pure; each record is judged alone, so stream, history and
reconciler decide in the same way, whatever they have read before.

Resends are recognised by their producer's `seq`, which only rises. So a foreign record under that
producer_id with a high `seq` would make everything that the producer sends later seem to be a resend.
"""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from spendmeter.contract.dead_letter import Reason
from spendmeter.contract.fast_json import UsageFields
from spendmeter.contract.records import MAX_AHEAD, InvalidRecord
from spendmeter.contract.signing import Signable, SigningKeys
from spendmeter.contract.usage import UsageEvent, UsageKind
from spendmeter.values.ids import made_at

SIGNED = ".signed"
"""Suffix of the producer_id of a gateway that signs: readers with keys accept only its signed records."""
REPLAYS = "replays/"
"""Prefix of a replay's producer_id, which has only one record."""

MAX_EVENTS_PER_SECOND = 10_000
"""Ten times what one gateway process can record."""
SEQ_AT_BIRTH = int(MAX_EVENTS_PER_SECOND * MAX_AHEAD.total_seconds())
"""The largest allowed difference between clocks."""
MAX_SEQ = 10**12
"""For a producer with an unknown beginning: a thousand a second for thirty years."""
_MAX_REMEMBERED = 100_000
_USAGE = UsageKind.USAGE


class ForeignProducer(InvalidRecord):
    """The record has another source's producer_id."""

    def __init__(self, producer_id: str, detail: str) -> None:
        super().__init__(Reason.FOREIGN_PRODUCER, detail)
        self.producer_id = producer_id


class _Producer(NamedTuple):
    """The facts in a producer_id."""

    is_bound: bool
    begun_at: datetime | None
    most: int
    """Its seq at any time, where it has no beginning."""


@lru_cache(_MAX_REMEMBERED)
def _read(producer_id: str) -> _Producer:
    if producer_id.startswith(REPLAYS):
        return _Producer(False, None, 1)
    is_bound = producer_id.endswith(SIGNED)
    begun_at = None
    try:
        made = UUID(producer_id.removesuffix(SIGNED))
        begun_at = made_at(made) if made.version == 7 else None
    except (ValueError, OverflowError):
        pass
    return _Producer(is_bound, begun_at, MAX_SEQ)


def check_writer(
    record: Signable, event: UsageEvent | UsageFields, appended_at: datetime, keys: SigningKeys
) -> str:
    """The id of the key that signed a usage record; empty if anybody may have written it.

    It is checked only if it matters: for a producer_id that is bound to a gateway, and for a correction's
    author.

    Raises:
        ForeignProducer: signature or seq show that the producer_id belongs to somebody else.
    """
    producer_id: str = event.producer_id  # type: ignore[union-attr]
    seq: int = event.seq  # type: ignore[union-attr]
    producer = _read(producer_id)
    signer = ""
    if producer.is_bound or event.kind is not _USAGE:  # type: ignore[union-attr]
        signer = keys.signer_of(record)
        if producer.is_bound and keys and not signer:
            raise ForeignProducer(
                producer_id,
                f"producer {producer_id} signs its records, and this one bears no signature of a key in"
                " SPENDMETER_SIGNING_KEYS: another source uses its id, or that gateway has another key",
            )
    if seq > _most(producer, appended_at) and not signer:
        raise ForeignProducer(
            producer_id,
            f"seq {seq} of producer {producer_id} is beyond what it can have sent by then: another source"
            " uses its id",
        )
    return signer


def _most(producer: _Producer, appended_at: datetime) -> int:
    if producer.begun_at is None:
        return producer.most
    age: timedelta = appended_at - producer.begun_at
    if age < -MAX_AHEAD:
        # Its clock was wrong when it began, so its beginning is unknown.
        return producer.most
    return SEQ_AT_BIRTH + MAX_EVENTS_PER_SECOND * max(0, int(age.total_seconds()))
