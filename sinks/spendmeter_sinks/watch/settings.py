"""What can be set for the watcher."""

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from spendmeter.settings import ClickHouseSettings
from spendmeter.values.times import time_zones


class WatchSettings(ClickHouseSettings):
    """`SPENDMETER_WATCH_…`, next to what every process reads."""

    component: str = "watch"
    watch_reconcile_every_hours: float = Field(default=24.0, ge=0, le=24 * 31)
    """How often recorded events, totals, signals and history are compared; 0: never."""
    watch_reconcile_wait_seconds: float = Field(default=60.0, ge=0, le=3_600)
    """How long each step of that waits for the stream and history to come to the same point."""
    watch_gateways_every_minutes: float = Field(default=5.0, ge=0, le=24 * 60)
    """How often gateways are searched for that no longer send usage; 0: never."""
    watch_timezone: str = "UTC"
    """IANA name: of the clock in messages, and of the days of digests."""
    watch_anomaly_every_minutes: float = Field(default=10.0, ge=0, le=60)
    """How often the last hours are compared with those of the weeks before; 0: never."""
    watch_anomaly_least_usd: float = Field(default=10.0, gt=0, le=1_000_000)
    """An hour in which less is spent is not unusual, whatever is usual then."""
    watch_anomaly_ratio: float = Field(default=2.5, ge=1, le=1_000)
    """An unusual hour has more than so many times what is usual."""
    watch_unused_days: int = Field(default=30, ge=0, le=400)
    """After so many days without a request a key counts as unused; 0: never."""
    watch_unused_of: Literal["key", "user", "team", "organization", "project"] = "key"
    """Whose values are searched for."""
    watch_digests: Literal["off", "daily", "weekly", "both"] = "off"
    """Whether each team's spend is reported, and of what."""
    watch_digest_hour: int = Field(default=8, ge=0, le=23)
    """When it is, on the clock of `watch_timezone`: of yesterday, and on Mondays of the week before."""

    @field_validator("watch_timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        if value not in time_zones():
            raise ValueError(f"{value[:50]!r} is no IANA time zone such as Europe/Berlin")
        return value

    @property
    def watch_zone(self) -> ZoneInfo:
        return ZoneInfo(self.watch_timezone)
