"""Spend overview: what was spent, when, by whom and on what."""

from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.builders.dashboard import Dashboard

from spendmeter_grafana import spend_panels
from spendmeter_grafana.frame import clickhouse, framed, model, team, zone
from spendmeter_grafana.panels import NONE_IS_GOOD, USD, figure
from spendmeter_grafana.source import SqlSpan, spend
from spendmeter_grafana.sql import LAST_MONTH_START, MONTH_START, WHOLE_HOURS, where

FILTERS = ("team", "model")


def made() -> Dashboard:
    """The dashboard."""
    return framed(
        "overview",
        "Spend overview",
        "What was spent on LLM requests, when, by whom and on what; corrections and voids included.",
        [clickhouse(), team(), model(), zone()],
        {
            "In all": [
                spend_panels.total("Spent", "In the range.", "spent_usd", FILTERS, USD),
                _month("This month", "From the start of the month in which the range ends.", MONTH_START),
                _month(
                    "Last month",
                    "The whole month before the one in which the range ends.",
                    LAST_MONTH_START,
                    MONTH_START,
                ),
                spend_panels.total("Requests", "Failed and voided ones included.", "requests", FILTERS),
                spend_panels.total(
                    "Failed requests", "As the provider or LiteLLM answered.", "failures", FILTERS
                ),
                spend_panels.total(
                    "Unpriced requests",
                    "Nobody knows the price of their model: they are in no sum of money.",
                    "unpriced",
                    FILTERS,
                    steps=NONE_IS_GOOD,
                ),
            ],
            "Over time": [
                spend_panels.by_time("Spent by team", "team", FILTERS),
                spend_panels.by_time("Spent by model", "model", FILTERS, alias=False),
                spend_panels.by_day(FILTERS),
            ],
            "By whom, on what": [
                spend_panels.teams(FILTERS),
                spend_panels.keys(FILTERS),
                spend_panels.models(FILTERS),
            ],
        },
    )


def _month(title: str, description: str, start: str, end: str = "$__toTime") -> stat.Panel:
    of_month = spend("spent_usd", FILTERS, SqlSpan(start, end))
    sql = f"SELECT sum(spent_usd) AS spent_usd\nFROM\n{of_month}\n{where(WHOLE_HOURS)}"
    return figure(title, f"{description} Months of the zone above.", sql)
