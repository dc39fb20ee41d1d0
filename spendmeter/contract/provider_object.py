"""An object that a provider keeps and bills once: a background response, a batch, a tuning job, a video.

Every reader, at any gateway and at any time, uses the same name for it: `object_name`. Its usage event
carries that name, is placed by it, and counts once. This record says who made it, for the read that bills it.
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
"""The length of an object's name: a longer id is replaced by its hash."""
BILLED_WITHIN = timedelta(days=35)
"""An object that ended longer ago is no longer billed: the stream may have forgotten an earlier bill.

This is less than the time for which the stream remembers bills
(`spendmeter_stream.meter.meter.KEEP_PRODUCERS`).
"""


class ObjectKind(StrEnum):
    RESPONSE = "response"
    BATCH = "batch"
    TUNING_JOB = "tuning_job"
    VIDEO = "video"


class ProviderObject(Wire):
    """Who made an object, according to authentication: they are charged, whoever reads it."""

    object_id: str = Field(min_length=1)
    """From `object_name`; the record's key."""
    kind: ObjectKind
    created_at: UtcTime
    gateway: str = ""
    """The gateway at which it was made."""
    read_as: str = ""
    """The id by which that gateway reads it until it has ended; empty if it leaves that to others."""

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
    """Empty if the request named none: a batch has it in its file."""
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
    """The id of the event that bills an object: always and everywhere the same.

    A UUIDv7 of the first millisecond of 1970, because readers need not agree on any time.
    """
    return derived_uuid7(0, "object", object_id)
