"""Wire values as rows of history. Pure: the same record always gives the same row.

A row is a tuple in the order of its table's columns (tables.py); usage has none (usage_columns.py). Times are
integers of microseconds, which the driver writes unchanged; it would convert a datetime through a float.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from spendmeter.contract.alert import Alert, AlertDelivery
from spendmeter.contract.budget import Budget
from spendmeter.contract.dead_letter import DeadLetter
from spendmeter.contract.decision import Decision
from spendmeter.contract.money import NanoUsd, to_usd
from spendmeter.contract.signal import Signal
from spendmeter.values.times import from_unix_us, to_unix_us

Row = tuple[Any, ...]


class Coordinates(NamedTuple):
    """A record's position in Kafka: columns of every table, except the incarnation of its topic."""

    topic: str
    partition: int
    offset: int
    appended_at_ms: int
    """Kafka's timestamp of the record."""

    @property
    def appended_at(self) -> datetime:
        return from_unix_us(self.appended_at_ms * 1000)


def signal_row(signal: Signal, at: Coordinates) -> Row:
    return (
        signal.budget_id,
        signal.account,
        signal.subject,
        to_unix_us(signal.window_start),
        _us(signal.window_end),
        to_usd(signal.limit_nanousd),
        to_usd(signal.spent_nanousd),
        signal.state.value,
        signal.threshold,
        signal.watermark,
        signal.incarnation,
        signal.revision,
        signal.version,
        signal.cause_event_id,
        _us(signal.forecast_exhausted_at),
        to_unix_us(signal.emitted_at),
        *at,
    )


def alert_row(alert: Alert, at: Coordinates) -> Row:
    signal = alert.signal
    return (
        alert.alert_id,
        alert.kind.value,
        alert.message,
        to_unix_us(alert.emitted_at),
        signal.budget_id if signal else "",
        signal.account if signal else "",
        alert.concerns,
        to_unix_us(signal.window_start) if signal else None,
        _us(signal.window_end) if signal else None,
        to_usd(signal.limit_nanousd) if signal else None,
        to_usd(signal.spent_nanousd) if signal else None,
        signal.state.value if signal else None,
        signal.threshold if signal else None,
        signal.revision if signal else None,
        signal.cause_event_id if signal else None,
        *at,
    )


def delivery_row(delivery: AlertDelivery, at: Coordinates) -> Row:
    alert = delivery.alert
    signal = alert.signal if alert else None
    return (
        delivery.alert_id,
        delivery.route,
        delivery.outcome.value,
        to_unix_us(delivery.at),
        delivery.reason,
        delivery.attempts,
        delivery.reminders,
        _us(delivery.due_at),
        alert.kind.value if alert else "",
        to_unix_us(alert.emitted_at) if alert else None,
        signal.budget_id if signal else "",
        signal.account if signal else "",
        alert.concerns if alert else {},
        *at,
    )


def budget_row(budget: Budget, definition: str, signed_by: str, at: Coordinates) -> Row:
    """`definition` is the record's value as it was written; `signed_by` a key's id or empty."""
    return (
        budget.id,
        False,
        budget.revision,
        budget.match,
        to_usd(budget.limit_nanousd),
        budget.period,
        budget.timezone,
        _us(budget.starts_at),
        _us(budget.reset_at),
        budget.warn_at,
        budget.action.value,
        budget.enforcement.value,
        budget.unpriced,
        [to_usd(r.amount_nanousd) for r in budget.raises],
        [to_unix_us(r.until) for r in budget.raises],
        budget.replaces,
        to_unix_us(budget.updated_at),
        budget.updated_by,
        signed_by,
        definition,
        *at,
    )


def removed_budget_row(budget_id: str, removed_by: str, signed_by: str, at: Coordinates) -> Row:
    """A tombstone as a row: when the budget ceased to be in force."""
    return (
        budget_id,
        True,
        0,
        {},
        to_usd(NanoUsd(0)),
        "",
        "",
        None,
        None,
        (),
        "",
        "",
        "",
        [],
        [],
        None,
        at.appended_at_ms * 1000,
        removed_by,
        signed_by,
        "",
        *at,
    )


def decision_row(decision: Decision, at: Coordinates) -> Row:
    return (
        decision.decision_id,
        to_unix_us(decision.decided_at),
        decision.gateway,
        decision.why.value,
        decision.name,
        decision.message,
        decision.budget_id or "",
        decision.revision,
        decision.account or "",
        _us(decision.window_start),
        _us(decision.window_end),
        _usd(decision.limit_nanousd),
        _usd(decision.spent_nanousd),
        _usd(decision.signal_nanousd),
        _usd(decision.held_nanousd),
        _usd(decision.least_nanousd),
        decision.watermark,
        decision.producer_id or "",
        decision.seq,
        _usd(decision.pending_nanousd),
        list(decision.pending),
        *at,
    )


def dead_letter_row(letter: DeadLetter, at: Coordinates) -> Row:
    return (
        letter.source_topic,
        letter.source_partition,
        letter.source_offset,
        letter.reason.value,
        letter.detail,
        letter.component,
        letter.key,
        letter.payload,
        letter.encoding,
        letter.headers,
        to_unix_us(letter.failed_at),
        *at,
    )


def _us(time: datetime | None) -> int | None:
    return None if time is None else to_unix_us(time)


def _usd(amount: NanoUsd | None) -> Decimal | None:
    return None if amount is None else to_usd(amount)
