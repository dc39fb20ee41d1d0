"""Pipeline health: whether what is spent arrives, from gateways to history, and how late. From Prometheus."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from spendmeter_grafana.frame import framed, prometheus
from spendmeter_grafana.panels import (
    BYTES,
    COUNT,
    NONE_IS_GOOD,
    NONE_IS_VITAL,
    RATE,
    SECONDS,
    SHARE,
    USD,
    Panel,
    gauge,
    lines,
)

_SHARE_SPENT = "spendmeter_budget_spent_usd / spendmeter_budget_limit_usd"
_OF_ACCOUNTS = "max without (instance, pod, job) "
"""A worker that has just taken over an account shows it beside the one before."""


def made() -> Dashboard:
    """The dashboard."""
    return framed(
        "pipeline",
        "Pipeline health",
        "Whether what is spent arrives, from gateways through the stream to history, and how late.",
        [prometheus()],
        {
            "At a glance": _glance(),
            "Gateways": _gateways(),
            "Stream": _stream(),
            "Budgets, as the stream has them": _budgets(),
            "History and alerts": _sinks(),
        },
        since="now-3h",
        refresh="30s",
    )


def _glance() -> list[Panel]:
    return [
        gauge(
            "Not ready",
            "Processes that say they cannot do their work.",
            "count(spendmeter_ready == 0) or vector(0)",
            steps=NONE_IS_VITAL,
        ),
        gauge(
            "Events lost",
            "In the last day, by gateways whose disk was full or gone.",
            "sum(increase(spendmeter_outbox_lost_total[1d])) or vector(0)",
            steps=NONE_IS_VITAL,
        ),
        gauge(
            "Oldest unsent event",
            "Of all gateways. More than a minute: that gateway does not reach Kafka.",
            "max(spendmeter_outbox_oldest_unsent_seconds)",
            SECONDS,
            ((None, "green"), (60, "red")),
        ),
        gauge(
            "History is late by",
            "For how long records have waited for ClickHouse.",
            "max(spendmeter_sink_seconds_since_commit)",
            SECONDS,
            ((None, "green"), (60, "red")),
        ),
        gauge(
            "Records gone",
            "In the last day: retention deleted them before they were read.",
            "(sum(increase(spendmeter_stream_records_gone_total[1d])) or vector(0))"
            " + (sum(increase(spendmeter_sink_records_gone_total[1d])) or vector(0))",
            steps=NONE_IS_VITAL,
        ),
        gauge(
            "Dead letters",
            "In the last day, of stream and sinks: `spendmeter letters list`.",
            "(sum(increase(spendmeter_dead_letters_total[1d])) or vector(0))"
            " + (sum(increase(spendmeter_sink_dead_letters_total[1d])) or vector(0))",
            steps=NONE_IS_GOOD,
        ),
    ]


def _gateways() -> list[Panel]:
    return [
        lines(
            "Events",
            "Recorded by gateways, acknowledged by Kafka, and sent again where that was unknown.",
            {
                "recorded": "sum(rate(spendmeter_outbox_recorded_total[$__rate_interval]))",
                "acknowledged": "sum(rate(spendmeter_sender_sent_total[$__rate_interval]))",
                "sent again": "sum(rate(spendmeter_sender_resent_total[$__rate_interval]))",
            },
            RATE,
        ),
        lines(
            "Outbox",
            "Bytes of events that await Kafka, by process.",
            {"{{instance}}": "spendmeter_outbox_bytes"},
            BYTES,
        ),
        lines(
            "Outbox, of its bound",
            "At 1 new events are lost.",
            {"{{instance}}": "spendmeter_outbox_fill_ratio"},
            SHARE,
        ),
        lines(
            "Refused requests",
            "By why; each is in the dashboard of refusals with its budget.",
            {"{{why}}": "sum by (why) (rate(spendmeter_refused_total[$__rate_interval]))"},
            RATE,
        ),
        lines(
            "Requests that wait or run",
            "Running exchanges, holds of `strict` budgets, answers that LiteLLM has not logged.",
            {
                "running": "sum(spendmeter_running_exchanges)",
                "with a hold": "sum(spendmeter_holds)",
                "not yet logged": "sum(spendmeter_pending)",
                "ended, not settled": "sum(spendmeter_unsettled_exchanges)",
            },
        ),
        lines(
            "Costs that are doubted or unknown",
            "Events of models without a price, and costs that LiteLLM reported and that cannot be right.",
            {
                "unpriced": "sum(rate(spendmeter_unpriced_total[$__rate_interval]))",
                "{{reason}}": "sum by (reason) (rate(spendmeter_doubted_costs_total[$__rate_interval]))",
            },
            RATE,
        ),
    ]


def _stream() -> list[Panel]:
    return [
        lines(
            "Events read",
            "By outcome; `resent` and `replayed` are counted once all the same.",
            {"{{outcome}}": "sum by (outcome) (rate(spendmeter_stream_events_total[$__rate_interval]))"},
            RATE,
        ),
        lines(
            "Signals and alerts",
            "Sent by the stream.",
            {
                "signals": "sum(rate(spendmeter_stream_signals_total[$__rate_interval]))",
                "alerts: {{kind}}": "sum by (kind) (rate(spendmeter_stream_alerts_total[$__rate_interval]))",
            },
            RATE,
        ),
        lines(
            "Not counted in full",
            "Budgets that lack what was spent before they were counted; values beyond the bound of accounts.",
            {
                "budgets opening": "max(spendmeter_stream_budgets_opening)",
                "openings that wait": "max(spendmeter_openings_waiting)",
                "values without an account": "sum(spendmeter_stream_capped_total)",
            },
        ),
    ]


def _budgets() -> list[Panel]:
    return [
        lines(
            "Closest to the limit",
            "Spent of the limit, of the 20 accounts that are closest; by the ids that events carry.",
            {"__auto": f"topk(20, {_OF_ACCOUNTS}({_SHARE_SPENT}))"},
            SHARE,
        ),
        lines(
            "Least left",
            "Of the 20 accounts that have the least left; below 0: overspent.",
            {"__auto": f"bottomk(20, {_OF_ACCOUNTS}(spendmeter_budget_remaining_usd))"},
            USD,
        ),
        lines(
            "Accounts by state",
            "Of those that workers show; observed and paused budgets included.",
            {
                "warning": f"count({_OF_ACCOUNTS}(spendmeter_budget_state) == 1) or vector(0)",
                "exceeded": f"count({_OF_ACCOUNTS}(spendmeter_budget_state) == 2) or vector(0)",
            },
        ),
    ]


def _sinks() -> list[Panel]:
    return [
        lines(
            "Lag of history",
            "Records in Kafka that are not yet in ClickHouse, by topic.",
            {"{{topic}}": "sum by (topic) (spendmeter_sink_lag_records)"},
        ),
        lines(
            "Rows inserted",
            "By table; sent again: inserts repeated because of an outage.",
            {
                "{{table}}": "sum by (table) (rate(spendmeter_sink_rows_total[$__rate_interval]))",
                "sent again: {{table}}": (
                    "sum by (table) (rate(spendmeter_sink_retries_total[$__rate_interval]))"
                ),
            },
            RATE,
        ),
        lines(
            "Hours and days read from rows",
            "As events have just come: their sums are made once they come to rest.",
            {"{{grain}}": "max by (grain) (spendmeter_roll_ups_stale)"},
        ),
        lines(
            "Alerts not yet delivered",
            "Age of the oldest alert that a receiver has not accepted, by route.",
            {"{{route}}": "max by (route) (spendmeter_alerts_oldest_unsent_seconds)"},
            SECONDS,
        ),
        lines(
            "Alerts delivered",
            "By route; failures are offered again.",
            {
                "{{route}}": "sum by (route) (rate(spendmeter_alerts_sent_total[$__rate_interval]))",
                "failed: {{route}}": (
                    "sum by (route) (rate(spendmeter_alerts_failures_total[$__rate_interval]))"
                ),
            },
            RATE,
        ),
        lines(
            "Bugs of ours",
            "Errors that no request noticed, by where.",
            {"{{where}}": "sum by (where) (increase(spendmeter_internal_errors_total[1h]))"},
            COUNT,
        ),
    ]
