"""Settings of the stream worker."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from spendmeter.kafka.groups import STREAM_GROUP
from spendmeter.settings import Settings
from spendmeter.values.dimensions import CLIENT_MADE, DIMENSIONS


class StreamSettings(Settings):
    """`SPENDMETER_…` in the environment; see spendmeter/settings.py for what all processes share."""

    component: str = "stream"
    data_dir: Path = Path(".spendmeter/stream")
    instance_id: str | None = None
    """Unique per worker and unchanged across restarts: the group then returns its partitions at once."""
    session_timeout_seconds: float = Field(default=10.0, ge=3.0, le=300.0)
    """A worker that is silent for this long loses its partitions, and stops itself when it wakes."""
    commit_interval_seconds: float = Field(default=1.0, gt=0, le=60.0)
    """How much is replayed, harmlessly, after a crash."""
    fetch_max_wait_ms: int = Field(default=50, ge=1, le=1500)
    standby_replicas: int = Field(default=0, ge=0, le=10)
    max_accounts_per_budget: int = Field(default=100_000, ge=0)
    """In one window and source partition, for a budget whose values clients invent; 0 is no bound."""
    expire_interval_seconds: float = Field(default=60.0, gt=0)
    budget_gauges: int = Field(default=100, ge=0, le=10_000)
    """Of how many accounts there are gauges: of those closest to their limit; 0: of none."""
    budget_gauge_labels: Annotated[tuple[str, ...], NoDecode] = tuple(
        dimension for dimension in DIMENSIONS if dimension not in CLIENT_MADE
    )
    """Dimensions that may be labels, by commas. An account that names another one has no gauges."""

    @field_validator("budget_gauge_labels", mode="before")
    @classmethod
    def _by_commas(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("budget_gauge_labels")
    @classmethod
    def _are_dimensions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if one not in DIMENSIONS:
                raise ValueError(f"{one!r} is no dimension; these are: {', '.join(DIMENSIONS)}")
        return value

    @property
    def app_id(self) -> str:
        """Kafka group and prefix of the changelogs: a new id begins a new, empty stream."""
        return self.topic_prefix + STREAM_GROUP

    def changelog(self, table: str) -> str:
        """The changelog topic that Faust keeps for a table."""
        return f"{self.app_id}-{table}-changelog"
