"""What the rooms of the gateway hand one another: plain values, no clock, no I/O, nothing of LiteLLM."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from uuid import UUID

from msgspec import Struct

from spendmeter.contract.models import canonical_model
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import construct_unchecked
from spendmeter.domain.matching import Subject

ClientValue = Literal["accept", "ignore", "require"]
"""What becomes of a name that the client makes up: used, not used, or the request is refused without it."""


class Caller(NamedTuple):
    """Who asks, and by which name they are told so."""

    subject: Subject
    name: str
    """The key's alias, else its hash; without a key (JWT) the user, team, organization or end user."""
    alias: str | None = None
    """The key's alias, as its events name it."""

    @property
    def event_fields(self) -> dict[str, Any]:
        """The fields of an event that say who pays."""
        subject = self.subject
        return {
            "key": subject.key or "",
            "key_alias": self.alias,
            "user": subject.user,
            "team": subject.team,
            "organization": subject.organization,
            "project": subject.project,
            "end_user": subject.end_user,
            "session": subject.session,
            "tags": subject.tags,
        }


class ClientValues(NamedTuple):
    """What becomes of the names that clients make up."""

    tags: ClientValue = "accept"
    end_user: ClientValue = "accept"
    session: ClientValue = "accept"


ACCEPTED = ClientValues()


# Every field, in the model's order.
_NO_FIELDS = {
    name: field.get_default(call_default_factory=True) for name, field in UsageEvent.model_fields.items()
}


class Origin(Struct, frozen=True):
    """Which outbox of which gateway an event comes from."""

    producer_id: str
    gateway: str


class UsageDraft(NamedTuple):
    """A usage event that still lacks its place in an outbox."""

    fields: Mapping[str, Any]
    """As the event's model would take them, and those that it requires: nobody asks it again."""
    doubt: str | None = None
    """What LiteLLM reported, where it cannot be a cost: the caller logs it."""
    images: int = 0
    """How many it made; no event tells, but the price book may have a price for each."""

    def finish(self, origin: Origin, seq: int, event_id: UUID | None = None) -> UsageEvent:
        """The event at that place, with that id if one is given."""
        fields = {**_NO_FIELDS, **self.fields}
        # As it was logged or configured until here, so that prices are found by any of its names.
        fields["model"] = canonical_model(fields["model"], fields["provider"])
        fields["producer_id"], fields["gateway"], fields["seq"] = origin.producer_id, origin.gateway, seq
        if event_id is not None:
            fields["event_id"] = event_id
        return construct_unchecked(UsageEvent, fields)


OnStale = Literal["allow", "block"]


class Policy(NamedTuple):
    """The settings that a decision depends on."""

    on_stale: OnStale
    stale_after_seconds: float
    ack_wait_seconds: float


class Deployment(NamedTuple):
    """Where a call goes, in the words that its usage event will use."""

    model_group: str
    model: str
    provider: str
    id: str | None = None
    tags: tuple[str, ...] = ()
    """What the operator wrote at the deployment."""


class RequestSize(NamedTuple):
    """The size of one request."""

    text_bytes: int
    frame_tokens: int
    """Tokens that no text accounts for."""
    images: int
    is_open: bool
    """It brings or names something whose tokens cannot be told from here."""
    has_paid_tools: bool
    """It may use tools that the provider bills per use, as often as the model likes."""
    has_output: bool
    max_output_tokens: int | None
    """Per answer, as the client says."""
    least_output_tokens: int
    answers: int
    is_hurried: bool
    """It may be served at a price for priority."""
    caches_for_an_hour: bool
    texts: tuple[str, ...]
    made_images: int = 0
    """Pictures to be made."""
    made_pixels: int | None = None
    """Of each; None where the request names no size."""
    searches: int = 0
    """As a provider of reranking bills them, at the most."""
    ranked_tokens: int = 0
    """What a reranker by tokens reads: the query again with each document."""
    is_speech: bool = False


class UsageCounts(NamedTuple):
    """What one call used, with nothing counted twice.

    Inclusive, as in a usage event: cache, audio, pictures and video are part of `input_tokens`; reasoning and
    the media that came out are part of `output_tokens`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    cache_write_1h_tokens: int = 0
    """Part of `cache_write_tokens`."""
    cache_read_audio_tokens: int = 0
    """Part of `cache_read_tokens`."""
    input_audio_tokens: int = 0
    """Not out of the cache, as are the next two."""
    input_image_tokens: int = 0
    input_video_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    output_video_tokens: int = 0
    input_images: int = 0
    input_characters: int = 0
    queries: int = 0
    requests: int = 0
    images: int = 0
    """Made by the call."""
    duration_ms: int = 0


NOTHING_USED = UsageCounts()
