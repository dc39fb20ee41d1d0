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
"""So that a decision stays a few kilobytes."""


class Why(StrEnum):
    """Why a request was refused."""

    LIMIT_REACHED = "limit_reached"
    """Events in the current window add up to the limit."""
    BLIND = "blind"
    """What has been spent cannot be verified, and `on_stale` is `block`."""
    UNPRICED = "unpriced"
    """Nobody knows the model's price, and the budget's `unpriced` is `block`."""
    NO_ROOM = "no_room"
    """`strict`: what is left of the limit, less what running requests may yet cost, does not pay for it."""
    UNBOUNDED = "unbounded"
    """`strict`: nothing bounds what it may cost, and the budget's `unpriced` is `block`."""
    CONTROL = "control"
    """The body has a control of LiteLLM's under which the request cannot be metered; the message names it."""
    TAG_MISSING = "tag_missing"
    """A dimension that every request must name is not named; the message says which."""


class Decision(Wire):
    """A refusal. Known were the events under `watermark`, `producer_id`'s up to `seq`, and `pending`."""

    decision_id: UUID
    """A UUIDv7; the client has it as `x-spendmeter-decision`."""
    decided_at: UtcTime
    gateway: str
    why: Why
    name: str
    """The key's alias, else its hash; of a caller without a key, its user, team, organization or end user."""
    message: str
    """As the client was told."""
    budget_id: str | None = None
    """None, as all below, where the gateway was blind before it had read any budget."""
    revision: Whole | None = None
    account: str | None = None
    window_start: UtcTime | None = None
    window_end: UtcTime | None = None
    """None for a lifetime, too."""
    limit_nanousd: Amount | None = None
    spent_nanousd: Amount | None = None
    """Known for certain, `signal_nanousd` included."""
    signal_nanousd: Amount | None = None
    held_nanousd: Amount | None = None
    """What other running requests held of the limit."""
    least_nanousd: Amount | None = None
    """What the request needed at the least, where that is why."""
    watermark: dict[int, int] = Field(default_factory=dict)
    """Source partition of spend.usage: the last offset that `signal_nanousd` includes."""
    producer_id: str | None = None
    """Of the gateway's own events; None while it had no outbox."""
    seq: Whole = 0
    """Its own events up to this one had been recorded."""
    pending_nanousd: Amount | None = None
    """Of `spent_nanousd`: what had been answered, its cost known, and not yet been recorded."""
    pending: tuple[UUID, ...] = ()
    """Their ids: the costliest, as many as it takes to bear the refusal out, MAX_NAMED at most."""
