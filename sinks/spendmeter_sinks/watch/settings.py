"""What can be set for the watcher."""

from pydantic import Field

from spendmeter.settings import ClickHouseSettings


class WatchSettings(ClickHouseSettings):
    """`SPENDMETER_WATCH_…`, next to what every process reads."""

    component: str = "watch"
    watch_reconcile_every_hours: float = Field(default=24.0, ge=0, le=24 * 31)
    """How often recorded events, totals, signals and history are compared; 0: never."""
    watch_reconcile_wait_seconds: float = Field(default=60.0, ge=0, le=3_600)
    """How long each step of that waits for the stream and history to come to the same point."""
    watch_gateways_every_minutes: float = Field(default=5.0, ge=0, le=24 * 60)
    """How often gateways are searched for that no longer send usage; 0: never."""
