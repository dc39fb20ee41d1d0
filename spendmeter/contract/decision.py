"""The decision: a request that was refused, and everything that the refusal rests on."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, Strict

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.wire import Whole, Wire
from spendmeter.values.times import UtcTime

Amount = Annotated[NanoUsd, Strict()]
MAX_NAMED = 100
"""This keeps a decision at a few kilobytes."""


class Why(StrEnum):
    """Why a request was refused."""

    LIMIT_REACHED = "limit_reached"
    """Events in the current window add up to the limit."""
    BLIND = "blind"
    """What has been spent cannot be verified, and `on_stale` is `block`."""
    UNPRICED = "unpriced"
    """Nobody knows the model's price, and the budget's `unpriced` is `block`."""
    NO_ROOM = "no_room"
    """`strict`: the rest of the limit, less what running requests may still cost, does not pay for it."""
    UNBOUNDED = "unbounded"
    """`strict`: its cost has no upper bound, and the budget's `unpriced` is `block`."""
    CONTROL = "control"
    """A control of LiteLLM's in the body makes metering impossible; the message names it."""
    TAG_MISSING = "tag_missing"
    """A required dimension is missing; the message says which."""


class Decision(Wire):
    """A refusal. It rests on the events under `watermark`, those of `producer_id` up to `seq`, and
    `pending`.
    """

    decision_id: UUID
    """A UUIDv7; the client has it as `x-spendmeter-decision`."""
    decided_at: UtcTime
    gateway: str
    why: Why
    name: str
    """The key's alias, else its hash; of a caller without a key, its user, team, organization or end user."""
    message: str
    """The message that the client got."""
    budget_id: str | None = None
    """None, like everything below, if the gateway was blind before it had read any budget."""
    revision: Whole | None = None
    account: str | None = None
    window_start: UtcTime | None = None
    window_end: UtcTime | None = None
    """Also None for a lifetime."""
    limit_nanousd: Amount | None = None
    spent_nanousd: Amount | None = None
    """The certain spend, `signal_nanousd` included."""
    signal_nanousd: Amount | None = None
    held_nanousd: Amount | None = None
    """The part of the limit that other running requests held."""
    least_nanousd: Amount | None = None
    """The least that the request needed, if that is the reason."""
    watermark: dict[int, int] = Field(default_factory=dict)
    """Source partition of spend.usage: the last offset that `signal_nanousd` includes."""
    producer_id: str | None = None
    """The producer of the gateway's own events; None while it had no outbox."""
    seq: Whole = 0
    """The gateway's own events up to this one had been recorded."""
    pending_nanousd: Amount | None = None
    """The part of `spent_nanousd` that was answered, with a known cost, but not yet recorded."""
    pending: tuple[UUID, ...] = ()
    """Ids of the costliest of these, as many as are needed to justify the refusal, MAX_NAMED at most."""
