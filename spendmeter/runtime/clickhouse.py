"""The ClickHouse client as every process makes it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver import options
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error

from spendmeter.runtime.settings import ClickHouseSettings

CONNECT_TIMEOUT_SECONDS = 5
UNKNOWN_DATABASE = 81  # ClickHouse's code
_ANSWER_TAKES_SECONDS = 10  # beyond the time that a query may run

_ADVICE = (
    ({62}, "Multi-statements", "one statement at a time; nothing was run"),
    ({159}, "", "it ran too long and was stopped: ask for less, or raise SPENDMETER_QUERY_MAX_SECONDS"),
    ({164}, "Cannot modify", "settings cannot be changed in a query that reads; nothing was run"),
    (
        {164},
        "",
        "commands only read history, nothing was changed; to change it, use a client of ClickHouse's own",
    ),
    ({241}, "", "it needs too much memory: ask for less, or raise SPENDMETER_QUERY_MAX_MEMORY_BYTES"),
    ({358}, "", "a query writes no files; nothing was run"),
    ({396}, "", "too much to print: add a LIMIT, or sum it up"),
    ({497}, "", "this user of ClickHouse may not do that; docs/operations.md has each process's grants"),
    (
        {192, 193, 194, 516},
        "",
        "set SPENDMETER_CLICKHOUSE_USER and SPENDMETER_CLICKHOUSE_PASSWORD to a user that it knows",
    ),
)
"""ClickHouse's codes, what its message must hold, and what to do."""

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
    url, (user, password) = urlsplit(settings.clickhouse_url), settings.clickhouse_login
    return clickhouse_connect.get_client(
        host=url.hostname,
        port=url.port or (8443 if url.scheme == "https" else 8123),
        interface=url.scheme,
        username=user,
        password=password,
        database=database,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        # A session would allow one query at a time.
        autogenerate_session_id=False,
        **more,
    )


def reader(
    settings: ClickHouseSettings, *, at_least_seconds: int = 0, limits: Mapping[str, Any] = {}, **more: Any
) -> Client:
    """A client that ClickHouse itself keeps from changing anything, its settings and limits included.

    Each of its queries is stopped after the settings' time (`at_least_seconds`, where that is longer) and
    beyond their memory; `limits` are settings of ClickHouse beside these or in their place. A user whom
    ClickHouse lets change no settings keeps its own: that user is a reader already.

    Raises:
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    seconds = max(settings.query_max_seconds, at_least_seconds)
    connected = client(
        settings,
        database=settings.clickhouse_database,
        send_receive_timeout=seconds + _ANSWER_TAKES_SECONDS,
        **more,
    )
    held = {
        "max_execution_time": seconds,
        "max_memory_usage": settings.query_max_memory_bytes,
        **limits,
        "readonly": 1,
    }
    for name, value in held.items():
        known = connected.server_settings.get(name)
        if known is None or not known.readonly:
            connected.set_client_setting(name, value)
    return connected


def tell(error: Exception) -> str:
    """What ClickHouse itself said, in one line and with what can be done; never the URL or its password."""
    text = " ".join(str(error).split())
    _, _, said = text.rpartition("DB::Exception: ")
    said = (said if said != text else text).partition(" (for url ")[0]
    code = error.code if isinstance(error, Error) else None
    for codes, held, advice in _ADVICE:
        if code in codes and held in said:
            return f"{advice} ({said.removesuffix('.')})"
    return said
