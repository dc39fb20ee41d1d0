"""What each panel of Grafana costs at 20 million events and 100,000 keys.

The real engine in a process of its own, synthetic history with its sums as the sink makes them (as in
bench.page), and each query of each dashboard as its data source sends it, for ranges, zones and choices. One
that is the same for two of these is asked once. On a busy machine the engine's processor time is what counts.
Run: python -m bench.grafana
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from shutil import rmtree
from typing import NamedTuple
from zoneinfo import ZoneInfo

import click
from clickhouse_connect.driver.client import Client

from bench.latency import share
from bench.machine import describe, load
from bench.output import OUTPUT, tell
from bench.page import DATABASE, DAYS, Measured, make_history, milliseconds_of
from bench.processes import cpu_seconds
from bench.synthetic_history import engine
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from tests.integration.grafana.plugin import PanelSql, PanelView, expand, panels

DIRECTORY = OUTPUT / "grafana"
GOAL_MS, GOAL_OF_A_KEY_MS = 500, 100
ZONES = ("UTC", "Europe/Berlin")
RANGES = {"today": 0, "7 days": 7, "30 days": 30, "90 days": 90}
CHOICES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "all": {},
    "a team": {"team": ["team-7"]},
    "a key": {"key": ["key-700"]},
}
PIECES = {
    5_400: 3_600,
    9_000: 7_200,
    16_200: 10_800,
    32_400: 21_600,
    86_400: 43_200,
    604_800: 86_400,
    1_814_400: 604_800,
}
"""Seconds below which a piece of a chart is rounded to so many, as Grafana does, from an hour on."""


class Question(NamedTuple):
    """A panel's query for one view of it."""

    panel: PanelSql
    range: str
    zone: str
    chosen: str
    sql: str

    @property
    def goal_ms(self) -> int:
        """Milliseconds in which it should be answered."""
        return GOAL_OF_A_KEY_MS if self.chosen == "a key" else GOAL_MS

    @property
    def name(self) -> str:
        """What it is, for a row of the table."""
        where = "" if self.zone == ZONES[0] else f", {self.zone}"
        dashboard = self.panel.dashboard.removeprefix("spendmeter-")
        return f"{dashboard}: {self.panel.title}, {self.range}, {self.chosen}{where}"


@click.command()
@click.option("--rows", default=20_000_000, show_default=True)
@click.option("--keys", default=100_000, show_default=True, help="And as many accounts.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--only", default="", help="Only questions whose name has this (a regular expression).")
@click.option("--keep", is_flag=True, help="Keep the history, or measure the one that was kept.")
def main(rows: int, keys: int, rounds: int, only: str, keep: bool) -> None:
    """Measure the dashboards."""
    lines = describe()
    is_made = keep and (DIRECTORY / "data").exists()
    if not is_made:
        rmtree(DIRECTORY, ignore_errors=True)
    with engine(DIRECTORY) as (url, pid):
        settings = SinkSettings(clickhouse_url=url, clickhouse_database=DATABASE)
        if not is_made:
            make_history(settings, rows, keys)
        client = open_client(settings, DATABASE, timeout_seconds=600)
        if not is_made:
            make_accounts(client, keys)
        end = latest(client)
        lines += [
            f"{rows:,} events of {keys:,} keys in {DAYS} days, {keys:,} accounts; load then: {load()}",
            "",
        ]
        lines += ["| panel | p50 ms | p95 ms | goal | engine's CPU ms |", "|---|---:|---:|---:|---:|"]
        wanted = [one for one in questions(end) if re.search(only, one.name)]
        for one in sorted(measure(client, pid, wanted, rounds), key=lambda one: -(one.cpu_ms or 0)):
            lines.append(one.line())
        client.close()
    if not keep:
        rmtree(DIRECTORY, ignore_errors=True)
    tell("grafana.md", "\n".join(lines))


