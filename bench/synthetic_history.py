"""The real engine in a process of its own, filled with synthetic usage events: made inside it, by itself."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import click
from clickhouse_connect.driver.client import Client

from bench.sink import READY_WITHIN_SECONDS
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, wait_until


class RunningEngine(NamedTuple):
    """ClickHouse's engine, in a session of its own."""

    url: str
    pid: int


def fill(client: Client, begin: datetime, days: int, rows: int, keys: int) -> None:
    """So many events, the same number each day."""
    for day in range(days):
        client.command(
            "INSERT INTO usage "
            + events(begin + timedelta(days=day), 86_400, day * (rows // days), rows // days, keys)
        )
        click.echo(f"day {day + 1} of {days}", err=True)


_COLUMNS = {
    "event_id": "generateUUIDv4()",
    "kind": "'usage'",
    "producer_id": "toString(number % 4)",
    "seq": "number",
    "occurred_at": "at",
    "started_at": "at",
    "key": "concat('key-', toString(k))",
    "key_alias": "concat('service ', toString(k))",
    "user": "concat('user-', toString(k % {users}))",
    "team": "concat('team-', toString(k % {teams}))",
    "team_alias": "concat('Team ', toString(k % {teams}))",
    "model": "concat('model-', toString(rand(2) % 7)) AS m",
    "model_group": "m",
    "provider": "'openai'",
    "gateway": "'g1'",
    "input_tokens": "200 + rand(3) % 5000 AS i",
    "output_tokens": "rand(4) % 900 AS o",
    "total_tokens": "i + o",
    "cost_usd": "reinterpret(toInt64(i * 150 + o * 600), 'Decimal(18, 9)')",
    "cost_source": "'litellm'",
    "status": "'success'",
    "call_id": "toString(rand64(5))",
    "topic": "'spend.usage'",
    "partition": "number % 4",
    "offset": "intDiv(number, 4)",
    "appended_at": "at",
    "incarnation": "'one'",
}
"""Of an event: a few keys ask most, each of one user and team."""


def events(begin: datetime, seconds: int, first: int, count: int, keys: int) -> str:
    """What inserts so many events, spread over the time."""
    apart_us = seconds * 1_000_000 // count
    values = ", ".join(_COLUMNS.values()).format(users=keys * 3 // 10, teams=max(40, keys // 250))
    return (
        f"({', '.join(_COLUMNS)}) WITH toUInt32(pow(rand(1) / 4294967296, 2) * {keys}) AS k,"
        f" toDateTime64('{begin:%Y-%m-%d %H:%M:%S}', 6, 'UTC')"
        f" + toIntervalMicrosecond((number - {first}) * {apart_us}) AS at"
        f" SELECT {values} FROM numbers({first}, {count})"
    )


@contextmanager
def engine(directory: Path) -> Iterator[RunningEngine]:
    """An engine whose data is in the directory, and stays there."""
    port, password = free_port(), token_hex(8)
    command = [sys.executable, "-m", "spendmeter_local.clickhouse", "--path", str(directory / "data")]
    child = start_child(
        [*command, "--port", str(port)],
        log=directory / "clickhouse.log",
        env={"SPENDMETER_CLICKHOUSE_PASSWORD": password},
    )
    try:
        address = f"{LOOPBACK}:{port}"
        if not wait_until(
            lambda: http_answers(f"http://{address}/ping"), timeout_seconds=READY_WITHIN_SECONDS
        ):
            raise SystemExit(f"the engine does not answer; see {directory}/clickhouse.log")
        yield RunningEngine(f"http://default:{password}@{address}", child.pid)
    finally:
        kill_child(child)
