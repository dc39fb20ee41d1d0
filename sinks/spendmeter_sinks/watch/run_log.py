"""When each check ran last, and which alerts were published: the edge to ClickHouse. Blocking."""

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from spendmeter.history.names import MAX_IDS_IN_A_QUERY
from spendmeter.runtime.clickhouse import ONE_INSERT_IS_ONE_BLOCK, Client
from spendmeter_sinks.reconcile.connection import reading, writing
from spendmeter_sinks.watch.settings import WatchSettings


def last_run(settings: WatchSettings, name: str) -> datetime | None:
    """When the last run of this check began that came to its end. Raises Unusable."""
    with reading(settings) as client:
        rows = client.query(
            "SELECT max(began_at) FROM watch_runs WHERE name = {name:String} HAVING count() > 0",
            parameters={"name": name},
        ).result_rows
    return rows[0][0].replace(tzinfo=UTC) if rows else None


def published(client: Client, ids: Collection[UUID]) -> set[UUID]:
    """Those of the alerts that history has."""
    wanted, found = [str(one) for one in ids], set[UUID]()
    for begin in range(0, len(wanted), MAX_IDS_IN_A_QUERY):
        rows = client.query(
            "SELECT DISTINCT alert_id FROM alerts WHERE alert_id IN {ids:Array(UUID)}",
            parameters={"ids": wanted[begin : begin + MAX_IDS_IN_A_QUERY]},
        ).result_rows
        found |= {UUID(str(one)) for (one,) in rows}
    return found


def note_run(settings: WatchSettings, name: str, began_at: datetime, ended_at: datetime, alerts: int) -> None:
    """Remember a run. Raises Unusable."""
    duration_ms = round((ended_at - began_at).total_seconds() * 1_000)
    with writing(settings) as client:
        client.insert(
            "watch_runs",
            [[name, began_at, duration_ms, alerts]],
            column_names=["name", "began_at", "duration_ms", "alerts"],
            settings=ONE_INSERT_IS_ONE_BLOCK,
        )


class NotPrepared(Exception):
    """The watcher cannot begin; the message says what is missing and how to make it."""


def prepare(settings: WatchSettings) -> None:
    """Return if history has our tables. Raises NotPrepared, Unusable."""
    with writing(settings) as client:
        if not client.command("EXISTS TABLE watch_runs"):
            raise NotPrepared(
                f"database {settings.clickhouse_database} lacks watch_runs; run `spendmeter sink migrate`"
            )
