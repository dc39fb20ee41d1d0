"""ClickHouse: version, tables, owner, grants by trying, disk, clock. No row is written."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

from spendmeter.runtime import clickhouse
from spendmeter.runtime.clickhouse import Client, Error, Unusable
from spendmeter.runtime.supported import clickhouse_warning
from spendmeter.settings import ClickHouseSettings
from spendmeter_doctor.checks.clocks import of_clock
from spendmeter_doctor.checks.kafka import certificate_ends, of_certificate
from spendmeter_doctor.diagnosis import Diagnosis, FindingSeverity, fault, of_sentence, unchecked, warning
from spendmeter_doctor.system import READS_HISTORY, Process, System
from spendmeter_sinks.database.migrate import SchemaMismatch, applied_migrations, migrations, pending
from spendmeter_sinks.database.owner import OwnedByAnother, check_owner, owner_of

ANSWER_SECONDS = 10
LEAST_FREE_BYTES = 2 * 1024**3
LEAST_FREE_SHARE = 0.05
_TABLES = (
    *("usage", "usage_objects", "budgets", "signals"),
    *("decisions", "alerts", "deliveries", "dead_letters"),
)
_DENIED, _READONLY = 497, 164
_NO_TABLES = (clickhouse.UNKNOWN_DATABASE, clickhouse.UNKNOWN_TABLE)


def check_history(system: System) -> list[Diagnosis]:
    """Everything about ClickHouse; if it cannot be used, only why."""
    if not system.has_history:
        said = "ClickHouse was not checked: SPENDMETER_CLICKHOUSE_URL is not set"
        return [unchecked("clickhouse-not-named", said, "set it as for the sink, and run the doctor again")]
    if not system.processes & READS_HISTORY:
        return []
    settings = system.settings
    try:
        with (
            clickhouse.raising_unusable(settings),
            closing(
                clickhouse.client(settings, database=None, send_receive_timeout=ANSWER_SECONDS)
            ) as client,
        ):
            return [*_check(system, client), *_of_certificate(settings)]
    except Unusable as error:
        found = of_sentence(FindingSeverity.FAULT, "clickhouse-unusable", str(error))
        if found.what == str(error):
            # ClickHouse refused: the sentence begins with the fix.
            refused = f"ClickHouse at {settings.clickhouse_address} refuses"
            found = found._replace(what=refused, fix=found.what)
        return [found]


def _check(system: System, client: Client) -> Iterator[Diagnosis]:
    if (said := clickhouse_warning(client.server_version)) is not None:
        yield of_sentence(FindingSeverity.WARNING, "clickhouse-version", said)
    before = system.clock()
    theirs = float(client.command("SELECT toUnixTimestamp64Milli(now64(3))")) / 1000
    yield from of_clock("ClickHouse", "clock-clickhouse", theirs, before, system.clock())
    client.database = system.settings.clickhouse_database
    if (wrong := _of_schema(system.settings, client)) is not None:
        yield wrong
        return
    try:
        check_owner(client, system.settings, owner_of(client))
    except OwnedByAnother as error:
        yield of_sentence(FindingSeverity.FAULT, "clickhouse-owned-by-another", str(error))
    yield from _of_grants(system, client)
    yield from _of_disk(client)


def _of_schema(settings: ClickHouseSettings, client: Client) -> Diagnosis | None:
    database = settings.clickhouse_database
    try:
        left = pending(applied_migrations(client), migrations())
    except SchemaMismatch as error:
        return fault(
            "clickhouse-schema-other",
            f"database {database} was made by another version of spendmeter: {error}",
            "run the version that migrated it, or upgrade every process to that one",
        )
    except Error as error:
        if error.code in _NO_TABLES:
            return fault(
                "clickhouse-not-migrated",
                f"ClickHouse has no tables of ours in database {database}: nothing is kept as history",
                "`spendmeter sink migrate`, or correct SPENDMETER_CLICKHOUSE_DATABASE",
            )
        if error.code == _DENIED:
            return _denied(settings, "read", "schema_migrations")
        raise
    if not left:
        return None
    return fault(
        "clickhouse-schema-behind",
        f"database {database} lacks {', '.join(one.name for one in left)}: a sink of this version"
        " does not start",
        "`spendmeter sink migrate`",
    )


def _of_grants(system: System, client: Client) -> Iterator[Diagnosis]:
    """Try what the processes do, on no rows."""
    for table in _TABLES:
        try:
            client.command(f"SELECT count() FROM (SELECT * FROM {table} LIMIT 0)")
            if Process.SINK in system.processes:
                client.command(f"INSERT INTO {table} SELECT * FROM {table} LIMIT 0")
        except Error as error:
            if error.code not in (_DENIED, _READONLY):
                raise
            verb = "write to" if error.code == _READONLY or "INSERT" in str(error) else "read"
            yield _denied(system.settings, verb, table)
            return


def _denied(settings: ClickHouseSettings, verb: str, table: str) -> Diagnosis:
    user, _ = settings.clickhouse_login
    granted = "SELECT, INSERT" if verb == "write to" else "SELECT"
    return fault(
        "clickhouse-grants",
        f"user {user} may not {verb} {settings.clickhouse_database}.{table}, which the sink must"
        if verb == "write to"
        else f"user {user} may not {verb} {settings.clickhouse_database}.{table}",
        f"`GRANT {granted} ON {settings.clickhouse_database}.* TO {user}`"
        " (deploy/clickhouse/users.sql); if only"
        " people read as this user, `spendmeter doctor --process people`",
    )


def _of_disk(client: Client) -> Iterator[Diagnosis]:
    try:
        [(free, total)] = client.query("SELECT filesystemAvailable(), filesystemCapacity()").result_rows
    except Error as error:
        said = f"the disk of ClickHouse was not checked ({clickhouse.render_error(error)})"
        yield unchecked("clickhouse-disk", said, "see `df` where it runs")
        return
    if free < max(LEAST_FREE_BYTES, total * LEAST_FREE_SHARE):
        yield warning(
            "clickhouse-disk",
            f"ClickHouse has {free / 1024**3:,.1f} GiB of {total / 1024**3:,.1f} GiB left; when it"
            " is full, history"
            " stands still (Kafka keeps 35 days)",
            "add disk, or drop old months as an administrator: `ALTER TABLE usage DROP PARTITION …`",
        )


def _of_certificate(settings: ClickHouseSettings) -> list[Diagnosis]:
    url = urlsplit(settings.clickhouse_url)
    if url.scheme != "https" or url.hostname is None:
        return []
    ends = asyncio.run(certificate_ends(url.hostname, url.port or 8443, ssl.create_default_context()))
    return of_certificate(f"ClickHouse at {settings.clickhouse_address}", ends)
