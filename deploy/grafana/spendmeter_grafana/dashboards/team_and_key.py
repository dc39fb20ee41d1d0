"""Team and key: what a team or a key spent, down to single requests."""

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.builders.dashboard import Dashboard

from spendmeter_grafana import spend_panels
from spendmeter_grafana.frame import clickhouse, framed, key, model, team, zone
from spendmeter_grafana.panels import COUNT, NONE_IS_GOOD, TIME, USD, rows
from spendmeter_grafana.source import spend
from spendmeter_grafana.sql import NONE, SECONDS, name, only, where

FILTERS = ("team", "key", "model")
NAMED = "end_user != ''"
EXACT = "The range to the second."


def made() -> Dashboard:
    """The dashboard."""
    return framed(
        "team-key",
        "Team and key",
        "What the chosen teams and keys spent, on which models, for whom, down to single requests.",
        [clickhouse(), team(), key(), model(), zone()],
        {
            "In all": [
                spend_panels.total("Spent", "In the range.", "spent_usd", FILTERS, USD),
                spend_panels.total("Requests", "Failed and voided ones included.", "requests", FILTERS),
                spend_panels.total("Input tokens", "From and into caches included.", "input_tokens", FILTERS),
                spend_panels.total("Output tokens", "Reasoning included.", "output_tokens", FILTERS),
                spend_panels.total(
                    "Failed requests", "As the provider or LiteLLM answered.", "failures", FILTERS
                ),
                spend_panels.total(
                    "Corrections",
                    "Corrections and voids of requests of the range; they are in all sums.",
                    "corrections",
                    FILTERS,
                    steps=NONE_IS_GOOD,
                ),
            ],
            "Over time": [
                spend_panels.by_time_and_key(FILTERS),
                spend_panels.by_time("Spent by model", "model", FILTERS, alias=False),
                spend_panels.by_day(FILTERS),
            ],
            "By whom, on what": [
                spend_panels.keys(FILTERS),
                spend_panels.models(FILTERS),
                _people(),
            ],
            "For what": [_tags(), _customers(), _requests()],
        },
        since="now-24h",
    )


def _people() -> table.Panel:
    sql = (
        f"SELECT {name('user')} AS name, sum(spent_usd) AS usd, sum(requests) AS calls,\n"
        "    user\n"
        f"FROM\n{spend('hour, user, user_alias, spent_usd, requests', FILTERS)}\n"
        "GROUP BY user\nORDER BY usd DESC, user\nLIMIT 500"
    )
    return rows("People", f"Users of the keys. {spend_panels.ROUNDED}", sql, {"usd": USD})


def _tags() -> table.Panel:
    sql = (
        f"SELECT arrayJoin(if(empty(tags), ['{NONE}'], arrayDistinct(tags))) AS tag, sum(spent_usd) AS usd,\n"
        f"    count() AS calls\nFROM events\n{where(SECONDS.format('occurred_at'), *map(only, FILTERS))}\n"
        "GROUP BY tag\nORDER BY usd DESC, tag\nLIMIT 500"
    )
    return rows(
        "Tags",
        f"A request with two tags counts for each: together they may be more than was spent. {EXACT}",
        sql,
        {"usd": USD},
    )


def _customers() -> table.Panel:
    sql = (
        "SELECT end_user AS customer, sum(spent_usd) AS usd, count() AS calls\n"
        f"FROM events\n{where(SECONDS.format('occurred_at'), *map(only, FILTERS), NAMED)}\n"
        "GROUP BY customer\nORDER BY usd DESC, customer\nLIMIT 500"
    )
    return rows("Customers", f"Of requests that name an end user. {EXACT}", sql, {"usd": USD})


def _requests() -> table.Panel:
    sql = (
        "SELECT occurred_at, key_alias AS key_name, model, spent_usd AS usd, recorded_usd AS recorded,\n"
        "    corrections, input_tokens AS input, output_tokens AS output, status,\n"
        "    cost_source AS source, event_id\n"
        f"FROM events\n{where(SECONDS.format('occurred_at'), *map(only, FILTERS))}\n"
        "ORDER BY usd DESC, occurred_at, event_id\nLIMIT 50"
    )
    return rows(
        "Dearest requests",
        f"What each cost in the end, and what the gateway had recorded. {EXACT}",
        sql,
        {"usd": USD, "recorded": USD, "input": COUNT, "output": COUNT, "occurred_at": TIME},
        width=24,
    )
