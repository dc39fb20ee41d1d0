"""Budgets and burn rate: what is left, how fast it goes, what runs out next."""

from grafana_foundation_sdk.builders import stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard

from spendmeter_grafana.frame import budget, clickhouse, framed, team, to_refusals, zone
from spendmeter_grafana.panels import (
    COUNT,
    NONE_IS_GOOD,
    NONE_IS_VITAL,
    PLAIN,
    TIME,
    USD,
    Steps,
    chart,
    figure,
    rows,
)
from spendmeter_grafana.source import PIECE, PIECE_SECONDS, spend
from spendmeter_grafana.spend_panels import BARS, spend_of_the_dearest
from spendmeter_grafana.sql import OTHERS, only, where

OF_BUDGETS = only("budget", "budget_id")
SPENT_STEPS: Steps = ((None, "green"), (0.8, "orange"), (1, "red"))
NOW = "As the stream last said, whatever the range."

_NAMES = "day >= toDate($__toTime, 'UTC') - 35"
"""Names are those of the last five weeks of the range."""


def made() -> Dashboard:
    """The dashboard."""
    return framed(
        "budgets",
        "Budgets and burn rate",
        "What is left of each budget, how fast it is spent, and what runs out next.",
        [clickhouse(), budget(), team(), zone()],
        {
            "In all": [
                _accounts("Over the limit", "countIf(state = 'exceeded')", NONE_IS_VITAL),
                _accounts("Near the limit", "countIf(state = 'warning')", NONE_IS_GOOD),
                _accounts("Will run out", "countIf(forecast_exhausted_at IS NOT NULL)", NONE_IS_GOOD),
                _accounts("Accounts", "count()", PLAIN),
                _burn(),
                figure(
                    "Budgets in force",
                    "Of the chosen ones.",
                    f"SELECT count() AS budgets\nFROM budgets_now\n{where(only('budget', 'id'))}",
                    COUNT,
                ),
            ],
            "Closest to the limit": [_closest(), _next(), _burn_rate()],
            "Budgets": [_in_force()],
        },
        since="now-24h",
    )


def _accounts(title: str, what: str, steps: Steps) -> stat.Panel:
    sql = f"SELECT {what} AS accounts\nFROM accounts_now\n{where(OF_BUDGETS)}"
    return figure(title, f"Accounts of the chosen budgets. {NOW}", sql, COUNT, steps)


def _burn() -> stat.Panel:
    sql = (
        "SELECT sum(spent_usd) / greatest(dateDiff('hour', toStartOfHour($__fromTime, 'UTC'),\n"
        "    toStartOfHour($__toTime - 1, 'UTC')) + 1, 1) AS usd\n"
        f"FROM\n{spend('spent_usd', ['team'])}"
    )
    return figure("Burn rate", "USD an hour, over the hours that the range touches.", sql)


def _burn_rate() -> timeseries.Panel:
    sql = (
        f"SELECT {PIECE} AS time, if(top.name = '', '{OTHERS}', top.name) AS name,\n"
        f"    sum(spend.spent_usd) * 3600 / {PIECE_SECONDS} AS usd_per_hour\n"
        f"{spend_of_the_dearest('team', ['team'])}\nGROUP BY time, name\nORDER BY time, name"
    )
    return chart(
        "Burn rate by team", "USD an hour; a piece that has only begun looks low.", sql, width=24, bars=BARS
    )


def _closest() -> table.Panel:
    sql = (
        f"SELECT {_whose()} AS whose, account.budget_id AS budget, account.state AS state,\n"
        "    account.spent_fraction AS share, account.spent_usd AS spent, account.limit_usd AS limit_usd,\n"
        "    account.remaining_usd AS left_usd, account.window_end AS resets, account.action AS action,\n"
        "    account.account AS account\n"
        f"FROM\n(\n    SELECT * FROM accounts_now\n    {where(OF_BUDGETS)}\n"
        "    ORDER BY ifNull(spent_fraction, 1) DESC, account\n    LIMIT 200\n) AS account\n"
        f"{_joined()}\nORDER BY ifNull(share, 1) DESC, account"
    )
    return rows(
        "Accounts closest to their limits",
        f"The 200 closest to their limits. A share of nothing (limit 0) is empty. {NOW}",
        sql,
        {"share": "percentunit", "spent": USD, "limit_usd": USD, "left_usd": USD, "resets": TIME},
        {"budget": to_refusals()},
        width=24,
        steps={"share": SPENT_STEPS},
    )


def _next() -> table.Panel:
    sql = (
        f"SELECT {_whose()} AS whose, account.budget_id AS budget,\n"
        "    account.forecast_exhausted_at AS runs_out, account.remaining_usd AS left_usd,\n"
        "    account.window_end AS resets, account.account AS account\n"
        "FROM\n(\n    SELECT * FROM accounts_now\n"
        f"    {where(OF_BUDGETS, 'forecast_exhausted_at IS NOT NULL')}\n"
        "    ORDER BY forecast_exhausted_at, account\n    LIMIT 50\n) AS account\n"
        f"{_joined()}\nORDER BY runs_out, account"
    )
    return rows(
        "Runs out next",
        f"At the present rate, before their windows end. {NOW}",
        sql,
        {"runs_out": TIME, "left_usd": USD, "resets": TIME},
        {"budget": to_refusals()},
        width=24,
    )


def _in_force() -> table.Panel:
    sql = (
        "SELECT id AS budget, limit_usd, period, timezone, action, enforcement,\n"
        "    updated_by, updated_at, revision\n"
        f"FROM budgets_now\n{where(only('budget', 'id'))}\nORDER BY budget"
    )
    return rows(
        "Limits in force",
        "Their standing limits, without raises.",
        sql,
        {"limit_usd": USD, "updated_at": TIME},
        {"budget": to_refusals()},
        width=24,
    )


def _whose() -> str:
    """The names of what an account is of, by dimension."""
    return (
        "if(empty(account.subject), 'everybody', arrayStringConcat(arrayMap((dimension, value) ->\n"
        "    concat(dimension, ' ', multiIf(dimension = 'team' AND teams.name != '', teams.name,\n"
        "    dimension = 'key' AND keys.name != '', keys.name, value)),\n"
        "    mapKeys(account.subject), mapValues(account.subject)), ', '))"
    )


def _joined() -> str:
    """Names of teams and keys, beside the accounts that are of them."""
    return "\n".join(
        f"LEFT JOIN\n(\n    SELECT {of}, argMaxIf({of}_alias, day, {of}_alias != '') AS name\n"
        f"    FROM by_{of}_day\n    {where(_NAMES)}\n    GROUP BY {of}\n"
        f") AS {of}s ON {of}s.{of} = account.subject['{of}']"
        for of in ("team", "key")
    )
