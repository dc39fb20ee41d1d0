"""The values that the gateway's rooms exchange: plain data, no clock, no I/O, nothing of LiteLLM."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from uuid import UUID

from msgspec import Struct

from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import construct_unchecked
from spendmeter.domain.matching import Subject
from spendmeter.values.models import canonical_model

ClientValue = Literal["accept", "ignore", "require"]
"""How a name that clients invent is treated: used, ignored, or required in every request."""


class Aliases(NamedTuple):
    """Names for people of who asks, as authentication knows them; they decide nothing."""

    user_alias: str | None = None
    user_email: str | None = None
    team_alias: str | None = None
    organization_alias: str | None = None
    project_alias: str | None = None


NO_ALIASES = Aliases()


class Caller(NamedTuple):
    """The caller, and its name in messages."""

    subject: Subject
    name: str
    """The key's alias, else its hash; without a key (JWT) the user, team, organization or end user."""
    alias: str | None = None
    """The key's alias, as in its events."""
    aliases: Aliases = NO_ALIASES

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
            **self.aliases._asdict(),
        }


class ClientValues(NamedTuple):
    """How names that clients invent are treated."""

    tags: ClientValue = "accept"
    end_user: ClientValue = "accept"
    session: ClientValue = "accept"


ACCEPTED = ClientValues()


# Every field, in the model's order.
_NO_FIELDS = {
    name: field.get_default(call_default_factory=True) for name, field in UsageEvent.model_fields.items()
}


class Origin(Struct, frozen=True):
    """The outbox and the gateway that an event comes from."""

    producer_id: str
    gateway: str


class UsageDraft(NamedTuple):
    """A usage event without its sequence number in an outbox."""

    fields: Mapping[str, Any]
    """Valid for the event's model, with all required fields: the model does not validate them again."""
    doubt: str | None = None
    """What LiteLLM reported, if it cannot be a cost: the caller logs it."""
    images: int = 0
    """The number of pictures; events do not carry it, but the price book may have a price for each."""

    def finish(self, origin: Origin, seq: int, event_id: UUID | None = None) -> UsageEvent:
        """The event with that sequence number, and with that id if one is given."""
        fields = {**_NO_FIELDS, **self.fields}
        # Until here the model has its logged or configured name, so that prices are found by any name.
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
    """The destination of a call, with the names that its usage event will have."""

    model_group: str
    model: str
    provider: str
    id: str | None = None
    tags: tuple[str, ...] = ()
    """What the operator configured for the deployment."""


class RequestSize(NamedTuple):
    """The size of one request."""

    text_bytes: int
    frame_tokens: int
    """Tokens that come from no text."""
    images: int
    is_open: bool
    """Whether it contains or names something whose tokens cannot be counted here."""
    has_paid_tools: bool
    """Whether it may use tools that the provider bills per use, as often as the model decides."""
    has_output: bool
    max_output_tokens: int | None
    """Per answer, as the client set it."""
    least_output_tokens: int
    answers: int
    is_hurried: bool
    """Whether it may be served at a priority price."""
    caches_for_an_hour: bool
    texts: tuple[str, ...]
    made_images: int = 0
    """Pictures to make."""
    made_pixels: int | None = None
    """Of each picture; None if the request names no size."""
    searches: int = 0
    """The most that a reranking provider bills."""
    ranked_tokens: int = 0
    """The tokens of a reranker: it reads the query again with each document."""
    is_speech: bool = False


class UsageCounts(NamedTuple):
    """The usage of one call, with nothing counted twice.

    Inclusive, as in a usage event: cache, audio, pictures and video are part of `input_tokens`; reasoning and
    generated media are part of `output_tokens`.
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
    """Not from the cache; the same holds for the next two."""
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
