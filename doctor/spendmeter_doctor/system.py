"""What the doctor examines: the settings of one system, and of the proxy beside it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from spendmeter.settings import ClickHouseSettings
from spendmeter_doctor.litellm_config import LitellmConfig
from spendmeter_gateway.settings import GatewaySettings


class Process(StrEnum):
    """The processes whose rights are checked."""

    GATEWAY = "gateway"
    STREAM = "stream"
    SINK = "sink"
    RELAY = "relay"
    PEOPLE = "people"


READS_HISTORY = frozenset({Process.SINK, Process.PEOPLE})


@dataclass(frozen=True, slots=True)
class LitellmAccess:
    """A running proxy, and its master key."""

    url: str
    api_key: str


@dataclass(frozen=True, slots=True)
class System:
    """Everything that a check may need; it reads no environment of its own."""

    settings: ClickHouseSettings
    processes: frozenset[Process]
    """Those that run with these settings."""
    has_history: bool = True
    """Whether the settings name a ClickHouse."""
    gateway: GatewaySettings | None = None
    """None where no gateway would run: another machine, or a local stack, which sets its own."""
    is_data_dir_set: bool = True
    """Whether somebody chose the outbox's folder."""
    litellm_release: str | None = None
    """Of this environment; None if there is none."""
    config: LitellmConfig | None = None
    litellm: LitellmAccess | None = None
    workers: int = 1
    """Of one proxy."""
    clock: Callable[[], float] = time.time
    """This machine's, in seconds since 1970."""
