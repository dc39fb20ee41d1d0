"""The ClickHouse client as every process makes it."""

from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver import options
from clickhouse_connect.driver.client import Client

from spendmeter.runtime.settings import ClickHouseSettings

CONNECT_TIMEOUT_SECONDS = 5
UNKNOWN_DATABASE = 81  # ClickHouse's code

# Else the first insert imports pandas to learn that it was given none, where it happens to be installed
# (chDB brings it): seconds after each start in which nothing is inserted.
options.pd = options.np = None


def client(settings: ClickHouseSettings, *, database: str | None, **more: Any) -> Client:
    """A client of the server that the settings name; `more` are clickhouse-connect's own names.

    `database` None is the server's default, for a moment when ours need not exist. User and password of
    the URL come before those of the settings. It may be used from several threads.

    Raises:
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    url = urlsplit(settings.clickhouse_url)
    return clickhouse_connect.get_client(
        host=url.hostname,
        port=url.port or (8443 if url.scheme == "https" else 8123),
        interface=url.scheme,
        username=unquote(url.username) if url.username else settings.clickhouse_user,
        password=unquote(url.password) if url.password else settings.clickhouse_password.get_secret_value(),
        database=database,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        # A session would allow one query at a time.
        autogenerate_session_id=False,
        **more,
    )


def tell(error: Exception) -> str:
    """What ClickHouse itself said, in one line: without the driver's frame and the URL's password."""
    text = " ".join(str(error).split())
    _, _, said = text.rpartition("DB::Exception: ")
    return said.partition(" (for url ")[0] if said != text else text.partition(" (for url ")[0]
