"""Panels about spend that more than one dashboard has."""

from grafana_foundation_sdk.builders import stat, table, timeseries

from spendmeter_grafana.frame import to_key, to_team
from spendmeter_grafana.panels import COUNT, PLAIN, SHARE, USD, Steps, chart, figure, rows
from spendmeter_grafana.source import PIECE, Variables, spend, spend_by_day, spend_of_top_keys
from spendmeter_grafana.sql import OTHERS, TOP, WHOLE_HOURS, choice, name, where

BARS = 30
"""Of a chart. Grafana rounds, so that a day has hours, a week six of them, and a month days."""
DEAREST = f"The {TOP} dearest of the range; two of one name share a series."
ROUNDED = "Each hour that the range touches counts whole."


def total(
    title: str, description: str, column: str, variables: Variables, unit: str = COUNT, steps: Steps = PLAIN
) -> stat.Panel:
    """A column added up over the range."""
    sql = f"SELECT sum({column}) AS {column}\nFROM\n{spend(column, variables)}"
    return figure(title, f"{description} {ROUNDED}", sql, unit, steps)


def by_time(title: str, of: str, variables: Variables, alias: bool = True) -> timeseries.Panel:
    """Spend over time of those who spent most, and of all others together."""
    sql = (
        f"SELECT {PIECE} AS time, if(top.name = '', '{OTHERS}', top.name) AS name,\n"
        f"    sum(spend.spent_usd) AS usd\n{spend_of_the_dearest(of, variables, alias)}\n"
        "GROUP BY time, name\nORDER BY time, name"
    )
    return chart(title, f"{DEAREST} {ROUNDED}", sql, bars=BARS)


def by_time_and_key(variables: Variables) -> timeseries.Panel:
    """Spend over time of the keys that spent most, and of all others together."""
    sql = (
        f"SELECT {PIECE} AS time, spend.name AS name, sum(spend.usd) AS usd\n"
        f"FROM\n{spend_of_top_keys(variables)} AS spend\n"
        "GROUP BY time, name\nHAVING sum(spend.events) > 0\nORDER BY time, name"
    )
    return chart("Spent by key", f"{DEAREST} {ROUNDED}", sql, bars=BARS)


def spend_of_the_dearest(of: str, variables: Variables, alias: bool = True) -> str:
    """What a chart reads: `spend` of pieces, and beside it `top`, who has a series of its own."""
    columns, called = (f"hour, {of}, {of}_alias, spent_usd", name(of)) if alias else (f"{of}, spent_usd", of)
    return (
        f"FROM\n{spend(f'hour, {of}, spent_usd', variables, in_pieces=True)} AS spend\nLEFT JOIN\n(\n"
        f"SELECT {of}, {called} AS name\nFROM\n{spend(columns, variables)}\n"
        f"GROUP BY {of}\nORDER BY sum(spent_usd) DESC, {of}\nLIMIT {TOP}\n"
        f") AS top ON top.{of} = spend.{of}"
    )


def by_day(variables: Variables) -> timeseries.Panel:
    """Spend by day of the chosen zone."""
    sql = (
        f"SELECT time, 'spent' AS name, sum(usd) AS usd\nFROM\n{spend_by_day(variables)}\n"
        f"{where(WHOLE_HOURS)}\nGROUP BY time\nHAVING sum(events) > 0\nORDER BY time"
    )
    return chart("Spent by day", f"Days of the zone above. {ROUNDED}", sql, interval="1d")


def teams(variables: Variables) -> table.Panel:
    """What each team spent."""
    columns = "hour, team, team_alias, spent_usd, requests, corrections"
    sql = (
        f"SELECT {name('team')} AS name, sum(spent_usd) AS usd,\n"
        "    if(sum(usd) OVER () = 0, 0, toFloat64(usd) / toFloat64(sum(usd) OVER ())) AS share,\n"
        f"    sum(requests) AS calls, sum(corrections) AS corrected, {choice('team')} AS team_id\n"
        f"FROM\n{spend(columns, variables)}\nGROUP BY team\n"
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


def keys(variables: Variables) -> table.Panel:
    """What each key spent, and whose it is."""
    columns = "hour, key, key_alias, team, team_alias, user, user_alias, spent_usd, requests"
    sql = (
        f"SELECT {name('key')} AS name, {name('team')} AS team_name, {name('user')} AS user_name,\n"
        "    sum(spent_usd) AS usd, sum(requests) AS calls, key\n"
        f"FROM\n{spend(columns, variables)}\nGROUP BY key, team, user\n"
        "ORDER BY usd DESC, key, team, user\nLIMIT 500"
    )
    return rows(
        "Keys",
        f"With the team and user that each had; one that changed hands has a line for each. {ROUNDED}",
        sql,
        {"usd": USD},
        {"name": to_key(), "key": to_key()},
    )


def models(variables: Variables) -> table.Panel:
    """What each model cost, and what a million tokens of it did."""
    columns = "provider, model, spent_usd, requests, input_tokens, output_tokens"
    sql = (
        "SELECT provider, model, sum(spent_usd) AS usd, sum(requests) AS calls,\n"
        "    sum(input_tokens) AS input, sum(output_tokens) AS output,\n"
        "    if(input + output = 0, NULL, toFloat64(usd) / (input + output) * 1000000) AS usd_per_million\n"
        f"FROM\n{spend(columns, variables)}\n"
        "GROUP BY provider, model\nORDER BY usd DESC, provider, model\nLIMIT 500"
    )
    return rows(
        "Models",
        f"What a million tokens cost in fact, input and output together. {ROUNDED}",
        sql,
        {"usd": USD, "usd_per_million": USD, "input": COUNT, "output": COUNT},
    )
