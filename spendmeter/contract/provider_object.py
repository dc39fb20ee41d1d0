"""A thing that a provider keeps and bills once: a background response, a batch, a tuning job, a video.

Whoever reads it, from whichever gateway and at any time, names it alike: `object_name`. Its usage event
bears that name, is placed by it, and counts once. This record says who made it, for the read that bills it.
"""

import hashlib
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from pydantic import Field

from spendmeter.contract.wire import Wire
from spendmeter.values.ids import derived_uuid7
from spendmeter.values.times import UtcTime

MAX_NAME_CHARS = 200
"""Of an object's name: a longer id is replaced by its hash."""
BILLED_WITHIN = timedelta(days=35)
"""An object that ended longer ago is billed no more: a bill of then may have been forgotten by the stream.

Less than the stream remembers what it has counted (`spendmeter_stream.meter.meter.KEEP_PRODUCERS`).
"""


class ObjectKind(StrEnum):
    RESPONSE = "response"
    BATCH = "batch"
    TUNING_JOB = "tuning_job"
    VIDEO = "video"


class ProviderObject(Wire):
    """Who made an object, as authentication said then: its event is charged to them, whoever reads it."""

    object_id: str = Field(min_length=1)
    """As `object_name` gives it; the record's key."""
    kind: ObjectKind
    created_at: UtcTime
    gateway: str = ""
    """Where it was made."""
    read_as: str = ""
    """The id by which that gateway reads it until it has ended; empty where it leaves that to others."""

    key: str = ""
    key_alias: str | None = None
    user: str | None = None
    team: str | None = None
    organization: str | None = None
    project: str | None = None
    end_user: str | None = None
    tags: tuple[str, ...] = ()
    session: str | None = None
    model: str = ""
    """Empty where the request named none: that of a batch is in its file."""
    model_group: str = ""
    """As requested."""


def object_name(provider: str, own_id: str) -> str:
    """The name of a provider's object, given the provider's own id of it."""
    name = f"{provider}/{own_id}"
    if len(name) <= MAX_NAME_CHARS and name.isascii() and name.isprintable():
        return name
    digest = hashlib.sha256(own_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{provider[: MAX_NAME_CHARS // 2].encode('ascii', 'replace').decode()}/sha256:{digest}"


def object_event_id(object_id: str) -> UUID:
    """The id of the event that bills an object: the same wherever and whenever it is made.

    A UUIDv7 of the first millisecond of 1970, since readers need not agree on when anything happened.
    """
    return derived_uuid7(0, "object", object_id)
