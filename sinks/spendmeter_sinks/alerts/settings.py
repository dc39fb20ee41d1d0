"""What can be set for the alert relay; where alerts go is in its file of routes."""

from pathlib import Path

from pydantic import Field

from spendmeter.settings import PageAddress


class AlertSettings(PageAddress):
    """`SPENDMETER_ALERTS_…`, next to what every process reads."""

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
