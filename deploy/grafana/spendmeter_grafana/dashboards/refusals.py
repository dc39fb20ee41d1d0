"""Refusals and alerts: who was refused, why and by which budget; what people were alerted to."""

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.builders.dashboard import Dashboard

from spendmeter_grafana.frame import budget, clickhouse, framed
from spendmeter_grafana.panels import COUNT, NONE_IS_GOOD, TIME, USD, chart, figure, rows
from spendmeter_grafana.sql import SECONDS, choice, only, where

REFUSED = where(SECONDS.format("decided_at"), only("budget", "budget_id"))
ALERTED = where(SECONDS.format("emitted_at"), only("budget", "budget_id"))
EXACT = "The range to the second, each once."


def made() -> Dashboard:
    """The dashboard."""
    return framed(
        "refusals",
        "Refusals and alerts",
        "Which requests budgets refused, whose and why, and which alerts the stream sent.",
        [clickhouse(), budget()],
        {
            "In all": [
                figure(
                    "Refused requests",
                    EXACT,
                    f"SELECT count() AS refused\nFROM refusals\n{REFUSED}",
                    COUNT,
                    NONE_IS_GOOD,
                ),
                figure(
                    "Who was refused",
                    "Different names of keys.",
                    f"SELECT uniqExact(name) AS names\nFROM refusals\n{REFUSED}",
                    COUNT,
                ),
                figure(
                    "Alerts",
                    EXACT,
                    f"SELECT count() AS alerts\nFROM alerts_once\n{ALERTED}",
                    COUNT,
                    NONE_IS_GOOD,
                ),
                figure(
                    "Alerts not sent",
                    "Skipped on a route of the relay, or on none. The table below has the reasons.",
                    f"SELECT count() AS skipped\nFROM deliveries_now\n{ALERTED} AND outcome = 'skipped'",
                    COUNT,
                    NONE_IS_GOOD,
                ),
            ],
            "Refusals": [
                chart(
                    "Refused by why",
                    f"limit_reached: spent. no_room: what is left is held for running requests. {EXACT}",
                    "SELECT $__timeInterval(decided_at) AS time, why AS name, count() AS refused\n"
                    f"FROM refusals\n{REFUSED}\nGROUP BY time, name\nORDER BY time, name",
                    COUNT,
                    "1m",
                    24,
                ),
                _who(),
                _budgets(),
                _latest(),
            ],
            "Alerts": [
                chart(
                    "Alerts by kind",
                    EXACT,
                    "SELECT $__timeInterval(emitted_at) AS time, kind AS name, count() AS alerts\n"
                    f"FROM alerts_once\n{ALERTED}\nGROUP BY time, name\nORDER BY time, name",
                    COUNT,
                    "1m",
                    24,
                ),
                _alerts(),
                _deliveries(),
            ],
        },
        since="now-24h",
    )


def _who() -> table.Panel:
    sql = (
        "SELECT name, why, count() AS times, max(decided_at) AS last_time\n"
        f"FROM refusals\n{REFUSED}\nGROUP BY name, why\nORDER BY times DESC, name, why\nLIMIT 500"
    )
    return rows("Refused most", f"By the key's name. {EXACT}", sql, {"last_time": TIME})


def _budgets() -> table.Panel:
    sql = (
        f"SELECT {choice('budget_id')} AS budget, count() AS times, uniqExact(account) AS accounts,\n"
        f"    max(decided_at) AS last_time\nFROM refusals\n{REFUSED}\n"
        "GROUP BY budget_id\nORDER BY times DESC, budget\nLIMIT 500"
    )
    return rows("Refused by which budget", EXACT, sql, {"last_time": TIME})


def _latest() -> table.Panel:
    sql = (
        "SELECT decided_at, name, why, budget_id AS budget, spent_usd, limit_usd, message, decision_id\n"
        f"FROM refusals\n{REFUSED}\nORDER BY decided_at DESC, decision_id DESC\nLIMIT 200"
    )
    return rows(
        "Latest refusals",
        f"`spendmeter explain DECISION_ID` shows what one rests on. {EXACT}",
        sql,
        {"decided_at": TIME, "spent_usd": USD, "limit_usd": USD},
        width=24,
    )


def _alerts() -> table.Panel:
    sql = (
        "SELECT emitted_at, kind, budget_id AS budget, message, spent_usd, limit_usd, threshold, alert_id\n"
        f"FROM alerts_once\n{ALERTED}\nORDER BY emitted_at DESC, alert_id DESC\nLIMIT 200"
    )
    return rows(
        "Latest alerts",
        EXACT,
        sql,
        {"emitted_at": TIME, "spent_usd": USD, "limit_usd": USD, "threshold": "percentunit"},
        width=24,
    )


def _deliveries() -> table.Panel:
    sql = (
        "SELECT emitted_at, kind, budget_id AS budget, route, outcome, sent_at, due_at,\n"
        "    attempts, reminders, reason, alert_id\n"
        f"FROM deliveries_now\n{ALERTED}\nORDER BY emitted_at DESC, alert_id DESC, route\nLIMIT 200"
    )
    return rows(
        "What became of alerts",
        f"On each route of the relay. A held one is sent at due_at; a sent one is said again then. {EXACT}",
        sql,
        {"emitted_at": TIME, "sent_at": TIME, "due_at": TIME},
        width=24,
    )
