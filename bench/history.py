"""How fast history answers what dashboards ask, and how large it is: synthetic events over thirty days.

The real engine in a process of its own, its sums made as the sink makes them; the last hour is left to be
read from the rows, as under traffic. All sums are held against the rows. Run: python -m bench.history
"""

from datetime import UTC, datetime, timedelta
from shutil import rmtree
from time import monotonic
from typing import NamedTuple

import click
from clickhouse_connect.driver.client import Client

from bench.machine import describe
from bench.output import OUTPUT, tell
from bench.synthetic_history import engine, events, fill
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.roll_ups.roller import RollUps

DIRECTORY = OUTPUT / "history"
DAYS, KEYS = 30, 1_000
FIRST_DAY = datetime(2026, 11, 1, tzinfo=UTC)
GOAL_MS, GOAL_OF_A_KEY_MS = 500, 100


class Query(NamedTuple):
    name: str
    sql: str
    goal_ms: int = GOAL_MS


QUERIES = (
    Query("by day and team, a month", "SELECT day, team, sum(spent_usd) FROM by_team_day GROUP BY day, team"),
    Query(
        "teams, a month",
        "SELECT team, sum(spent_usd) AS usd FROM by_team_day GROUP BY team ORDER BY usd DESC",
    ),
    Query(
        "ten dearest keys, a month",
        "SELECT key, sum(spent_usd) AS usd FROM by_key_day GROUP BY key ORDER BY usd DESC LIMIT 10",
    ),
    Query(
        "models by day, a month",
        "SELECT day, model, sum(spent_usd), sum(input_tokens) FROM by_model_day GROUP BY day, model",
    ),
    Query(
        "team and model, a week",
        "SELECT team, model, sum(spent_usd) FROM by_day WHERE day > '2026-11-23' GROUP BY team, model",
    ),
    Query(
        "by hour, the last day",
        "SELECT hour, sum(spent_usd) FROM by_hour WHERE hour >= '2026-11-30 00:00:00' GROUP BY hour",
    ),
    Query(
        "one key's month",
        "SELECT sum(spent_usd), sum(requests) FROM by_key_day WHERE key = 'key-7'",
        GOAL_OF_A_KEY_MS,
    ),
    Query(
        "one key's last hundred requests",
        "SELECT * FROM events WHERE key = 'key-7' AND occurred_at >= '2026-11-29'"
        " ORDER BY occurred_at DESC LIMIT 100",
    ),
)


@click.command()
@click.option("--rows", default=20_000_000, show_default=True)
@click.option("--rounds", default=20, show_default=True)
def main(rows: int, rounds: int) -> None:
    """Measure history; fails if a sum is not that of the rows."""
    facts = describe()
    rmtree(DIRECTORY, ignore_errors=True)
    with engine(DIRECTORY) as (url, _):
        settings = SinkSettings(clickhouse_url=url, clickhouse_database="bench")
        client = open_client(settings, database=None, timeout_seconds=3_600)
        migrate(client, "bench")
        fill(client, FIRST_DAY, DAYS, rows, KEYS)
        began = monotonic()
        roll_ups = RollUps(settings, lambda: True)
        roll_ups.round()
        done = roll_ups.round()
        rolled = monotonic() - began
        client.command(
            "INSERT INTO usage "
            + events(FIRST_DAY + timedelta(days=DAYS, hours=-1), 3_600, rows, 1_000, KEYS)
        )
        wrong = _wrong(client)
        lines = [*facts, "", f"{done:,} hours and days summed up in {rolled:.0f} s", *_sizes(client), ""]
        lines += ["| query | p50 ms | p95 ms | goal |", "|---|---:|---:|---:|"]
        for query in QUERIES:
            took = sorted(_milliseconds(client, query.sql) for _ in range(rounds))
            p50, p95 = took[len(took) // 2], took[int(len(took) * 0.95)]
            lines.append(f"| {query.name} | {p50:.0f} | {p95:.0f} | {query.goal_ms} |")
        client.close()
    tell("history.md", "\n".join(lines))
    if wrong:
        raise SystemExit(wrong)


def _wrong(client: Client) -> str:
    """What is wrong with the sums; empty if nothing is."""
    rows = client.query("SELECT sum(cost_usd), count() FROM usage FINAL").result_rows
    sums = client.query("SELECT sum(spent_usd), sum(requests) FROM by_team_day").result_rows
    return "" if rows == sums else f"the rows are {rows}, the sums {sums}"


def _sizes(client: Client) -> list[str]:
    rows = client.query(
        "SELECT table, sum(rows), sum(bytes_on_disk) FROM system.parts"
        " WHERE database = 'bench' AND active AND table LIKE 'usage%' GROUP BY table ORDER BY table"
    ).result_rows
    return [f"{table}: {count:,} rows, {size / count:.0f} bytes a row" for table, count, size in rows]


def _milliseconds(client: Client, sql: str) -> float:
    began = monotonic()
    client.query(sql)
    return (monotonic() - began) * 1_000


if __name__ == "__main__":
    main()
