"""What Prometheus reads of the canary."""

import time

from prometheus_client import Counter, Gauge, Histogram

from spendmeter.cli.canary.model import CanaryRound, FailedAt
from spendmeter.contract.money import to_usd

LATE_SECONDS = 5.0
"""A refusal that comes later is late, however long the canary waits for it."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

ROUNDS = Counter("spendmeter_canary_rounds_total", "Rounds by outcome: through, or failed.", ["outcome"])
FAILURES = Counter("spendmeter_canary_failures_total", "Rounds that failed, by where.", ["where"])
FAILING = Gauge("spendmeter_canary_failing_rounds", "Rounds that failed since the last that went through.")
SINCE_THROUGH = Gauge(
    "spendmeter_canary_since_through_seconds", "Since a round went through, or since the start."
)
LATE_REFUSALS = Counter(
    "spendmeter_canary_late_refusals_total",
    f"Refusals that came after {LATE_SECONDS:g} s, or never.",
)
REFUSAL = Histogram(
    "spendmeter_canary_refusal_seconds",
    "From the answer that reached the limit to the first refusal.",
    buckets=_SECONDS,
)
READMISSION = Histogram(
    "spendmeter_canary_readmission_seconds",
    "From the reset to the first request that was served again.",
    buckets=_SECONDS,
)
PAST_LIMIT = Counter(
    "spendmeter_canary_served_past_limit_total", "Requests served though the limit had been reached."
)
BELOW_LIMIT = Counter(
    "spendmeter_canary_refused_below_limit_total", "Requests refused though the limit had not been reached."
)
SPENT = Gauge("spendmeter_canary_spent_usd", "What the canary has spent today (UTC).")

for _where in FailedAt:
    FAILURES.labels(_where)
for _outcome in ("through", "failed"):
    ROUNDS.labels(_outcome)


class _Clock:
    through_at = time.monotonic()


SINCE_THROUGH.set_function(lambda: time.monotonic() - _Clock.through_at)


def count(found: CanaryRound) -> None:
    """Count one round."""
    ROUNDS.labels("failed" if found.failed_at else "through").inc()
    if found.failed_at:
        FAILURES.labels(found.failed_at).inc()
        FAILING.inc()
    else:
        FAILING.set(0)
        _Clock.through_at = time.monotonic()
    LATE_REFUSALS.inc(_is_late(found))
    if found.refused_after_ms is not None:
        REFUSAL.observe(found.refused_after_ms / 1000)
    if found.readmitted_after_ms is not None:
        READMISSION.observe(found.readmitted_after_ms / 1000)
    PAST_LIMIT.inc(found.served_past_limit)
    BELOW_LIMIT.inc(found.refused_below_limit)
    SPENT.set(float(to_usd(found.spent_today_nanousd)))


def _is_late(found: CanaryRound) -> bool:
    if found.failed_at is FailedAt.REFUSAL:
        return True
    return found.refused_after_ms is not None and found.refused_after_ms > 1000 * LATE_SECONDS
