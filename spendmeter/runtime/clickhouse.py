"""How every process makes its ClickHouse client. Rooms that only use one import its types from here."""

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver import options
from clickhouse_connect.driver.client import Client as Client
from clickhouse_connect.driver.exceptions import Error as Error
from clickhouse_connect.driver.query import QueryResult as QueryResult
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from spendmeter.settings import ClickHouseSettings
from spendmeter.visible import one_line

_ANY_NUMBER = 1 << 40

ONE_INSERT_IS_ONE_BLOCK = {
    # One block: ClickHouse stores it whole or not at all, and a token identifies it.
    # Otherwise several inserts may share a block, and the answer comes before the rows are stored.
    "async_insert": 0,
    "max_insert_threads": 1,
    "max_insert_block_size": _ANY_NUMBER,
    "min_insert_block_size_rows": _ANY_NUMBER,
    "min_insert_block_size_bytes": 0,
}


CONNECT_TIMEOUT_SECONDS = 5
_ANSWER_SECONDS = 10  # in addition to the time limit of a query

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
"""ClickHouse's codes, a part of its message, and what to do."""
# ClickHouse's codes.
UNKNOWN_DATABASE, UNKNOWN_TABLE = 81, 60
_MAX_CAUSES = 20
_TRUST = "use a name that it is for, or have its CA among those that the system trusts (SSL_CERT_FILE)"
OF_THE_SYSTEM = (
    "(topic = {topic:String} OR topic IN (SELECT follows_topic FROM incarnations WHERE follows_topic != ''))"
)
"""Condition on rows of usage: of the topic, or of one from which its system has moved."""

# Otherwise, if pandas is installed (chDB brings it), the first insert imports it just for a type check: for
# seconds after each start nothing would be inserted.
options.pd = options.np = None


class Unusable(Exception):
    """ClickHouse cannot be reached or refuses; the message says why and what to do."""


def client(settings: ClickHouseSettings, *, database: str | None, **more: Any) -> Client:
    """A client of the server in the settings; `more` are clickhouse-connect's own options.

    `database` None is the server's default, for when ours need not exist yet. User and password in
    the URL override those in the settings. Several threads may use the client.

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
    """A client that ClickHouse itself prevents from changing anything, its settings and limits included.

    ClickHouse stops each query after the time in our settings (or `at_least_seconds`, if longer) and
    above their memory; `limits` are ClickHouse settings that extend or replace these. A user who may
    not change settings keeps its own: that user is already a reader.

    Raises:
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    seconds = max(settings.query_max_seconds, at_least_seconds)
    connected = client(
        settings,
        database=settings.clickhouse_database,
        send_receive_timeout=seconds + _ANSWER_SECONDS,
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


def render_error(error: Exception) -> str:
    """ClickHouse's own message in one line, with what can be done; never the URL or its password."""
    text = one_line(str(error))
    _, _, said = text.rpartition("DB::Exception: ")
    said = (said if said != text else text).partition(" (for url ")[0]
    code = error.code if isinstance(error, Error) else None
    for codes, held, advice in _ADVICE:
        if code in codes and held in said:
            return f"{advice} ({said.removesuffix('.')})"
    return said


def why_unusable(error: Exception, settings: ClickHouseSettings) -> str:
    """Why history cannot be used, in one sentence with the setting or command that corrects it."""
    at = settings.clickhouse_address
    if isinstance(error, Error) and error.code is not None:
        mended = {
            UNKNOWN_DATABASE: "correct SPENDMETER_CLICKHOUSE_DATABASE, or make the tables with"
            " `spendmeter sink migrate`",
            UNKNOWN_TABLE: "make our tables with `spendmeter sink migrate`",
        }.get(error.code)
        return render_error(error).rstrip(".") + (f"; {mended}" if mended else "")
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                said = one_line(cause.verify_message or str(cause)).rstrip(".")
                return f"the certificate of ClickHouse at {at} cannot be verified ({said}); {_TRUST}"
            case ssl.SSLError():
                said = f"{cause.reason or cause}".replace("_", " ").lower()
                return (
                    f"the TLS handshake with ClickHouse at {at} fails ({one_line(said)}); give the port that"
                    " speaks TLS, or http:// in SPENDMETER_CLICKHOUSE_URL"
                )
            case socket.gaierror() | NameResolutionError():
                return f"the name in SPENDMETER_CLICKHOUSE_URL ({at}) cannot be resolved; correct it"
            case ConnectionRefusedError():
                return (
                    f"no ClickHouse answers at {at} (connection refused); start it (`spendmeter status` says"
                    " what runs here), or correct SPENDMETER_CLICKHOUSE_URL"
                )
            case NewConnectionError():
                # urllib3 calls it a timeout; its cause is more precise.
                continue
            case TimeoutError() | ConnectTimeoutError() | ReadTimeoutError():
                return (
                    f"ClickHouse at {at} does not answer in time; correct SPENDMETER_CLICKHOUSE_URL, or let"
                    " the connection through the firewall"
                )
    return (
        f"what answers at {at} is no ClickHouse, or broke off ({render_error(error)});"
        " correct SPENDMETER_CLICKHOUSE_URL"
    )


@contextmanager
def raising_unusable(settings: ClickHouseSettings) -> Iterator[None]:
    """A context for queries of history: raises Unusable for the driver's exceptions."""
    try:
        yield
    except (Error, HTTPError) as error:
        raise Unusable(why_unusable(error, settings)) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, where urllib3 puts them: as cause, reason or argument."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MAX_CAUSES:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        further = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        waiting += [found for found in further if isinstance(found, BaseException)]
