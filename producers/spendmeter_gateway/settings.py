"""Settings of the callback, read from the environment (`SPENDMETER_…`) of the LiteLLM proxy."""

import socket
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from spendmeter.contract.wire import MAX_TEXT_CHARS
from spendmeter.litellm.budgets import Adopt
from spendmeter.settings import PageAddress
from spendmeter_gateway.model import ClientValue, ClientValues, OnStale, Policy
from spendmeter_gateway.pricing.price_list import GENAI_PRICES, has_genai_prices, load_book


class GatewaySettings(PageAddress):
    """Settings of the gateway."""

    component: str = "gateway"
    gateway: str = Field(default_factory=socket.gethostname, min_length=1, max_length=MAX_TEXT_CHARS)
    """This gateway's name: a dimension of budgets, and the source of its events."""
    data_dir: Path = Path(".spendmeter/gateway")
    """The outbox's directory; keep it across restarts, and share it with no other host."""
    outbox_max_bytes: int = Field(default=1024**3, ge=1024**2)
    """Once this many bytes await Kafka, new events are lost; the loss is counted and logged."""
    outbox_fsync: bool = False
    """Flush each event to the disk: it then survives the machine, too, but recording waits for the flush."""

    metrics_ports: int = Field(default=1, ge=1, le=1_000)
    """So many ports, from metrics_port on, are tried: one for each worker process of the proxy."""

    linger_ms: int = Field(default=100, ge=0, le=5_000)
    """How long an event may wait to be sent with others. An event that brings an account to 80 % of a
    limit, or whose account has 1 % of it unsent, does not wait, and the others are sent with it."""
    start_wait_ms: int = Field(default=5_000, ge=0, le=60_000)
    """How long a request may wait, after a start, until budgets and signals have been read."""
    ack_wait_ms: int = Field(default=300, ge=0, le=5_000)
    """How long a request may wait to learn whether an event is already in a signal. Then it is admitted."""
    stale_after_seconds: float = Field(default=30.0, gt=0)
    """The gateway is blind once Kafka, or the stream about its own events, has been silent for this long."""
    on_stale: OnStale = "allow"
    """What a blind gateway does with a request that known spend does not refuse."""
    strict_wait_ms: int = Field(default=30_000, ge=0, le=600_000)
    """`strict`: how long a request may wait for running ones to settle, if it may fit then."""
    strict_clamp: bool = True
    """`strict`: lower a request's maximum of output tokens to what is left, rather than refuse it."""
    strict_default_output_tokens: int = Field(default=4_096, ge=1)
    """`strict`: the maximum for a request that names none, if there is no room for more or its model's own
    maximum is not known."""
    strict_min_output_tokens: int = Field(default=16, ge=1)
    """`strict`: a request is refused if what is left pays for fewer. OpenAI's /v1/responses needs at least
    16.
    """
    hold_max_seconds: float = Field(default=900.0, gt=0)
    """`strict`: the last resort. An older hold is dropped and counted: the gateway missed its request's end.
    """
    pending_max_seconds: float = Field(default=60.0, gt=0)
    """An answer that LiteLLM has not logged by then stops counting until it is logged, if ever."""
    budget_headers: bool = False
    """Say in every answer what is left of the budget that is closest to its limit."""

    adopt: Adopt = "both"
    """Which budgets of LiteLLM's become ours when a request shows them: its `native` limits, those in the
    `metadata` of keys and teams, `both`, or none (`off`)."""

    strict_unbounded_usd: Decimal | None = Field(default=None, gt=0)
    """The amount held under `strict` for a request without a bound: paid tools, media, a model's own
    search. Without this setting such a request is refused."""

    client_tags: ClientValue = "accept"
    """Tags in a request: count beside those of its key, team and project; do not count; or are required.
    The tags of key, team and project always count."""
    client_end_user: ClientValue = "accept"
    """The end user in a request, likewise."""
    client_session: ClientValue = "accept"
    """The session in a request, likewise."""

    user_email: Literal["record", "leave_out"] = "record"
    """Whether an event carries the e-mail address that LiteLLM knows of its user."""

    follow_objects_seconds: float = Field(default=30.0, ge=0, le=3_600)
    """If no client has read a background response to its end by then, the gateway reads it, at first at this
    interval, until it is billed; with 0, responses that nobody reads stay unbilled."""

    pricebook: Path | None = None
    """A YAML file with prices for models without a price in LiteLLM; read again when it changes."""
    price_fallback: Literal["none", "genai-prices"] = "none"
    """The source for a price that neither LiteLLM nor the price book knows."""

    drain_seconds: float = Field(default=5.0, ge=0, le=60)
    """How long a stop may spend sending the outbox to Kafka; the next start sends the rest."""

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
        """How names that clients invent are treated."""
        return ClientValues(self.client_tags, self.client_end_user, self.client_session)

    @property
    def policy(self) -> Policy:
        """The settings that admission needs."""
        return Policy(self.on_stale, self.stale_after_seconds, self.ack_wait_ms / 1000)
