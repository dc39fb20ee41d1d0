"""Settings of the stream worker."""

from pathlib import Path

from pydantic import Field

from spendmeter.kafka.groups import STREAM_GROUP
from spendmeter.settings import Settings


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

    @property
    def app_id(self) -> str:
        """Kafka group and prefix of the changelogs: a new id begins a new, empty stream."""
        return self.topic_prefix + STREAM_GROUP

    def changelog(self, table: str) -> str:
        """The changelog topic that Faust keeps for a table."""
        return f"{self.app_id}-{table}-changelog"
