"""What can be set for the alert relay; where alerts go is in its file of routes."""

from pathlib import Path

from pydantic import Field

from spendmeter.settings import ClickHouseSettings, PageAddress


class AlertSettings(PageAddress, ClickHouseSettings):
    """`SPENDMETER_ALERTS_…`, next to what every process reads.

    `SPENDMETER_CLICKHOUSE_…`, where it is set, is where messages have their names from.
    """

    component: str = "alerts-relay"
    alerts_routes: Path = Path("alerts.yaml")
    """The file of routes."""
    alerts_link: str = Field(default="", pattern=r"^(https?://.*)?$")
    """Where the page of an account is, with `{account}` or `{budget}` in it; empty: on the page that
    `web_url` names, or nowhere."""
    alerts_instance: str | None = None
    """Kafka's group.instance.id: a name that this process keeps over restarts and no other relay has."""
    alerts_timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    """After which an offer to a receiver is made again."""

    alerts_names_within_seconds: float = Field(default=0.3, ge=0, le=10)
    """How long a message waits for names at the most; then it says ids."""

    @property
    def has_history(self) -> bool:
        """Whether a history is named; there is no default."""
        return "clickhouse_url" in self.model_fields_set
