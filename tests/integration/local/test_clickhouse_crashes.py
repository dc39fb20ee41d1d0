"""What the engine acknowledged survives kill -9, and what is sent again is not kept twice."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, wait_until
from tests.patience import WITHIN_SECONDS

ROWS_PER_INSERT = 5_000
INSERTS = 40
KILLED_AFTER = (5, 15, 25)
"""Inserts acknowledged when the engine is killed; the next ones are under way then."""


class Engine:
    """The engine's process, on one port and one directory, started as often as needed."""

    def __init__(self, directory: Path) -> None:
        self._port = free_port()
        self._log = directory / "clickhouse.log"
        self._address = f"{LOOPBACK}:{self._port}"
        self.url = f"http://default:crashes@{self._address}"
        self._command = [sys.executable, "-m", "spendmeter_local.clickhouse"]
        self._command += ["--path", str(directory / "data"), "--port", str(self._port)]
        self.start()

    def start(self) -> None:
        env = {"SPENDMETER_CLICKHOUSE_PASSWORD": "crashes"}
        self._process = start_child(self._command, log=self._log, env=env)
        is_ready = wait_until(
            lambda: http_answers(f"http://{self._address}/ping"), timeout_seconds=WITHIN_SECONDS
        )
        assert is_ready, self._log.read_text()

    def kill(self) -> None:
        kill_child(self._process)


@contextmanager
def engine_in(directory: Path) -> Iterator[Engine]:
    engine = Engine(directory)
    try:
        yield engine
    finally:
        engine.kill()


def insert_all(url: str, acknowledged: list[int]) -> None:
    """Each insert is sent again, the same rows with the same token, until it is acknowledged."""
    for number in range(INSERTS):
        if not wait_until(partial(insert, url, number), timeout_seconds=WITHIN_SECONDS):
            return
        acknowledged.append(number)


def insert(url: str, number: int) -> bool:
    first = number * ROWS_PER_INSERT
    rows = [[row] for row in range(first, first + ROWS_PER_INSERT)]
    token = {"insert_deduplication_token": f"topic:0:{first}"}
    try:
        with clickhouse_connect.get_client(dsn=url) as client:
            return bool(
                client.insert("crashed.t", rows, ["a"], settings=token).written_rows == ROWS_PER_INSERT
            )
    except ClickHouseError:
        return False


def reached(acknowledged: list[int], count: int) -> bool:
    return len(acknowledged) >= count


def rows_of(client: Client) -> tuple[int, int, int]:
    (row,) = client.query("SELECT count(), uniqExact(a), sum(a) FROM crashed.t").result_rows
    return row[0], row[1], row[2]


def test_kill_9_during_inserts_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    total = INSERTS * ROWS_PER_INSERT
    expected = (total, total, sum(range(total)))
    with engine_in(tmp_path) as engine:
        with clickhouse_connect.get_client(dsn=engine.url) as client:
            client.command("CREATE DATABASE crashed")
            client.command(
                "CREATE TABLE crashed.t (a UInt64) ENGINE = MergeTree ORDER BY a "
                "SETTINGS non_replicated_deduplication_window = 1000"
            )
        acknowledged: list[int] = []
        writer = threading.Thread(target=insert_all, args=(engine.url, acknowledged))
        writer.start()
        for count in KILLED_AFTER:
            under_way = partial(reached, acknowledged, count)
            assert wait_until(under_way, timeout_seconds=WITHIN_SECONDS, every_seconds=0.001)
            engine.kill()
            engine.start()
        writer.join(WITHIN_SECONDS)
        assert len(acknowledged) == INSERTS
        with clickhouse_connect.get_client(dsn=engine.url) as client:
            assert rows_of(client) == expected
        engine.kill()
        engine.start()
        with clickhouse_connect.get_client(dsn=engine.url) as client:
            assert rows_of(client) == expected
