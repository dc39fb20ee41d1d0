"""Panels about spend that more than one dashboard has. All of them read `by_hour`."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import stat, table, timeseries

from spendmeter_grafana.frame import to_key, to_team
from spendmeter_grafana.panels import COUNT, PLAIN, SHARE, USD, Steps, chart, figure, rows
from spendmeter_grafana.sql import HOURS, TOP, WHOLE_HOURS, ZONE, choice, name, where

Conditions = Sequence[str]
"""What the dashboard's variables leave of all requests."""

ROUNDED = "Each hour that the range touches counts whole."


def total(
    title: str, description: str, column: str, filters: Conditions, unit: str = COUNT, steps: Steps = PLAIN
) -> stat.Panel:
    """A column added up over the range."""
    sql = f"SELECT sum({column}) AS {column}\nFROM by_hour\n{where(HOURS, *filters)}"
    return figure(title, f"{description} {ROUNDED}", sql, unit, steps)


def by_time(title: str, of: str, filters: Conditions, alias: bool = True) -> timeseries.Panel:
    """Spend over time of those who spent most, and of all others together."""
    called = name(of) if alias else of
    within = where(HOURS, *filters).replace("\n", "\n    ")
    top = (
        f"    SELECT {of}, {called} AS name\n    FROM by_hour\n    {within}\n    GROUP BY {of}\n"
        f"    ORDER BY sum(spent_usd) DESC, {of}\n    LIMIT {TOP}\n"
    )
    sql = (
        "SELECT $__timeInterval(spend.hour) AS time, if(top.name = '', 'all others', top.name) AS name,\n"
        "    sum(spend.spent_usd) AS usd\n"
        f"FROM\n(\n    SELECT hour, {of}, spent_usd\n    FROM by_hour\n    {within}\n) AS spend\n"
        f"LEFT JOIN\n(\n{top}) AS top ON top.{of} = spend.{of}\n"
        "GROUP BY time, name\nORDER BY time, name"
    )
    return chart(title, f"The {TOP} dearest of the range; two of one name share a series. {ROUNDED}", sql)


def by_day(filters: Conditions) -> timeseries.Panel:
    """Spend by day of the chosen zone."""
    sql = (
        f"SELECT toStartOfDay(hour, {ZONE}) AS time, 'spent' AS name, sum(spent_usd) AS usd\n"
        f"FROM by_hour\n{where(WHOLE_HOURS, HOURS, *filters)}\nGROUP BY time\nORDER BY time"
    )
    return chart("Spent by day", f"Days of the zone above. {ROUNDED}", sql, interval="1d")


def teams(filters: Conditions) -> table.Panel:
    """What each team spent."""
    sql = (
        f"SELECT {name('team')} AS name, sum(spent_usd) AS usd,\n"
        "    if(sum(usd) OVER () = 0, 0, toFloat64(usd) / toFloat64(sum(usd) OVER ())) AS share,\n"
        f"    sum(requests) AS calls, sum(corrections) AS corrected, {choice('team')} AS team_id\n"
        f"FROM by_hour\n{where(HOURS, *filters)}\nGROUP BY team\n"
        "ORDER BY usd DESC, team_id\nLIMIT 500"
    )
    return rows(
        "Teams",
        f"Click on a name for its keys, models and requests. {ROUNDED}",
        sql,
        {"usd": USD, "share": SHARE},
        {"name": to_team(), "team_id": to_team()},
        steps={"share": PLAIN},
    )


def keys(filters: Conditions) -> table.Panel:
    """What each key spent, and whose it is."""
    sql = (
        f"SELECT {name('key')} AS name, {name('team')} AS team_name, {name('user')} AS user_name,\n"
        "    sum(spent_usd) AS usd, sum(requests) AS calls, key\n"
        f"FROM by_hour\n{where(HOURS, *filters)}\n"
        "GROUP BY key, team, user\n"
        "ORDER BY usd DESC, key, team, user\nLIMIT 500"
    )
    return rows(
        "Keys",
        f"With the team and user that each had; one that changed hands has a line for each. {ROUNDED}",
        sql,
        {"usd": USD},
        {"name": to_key(), "key": to_key()},
    )


def models(filters: Conditions) -> table.Panel:
    """What each model cost, and what a million tokens of it did."""
    sql = (
        "SELECT provider, model, sum(spent_usd) AS usd, sum(requests) AS calls,\n"
        "    sum(input_tokens) AS input, sum(output_tokens) AS output,\n"
        "    if(input + output = 0, NULL, toFloat64(usd) / (input + output) * 1000000) AS usd_per_million\n"
        f"FROM by_hour\n{where(HOURS, *filters)}\n"
        "GROUP BY provider, model\nORDER BY usd DESC, provider, model\nLIMIT 500"
    )
    return rows(
        "Models",
        f"What a million tokens cost in fact, input and output together. {ROUNDED}",
        sql,
        {"usd": USD, "usd_per_million": USD, "input": COUNT, "output": COUNT},
    )