def make_accounts(client: Client, keys: int) -> None:
    """A budget of each key, its account's latest signal, and as many refusals and alerts as keys."""
    at = "now64(6) - toIntervalSecond(number % 2000000)"
    at_kafka = "'spend' AS topic, 0 AS partition, number AS offset, now64(3) AS appended_at"
    account = "'key-day' AS budget_id, concat('key-day|key=key-', toString(number)) AS account"
    amounts = "10 AS limit_usd, toDecimal64(number % 1000 / 100, 9) AS spent_usd"
    client.command(
        "INSERT INTO budgets (id, match, limit_usd, period, timezone, action, updated_at, topic, appended_at)"
        " SELECT 'key-day', map('key', '*'), 10, 'day', 'UTC', 'block', now64(6), 'spend', now64(3)"
    )
    client.command(
        "INSERT INTO signals (budget_id, account, subject, window_start, limit_usd, spent_usd, state,"
        " emitted_at, topic, partition, offset, appended_at)"
        f" SELECT {account}, map('key', concat('key-', toString(number))), toStartOfDay(now64(6)), {amounts},"
        f" 'ok', {at}, {at_kafka} FROM numbers({keys})"
    )
    client.command(
        "INSERT INTO decisions (decision_id, decided_at, gateway, why, name, message, budget_id, account,"
        " topic, partition, offset, appended_at)"
        f" SELECT generateUUIDv4(), {at}, 'g1', 'limit_reached', concat('service ', toString(number % 5000)),"
        f" 'Budget has been exceeded!', {account}, {at_kafka} FROM numbers({keys})"
    )
    client.command(
        "INSERT INTO alerts (alert_id, kind, message, emitted_at, budget_id, account,"
        " topic, partition, offset, appended_at)"
        f" SELECT generateUUIDv4(), 'exceeded', 'spent', {at}, {account}, {at_kafka} FROM numbers({keys})"
    )


def latest(client: Client) -> datetime:
    """The end of the hour of the latest event."""
    [(at,)] = client.query("SELECT max(toStartOfHour(occurred_at)) FROM usage").result_rows
    return at.replace(tzinfo=UTC) + timedelta(minutes=59)


def questions(end: datetime) -> Iterator[Question]:
    """Each query of each panel in every range, zone and choice, each text once."""
    seen = set[str]()
    for panel in panels():
        for chosen, values in CHOICES.items():
            for span, days in RANGES.items():
                for zone in ZONES:
                    sql = expand(panel.sql, view_of(panel, end, days, zone, values))
                    if sql not in seen:
                        seen.add(sql)
                        yield Question(panel, span, zone, chosen, sql)


def view_of(
    panel: PanelSql, end: datetime, days: int, zone: str, chosen: Mapping[str, Sequence[str]]
) -> PanelView:
    """So many days up to the end; 0: since midnight of the zone."""
    midnight = end.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0)
    start = end - timedelta(days=days) if days else midnight.astimezone(UTC)
    return PanelView(start, end, piece(end - start, panel.points), zone, chosen)


def piece(span: timedelta, points: int) -> int:
    """Seconds of a piece of a chart."""
    seconds = span.total_seconds() / points
    return next((rounded for below, rounded in PIECES.items() if seconds < below), 2_592_000)


def measure(client: Client, pid: int, asked: Sequence[Question], rounds: int) -> Iterator[Measured]:
    """Ask each some times; the first time the engine reads from the disk, and that does not count."""
    for one in asked:
        ask = partial(client.query, one.sql)
        ask()
        before = cpu_seconds(pid)
        took = [milliseconds_of(ask) for _ in range(rounds)]
        cpu_ms = (cpu_seconds(pid) - before) * 1_000 / rounds
        click.echo(f"{cpu_ms:6.0f} {share(took, 0.5):6.0f} {one.name}", err=True)
        yield Measured(one.name, took, one.goal_ms, cpu_ms)


if __name__ == "__main__":
    main()
