"""Whether 20 million requests leave history as a file in bounded memory, and add up to what history says.

The real engine and `spendmeter export`, processes of their own; what the command writes is read as it comes.
Parquet is written to a file and read back by the engine. Run: python -m bench.export
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from shutil import rmtree
from threading import Event, Thread
from time import monotonic
from typing import IO, NamedTuple, Self

import chdb
import click

from bench.machine import describe, load
from bench.output import OUTPUT, tell
from bench.processes import peak_mib, reset_peak
from bench.synthetic_history import engine, fill
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.roll_ups.roller import RollUps

DIRECTORY = OUTPUT / "export"
DAYS, DATABASE = 30, "bench"
FIRST_DAY = datetime(2026, 11, 1, tzinfo=UTC)
COLUMN_OF_FOCUS = "BilledCost"
SAMPLE_SECONDS = 0.05


class Exported(NamedTuple):
    """What one command did."""

    format: str
    rows: int
    usd: Decimal
    gib: float
    seconds: float
    command_mib: float
    engine_mib: float

    def line(self) -> str:
        """A row of a table."""
        return (
            f"| {self.format} | {self.rows:,} | ${self.usd:,f} | {self.gib:.1f} | {self.seconds:,.0f} |"
            f" {self.command_mib:,.0f} | {self.engine_mib:,.0f} |"
        )


@click.command()
@click.option("--rows", default=20_000_000, show_default=True)
@click.option("--keys", default=100_000, show_default=True)
@click.option("--format", "formats", multiple=True, default=("csv", "jsonl", "parquet", "focus"))
def main(rows: int, keys: int, formats: tuple[str, ...]) -> None:
    """Measure exports."""
    lines = describe()
    rmtree(DIRECTORY, ignore_errors=True)
    with engine(DIRECTORY) as (url, pid):
        settings = SinkSettings(clickhouse_url=url, clickhouse_database=DATABASE)
        client = open_client(settings, database=None, timeout_seconds=3_600)
        migrate(client, DATABASE)
        fill(client, FIRST_DAY, DAYS, rows, keys)
        roll_ups = RollUps(settings, lambda: True)
        roll_ups.round()
        roll_ups.round()
        [[usd, count]] = client.query("SELECT sum(cost_usd), count() FROM usage").result_rows
        lines += [f"{count:,} requests, ${usd:,f}; load then: {load()}", ""]
        lines += ["| format | rows | sum | GiB | s | command's peak MiB | engine's peak MiB |"]
        lines += ["|---|---:|---:|---:|---:|---:|---:|"]
        for name in formats:
            found = export(name, url, pid)
            lines.append(found.line())
            if found.usd != usd:
                raise SystemExit(f"{name}: the sum is ${found.usd:f}, not ${usd:f}")
        client.close()
    rmtree(DIRECTORY, ignore_errors=True)
    tell("export.md", "\n".join(lines))


def export(name: str, url: str, engine_pid: int) -> Exported:
    """Run the command for the whole month."""
    command = [str(Path(sys.executable).with_name("spendmeter")), "export", "--format", name]
    command += ["--from", f"{FIRST_DAY:%Y-%m-%d}", "--to", f"{FIRST_DAY + timedelta(days=DAYS):%Y-%m-%d}"]
    target = DIRECTORY / "requests.parquet"
    if name == "parquet":
        command += ["--output", str(target)]
    env = {**os.environ, "SPENDMETER_CLICKHOUSE_URL": url, "SPENDMETER_CLICKHOUSE_DATABASE": DATABASE}
    reset_peak(engine_pid)
    began = monotonic()
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as process, _Peak(process.pid) as peak:
        assert process.stdout is not None
        lines = _Lines(process.stdout)
        rows, usd = _read(name, lines)
        code = process.wait()
    seconds, engine_mib = monotonic() - began, peak_mib(engine_pid)
    if code:
        raise SystemExit(f"{name}: the command ended with {code}")
    size = lines.bytes
    if name == "parquet":
        rows, usd, size = _of_parquet(target)
    return Exported(name, rows, usd, size / 2**30, seconds, peak.mib, engine_mib)


class _Lines:
    """What a command writes, and how much that was."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self.bytes = source, 0

    def __iter__(self) -> Iterator[str]:
        for line in self._source:
            self.bytes += len(line)
            yield line.decode()


class _Peak:
    """The most memory that a process had resident, as long as it could be seen."""

    def __init__(self, pid: int) -> None:
        self.mib, self._pid, self._ended = 0.0, pid, Event()
        self._thread = Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.mib = max(self.mib, peak_mib(self._pid))


def _read(name: str, lines: _Lines) -> tuple[int, Decimal]:
    rows, usd = 0, Decimal(0)
    if name == "jsonl":
        for line in lines:
            rows, usd = rows + 1, usd + Decimal(json.loads(line)["spent_usd"])
    elif name != "parquet":
        reader = csv.reader(iter(lines))
        at = next(reader).index("spent_usd" if name == "csv" else COLUMN_OF_FOCUS)
        for row in reader:
            rows, usd = rows + 1, usd + Decimal(row[at])
    return rows, usd


def _of_parquet(path: Path) -> tuple[int, Decimal, int]:
    sql = f"SELECT count(), sum(spent_usd) FROM file('{path}', Parquet)"
    rows, usd = str(chdb.query(sql, "TSV")).split()
    return int(rows), Decimal(usd), path.stat().st_size


if __name__ == "__main__":
    main()
