"""What can be set for the page."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from spendmeter.settings import ENV_PREFIX, ClickHouseSettings, PageAddress

Network = IPv4Network | IPv6Network
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
Listed = Annotated[tuple[str, ...], NoDecode]
"""Several, separated by commas."""


class ConsoleSettings(ClickHouseSettings, PageAddress):
    """`SPENDMETER_WEB_…`, next to what every process reads.

    A request by another name than that of `web_url` is refused.
    """

    component: str = "web"
    web_port: int = Field(default=8180, ge=1, le=65535)
    web_people_file: Path | None = None
    """Who may sign in, with the hash of their token: `spendmeter web token` makes both."""
    web_trusted_proxies: Listed = ()
    """Addresses or networks of proxies whose word on who asks is believed, by commas."""
    web_proxy_header: str = Field(default="X-Forwarded-User", pattern=r"^[A-Za-z0-9-]{1,64}$")
    """The header in which such a proxy names the person; nobody else's is read."""
    web_host: str = Field(default="127.0.0.1", min_length=1, validate_default=True)
    """Where it listens. Beyond loopback somebody must be able to sign in."""
    web_session_hours: int = Field(default=12, ge=1, le=24 * 31)
    web_query_max_seconds: int = Field(default=10, ge=1, le=600)
    """A question of the page to ClickHouse is stopped after that long."""
    web_query_max_memory_bytes: int = Field(default=1024**3, ge=1024**2)
    web_changes: bool = Field(default=False, validate_default=True)
    """Whether editors may change budgets from the page; nobody does without sign-in."""
    web_metrics_urls: Listed = ()
    """Metrics pages of the other processes, by commas: what Health shows of them."""

    @field_validator("web_trusted_proxies", "web_metrics_urls", mode="before")
    @classmethod
    def _by_commas(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("web_trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            try:
                ip_network(one)
            except ValueError:
                raise ValueError(
                    f"{one!r} is no address or network such as 10.0.0.7 or 10.0.0.0/28"
                ) from None
        return value

    @field_validator("web_metrics_urls")
    @classmethod
    def _are_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not one.startswith(("http://", "https://")):
                raise ValueError(f"{one!r} is no URL such as http://stream-1:9100/metrics")
        return value

    @field_validator("web_host")
    @classmethod
    def _someone_can_sign_in(cls, value: str, info: ValidationInfo) -> str:
        if not _is_loopback(value) and not (
            info.data.get("web_people_file") or info.data.get("web_trusted_proxies")
        ):
            raise ValueError(
                f"beyond loopback nobody is served without sign-in; set {ENV_PREFIX}WEB_PEOPLE_FILE, or"
                f" {ENV_PREFIX}WEB_TRUSTED_PROXIES"
            )
        return value

    @field_validator("web_changes")
    @classmethod
    def _someone_can_be_named(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not (info.data.get("web_people_file") or info.data.get("web_trusted_proxies")):
            raise ValueError(
                f"a change bears its author's name, and nobody has one; set {ENV_PREFIX}WEB_PEOPLE_FILE, or"
                f" {ENV_PREFIX}WEB_TRUSTED_PROXIES"
            )
        return value

    @property
    def needs_sign_in(self) -> bool:
        """Whether a viewer must show who they are. Without it everybody on this machine may read."""
        return self.web_people_file is not None or bool(self.web_trusted_proxies)

    @property
    def names(self) -> frozenset[str]:
        """By which names a request may address the page: a page elsewhere that a DNS answer turned into
        this machine (rebinding) has another one."""
        own = urlsplit(self.web_url).hostname if self.web_url else None
        return LOCAL_NAMES | {self.web_host.lower()} | ({own} if own else set())

    @property
    def is_https(self) -> bool:
        return self.web_url.startswith("https://")

    @property
    def proxies(self) -> tuple[Network, ...]:
        return tuple(map(ip_network, self.web_trusted_proxies))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
