"""The usage event: one record per finished request, and the unit of billing."""

from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, Strict, model_validator

from spendmeter.contract.money import LIMIT_OF_AMOUNTS_NANOUSD, NanoUsd
from spendmeter.contract.wire import MAX_TEXT_CHARS, OptionalText, Text, Whole, Wire
from spendmeter.values.times import UtcTime

CREATOR_UNKNOWN = "creator unknown"
"""The `reason` of an object's event that is charged to its reader, because its maker is unknown."""


class UsageKind(StrEnum):
    """Whether an event is a finished request, or changes the cost of one."""

    USAGE = "usage"
    CORRECTION = "correction"
    VOID = "void"


class CostSource(StrEnum):
    """Where the cost comes from. Unknown is not zero: `unpriced` is flagged, never silently free."""

    LITELLM = "litellm"
    PRICEBOOK = "pricebook"
    UNPRICED = "unpriced"
    CACHE = "cache"
    TOKENS = "tokens"
    """Computed at the gateway, tokens × listed prices: LiteLLM reported nothing, or an impossible cost."""


class Doubt(StrEnum):
    """Why the cost that LiteLLM reported does not count."""

    NONE = ""
    NOT_A_COST = "not_a_cost"
    """Negative, not finite, not a number, or more than we can store."""
    ZERO = "zero"
    """Nothing, although the tokens have a price."""
    BELOW_PARTS = "below_parts"
    """Less than LiteLLM's own figures for its parts."""
    BELOW_TOKENS = "below_tokens"
    """Less than tokens × prices, with the discount or service tier that LiteLLM names."""


class Status(StrEnum):
    """How the request ended for its client."""

    SUCCESS = "success"
    FAILURE = "failure"


ALIASES = ("user_alias", "user_email", "team_alias", "organization_alias", "project_alias")
"""Fields with names for people, beside `key_alias`."""
MAX_TAGS = 100
MAX_PRICES = 100
PriceText = Annotated[str, Field(max_length=128)]
Count = Annotated[Whole, Field(ge=0, lt=2**63)]
"""The prices for which history has columns."""
Amount = Annotated[NanoUsd, Strict(), Field(ge=-LIMIT_OF_AMOUNTS_NANOUSD, le=LIMIT_OF_AMOUNTS_NANOUSD)]


class UsageEvent(Wire):
    """What one request cost, for whom, and at which prices.

    Token counts are inclusive: cache reads and writes are part of `input_tokens`, reasoning is
    part of `output_tokens`.
    """

    event_id: UUID
    """UUIDv7, minted at the gateway; a resend carries the same one."""
    kind: UsageKind = UsageKind.USAGE
    corrects: UUID | None = None
    producer_id: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)
    seq: Whole = Field(ge=1, lt=2**63)
    """Dense per producer_id, from 1, so a gap names what was lost."""
    occurred_at: UtcTime
    """When the request finished; decides the window."""
    started_at: UtcTime

    key: Text = ""
    """Hash of the API key, never the key itself. Empty when there was none."""
    key_alias: OptionalText = None
    user: OptionalText = None
    team: OptionalText = None
    organization: OptionalText = None
    project: OptionalText = None
    end_user: OptionalText = None
    tags: tuple[Text, ...] = Field(default=(), max_length=MAX_TAGS)

    user_alias: OptionalText = None
    """Names for people, of the ids above: no budget matches them. None where the gateway knows none."""
    user_email: OptionalText = None
    team_alias: OptionalText = None
    organization_alias: OptionalText = None
    project_alias: OptionalText = None

    model: Text = ""
    """As priced."""
    model_group: Text = ""
    """As requested."""
    provider: Text = ""
    deployment: OptionalText = None
    call_type: Text = ""
    session: OptionalText = None
    gateway: Text = ""

    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    reasoning_tokens: Count = 0
    total_tokens: Count = 0

    cost_nanousd: Amount
    cost_source: CostSource
    prices: dict[PriceText, PriceText] = Field(default_factory=dict, max_length=MAX_PRICES)
    """USD per unit as decimal strings (`input_token`, `output_token`, …), and `version`."""

    cost_doubt: Doubt = Doubt.NONE
    """Why the cost is not the one that LiteLLM reported; empty if it is, or if LiteLLM reported none."""

    status: Status = Status.SUCCESS
    estimated: bool = False
    """No provider gave these counts: the client left before the end, or the answer came without any."""
    streamed: bool = False
    cache_hit: bool = False
    duration_ms: Count = 0
    call_id: Text = ""
    response_id: Text = ""
    object_id: Text = ""
    """What the provider bills once, if this is its bill: counted once, whoever sends it."""

    reason: Text = ""
    """The author's reason for a correction or void; `CREATOR_UNKNOWN`, or empty."""
    recorded_by: Text = ""
    """Who made a correction or void; empty for what a gateway recorded."""

    @model_validator(mode="after")
    def _signs_and_references(self) -> Self:
        check_signs_and_references(self.kind, self.cost_nanousd, self.corrects)
        return self


# An enum's attributes would cost as much as the rest of the checks below, for every event.
_USAGE = UsageKind.USAGE


def check_signs_and_references(kind: UsageKind, cost_nanousd: NanoUsd, corrects: UUID | None) -> None:
    """Check what must hold between the fields of any usage event.

    Raises:
        ValueError: a usage event is negative or corrects another, or a correction or void names none.
    """
    if kind is _USAGE:
        if cost_nanousd < 0:
            raise ValueError("cost_nanousd of a usage event is negative; send kind=correction instead")
        if corrects is not None:
            raise ValueError("corrects is set on a usage event; only a correction or void corrects")
    elif corrects is None:
        raise ValueError(f"kind={kind} without corrects; name the event id it corrects")
