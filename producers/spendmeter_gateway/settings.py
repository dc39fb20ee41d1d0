"""Settings of the callback, read from the environment (`SPENDMETER_…`) of the LiteLLM proxy."""

import socket
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from spendmeter.contract.wire import MAX_TEXT_CHARS
from spendmeter.litellm.budgets import Adopt
from spendmeter.settings import Settings
from spendmeter_gateway.model import ClientValue, ClientValues, OnStale, Policy
from spendmeter_gateway.pricing.price_list import GENAI_PRICES, has_genai_prices, load_book


class GatewaySettings(Settings):
    """What the gateway side can be told."""

    component: str = "gateway"
    gateway: str = Field(default_factory=socket.gethostname, min_length=1, max_length=MAX_TEXT_CHARS)
    """This gateway's name: a dimension of budgets, and the source of its events."""
    data_dir: Path = Path(".spendmeter/gateway")
    """Where the outbox lies; keep it across restarts, and share it with no other host."""
    outbox_max_bytes: int = Field(default=1024**3, ge=1024**2)
    """Beyond it, events that Kafka has not taken are lost, counted and reported."""
    outbox_fsync: bool = False
    """Flush each event to the disk: it then survives the machine too, and who records it waits for that."""

    linger_ms: int = Field(default=100, ge=0, le=5_000)
    """How long an event may wait for others, to be sent with them. One that takes an account to 80 % of a
    limit, or whose account has 1 % of it unsent, does not wait and takes the others along."""
    start_wait_ms: int = Field(default=5_000, ge=0, le=60_000)
    """How long a request may wait, after a start, for budgets and signals to have been read."""
    ack_wait_ms: int = Field(default=300, ge=0, le=5_000)
    """How long a request may wait to learn whether an event is in a signal already. Then it is admitted."""
    stale_after_seconds: float = Field(default=30.0, gt=0)
    """Kafka or the stream silent about our own events for that long: we are blind."""
    on_stale: OnStale = "allow"
    """What is done while blind with a request that known spend does not refuse."""
    strict_wait_ms: int = Field(default=30_000, ge=0, le=600_000)
    """`strict`: how long a request may wait for running ones to settle, where it may fit then."""
    strict_clamp: bool = True
    """`strict`: lower a request's maximum of output tokens to what is left, rather than refuse it."""
    strict_default_output_tokens: int = Field(default=4_096, ge=1)
    """`strict`: with so many a request that names no maximum goes ahead where there is no room for more,
    and is limited to them where its model's own maximum is not known."""
    strict_min_output_tokens: int = Field(default=16, ge=1)
    """`strict`: what is left pays for fewer: refused. 16 is the least that OpenAI's /v1/responses takes."""
    hold_max_seconds: float = Field(default=900.0, gt=0)
    """`strict`: the last resort. A hold that old is dropped and counted: its request's end has escaped us."""
    pending_max_seconds: float = Field(default=60.0, gt=0)
    """An answer that LiteLLM has not logged by then counts no longer until it is: perhaps it never is."""
    budget_headers: bool = False
    """Tell clients, on every answer, what is left of the budget that is closest to its limit."""

    adopt: Adopt = "both"
    """Which budgets of LiteLLM's become ours when a request shows them: its `native` limits, those in the
    `metadata` of keys and teams, `both`, or none (`off`)."""

    strict_unbounded_usd: Decimal | None = Field(default=None, gt=0)
    """What is held under `strict` for a request that nothing bounds: paid tools, media, a model's own
    search. Without it such a request is refused."""

    client_tags: ClientValue = "accept"
    """Tags that a request brings: counted beside those of its key, team and project; not counted; or a
    request without any is refused. Whatever it says, their own always count."""
    client_end_user: ClientValue = "accept"
    """The end user that a request names, likewise."""
    client_session: ClientValue = "accept"
    """The session that a request names, likewise."""

    follow_objects_seconds: float = Field(default=30.0, ge=0, le=3_600)
    """A background response that no client has read to its end by then is read here, that often at first,
    until it is billed; 0 leaves what nobody reads unbilled."""

    pricebook: Path | None = None
    """A YAML file with prices for models that LiteLLM knows none of; read again when it changes."""
    price_fallback: Literal["none", "genai-prices"] = "none"
    """Where to look for a price that neither LiteLLM nor the price book knows."""

    drain_seconds: float = Field(default=5.0, ge=0, le=60)
    """How long a stop may take to hand Kafka what is in the outbox; the next start sends the rest."""

    @field_validator("pricebook")
    @classmethod
    def _pricebook_can_be_used(cls, value: Path | None) -> Path | None:
        if value is not None:
            load_book(value)
        return value

    @field_validator("price_fallback")
    @classmethod
    def _fallback_is_installed(cls, value: str) -> str:
        if value == GENAI_PRICES and not has_genai_prices():
            raise ValueError(f"{value} is not installed; pip install genai-prices")
        return value

    @property
    def client_values(self) -> ClientValues:
        """What becomes of the names that clients make up."""
        return ClientValues(self.client_tags, self.client_end_user, self.client_session)

    @property
    def policy(self) -> Policy:
        """What admission needs of it."""
        return Policy(self.on_stale, self.stale_after_seconds, self.ack_wait_ms / 1000)
