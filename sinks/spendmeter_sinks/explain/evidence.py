"""The edge to ClickHouse: a decision, the budgets that were in force, and the events that were known."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from heapq import nlargest
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from spendmeter.contract.budget import Budget
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.signing import shown
from spendmeter.contract.topics import Topic
from spendmeter.domain.globs import is_glob
from spendmeter.domain.matching import BudgetBook, Subject
from spendmeter.history.names import names_of
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.account import account_name, subject_in
from spendmeter.values.dimensions import DIMENSIONS
from spendmeter.values.times import from_unix_us, to_unix_us
from spendmeter_sinks.history.incarnations import lineage_of_topic
from spendmeter_sinks.history.registry import read_registered
from spendmeter_sinks.history.usage_rows import FLATS_OF, TimeRange, columns_of, subject_from, up_to

_TIMES = ("decided_at", "window_start", "window_end")
_MONEY = ("limit", "spent", "signal", "held", "least", "pending")


class CountedEvent(NamedTuple):
    """An event that the decision counted."""

    cost_nanousd: NanoUsd
    occurred_at: datetime
    event_id: UUID
    model: str
    name: str
    """The key's alias, or else its hash."""
    gateway: str


class DecisionEvidence(NamedTuple):
    """What history has of the events that were known at the decision."""

    events: int
    spent_nanousd: NanoUsd
    largest: list[CountedEvent]
    """The costliest first."""
    budget_by: str = ""
    """Who set the budget in force then: claimed unless signed; empty if nobody is named."""
    names: Mapping[str, str] = MappingProxyType({})
    """Of the account's ids, by dimension, as people know them."""


def find_decision(client: Client, decision_id: UUID | None) -> Decision | None:
    """The decision with that id, or else the latest; None if history has none (yet)."""
    columns = [f"toUnixTimestamp64Micro({name}) AS {name}_us" for name in _TIMES]
    columns += [f"toInt64({name}_usd * 1000000000) AS {name}_nanousd" for name in _MONEY]
    condition = "1" if decision_id is None else "decision_id = {id:UUID}"
    rows = client.query(
        f"SELECT decision_id, gateway, why, name, message, budget_id, revision, account, watermark,"
        f" producer_id, seq, pending, {', '.join(columns)} FROM decisions FINAL WHERE {condition}"
        " ORDER BY decided_at DESC LIMIT 1",
        parameters={"id": str(decision_id)},
    )
    for row in rows.named_results():
        for name in _TIMES:
            at = row.pop(f"{name}_us")
            row[name] = None if at is None else from_unix_us(at)
        for name in ("budget_id", "account", "producer_id"):
            row[name] = row[name] or None
        return Decision.model_validate(row)
    return None


class ExplainedAlert(NamedTuple):
    """An alert, and the signal that it was sent with, whose watermark names its events."""

    alert_id: UUID
    kind: str
    message: str
    emitted_at: datetime
    signal: Decision | None
    """In the form of a decision; None where no account is concerned, or history lacks the signal."""
    cause_event_id: UUID | None
    usage_topic: str


def find_alert(client: Client, alert_id: UUID) -> ExplainedAlert | None:
    """The alert with that id; None if history has none (yet)."""
    rows = client.query(
        "SELECT kind, message, toUnixTimestamp64Micro(emitted_at), account, cause_event_id, topic,"
        " ifNull(toUnixTimestamp64Micro(window_start), 0) FROM alerts FINAL"
        " WHERE alert_id = {id:UUID}",
        parameters={"id": str(alert_id)},
    ).result_rows
    for kind, message, emitted_us, account, cause, topic, start_us in rows:
        emitted_at = from_unix_us(emitted_us)
        signal = _signal_at(client, alert_id, message, account, from_unix_us(start_us), emitted_at)
        usage_topic = str(topic).removesuffix(Topic.ALERTS) + Topic.USAGE
        return ExplainedAlert(alert_id, kind, message, emitted_at, signal, cause, usage_topic)
    return None


def _signal_at(
    client: Client, alert_id: UUID, message: str, account: str, window_start: datetime, at: datetime
) -> Decision | None:
    rows = client.query(
        "SELECT budget_id, revision,"
        " if(window_end IS NULL, NULL, toUnixTimestamp64Micro(assumeNotNull(window_end))),"
        " toInt64(limit_usd * 1000000000), toInt64(spent_usd * 1000000000), watermark FROM signals"
        " WHERE account = {account:String} AND toUnixTimestamp64Micro(window_start) = {start:Int64}"
        " AND toUnixTimestamp64Micro(emitted_at) <= {at:Int64} ORDER BY version DESC LIMIT 1",
        parameters={"account": account, "start": to_unix_us(window_start), "at": to_unix_us(at)},
    ).result_rows
    for budget_id, revision, end_us, limit, spent, watermark in rows:
        return Decision(
            decision_id=alert_id,
            decided_at=at,
            gateway="",
            why=Why.LIMIT_REACHED,
            name="",
            message=message,
            budget_id=budget_id,
            revision=revision,
            account=account,
            window_start=window_start,
            window_end=None if end_us is None else from_unix_us(end_us),
            limit_nanousd=NanoUsd(limit),
            spent_nanousd=NanoUsd(spent),
            signal_nanousd=NanoUsd(spent),
            watermark=dict(watermark),
        )
    return None


def usage_topic_of(client: Client, decision: Decision) -> str | None:
    """The deciding system's spend.usage: the topic that the watermark's offsets belong to."""
    rows = client.query(
        "SELECT topic FROM decisions WHERE decision_id = {id:UUID} LIMIT 1",
        parameters={"id": str(decision.decision_id)},
    ).result_rows
    return str(rows[0][0]).removesuffix(Topic.DECISIONS) + Topic.USAGE if rows else None


def budgets_at(client: Client, decision: Decision) -> BudgetBook:
    """The budgets in force at the decision; the refusing one in the revision that the gateway had."""
    rows = client.query(
        "SELECT removed, definition FROM budgets FINAL"
        " WHERE toUnixTimestamp64Milli(appended_at) <= {ms:Int64} AND id != {id:String}"
        " ORDER BY appended_at DESC, offset DESC LIMIT 1 BY id"
        " UNION ALL SELECT * FROM (SELECT removed, definition FROM budgets FINAL"
        " WHERE id = {id:String} AND revision <= {revision:Int64} AND NOT removed"
        " ORDER BY revision DESC, offset DESC LIMIT 1)",
        parameters={
            "ms": to_unix_us(decision.decided_at) // 1000,
            "id": decision.budget_id,
            "revision": decision.revision,
        },
    ).result_rows
    return BudgetBook(_readable(definition for removed, definition in rows if not removed))


def author_of(client: Client, decision: Decision) -> str:
    """Who set the refusing revision of the budget; see `DecisionEvidence.budget_by`."""
    rows = client.query(
        "SELECT updated_by, signed_by FROM budgets FINAL"
        " WHERE id = {id:String} AND revision = {revision:Int64} AND NOT removed"
        " ORDER BY offset DESC LIMIT 1",
        parameters={"id": decision.budget_id, "revision": decision.revision},
    ).result_rows
    return shown(rows[0][0], is_signed=bool(rows[0][1])) if rows else ""


def _readable(definitions: Iterator[str]) -> Iterator[Budget]:
    for definition in definitions:
        try:
            yield decode(Budget, definition.encode())
        except InvalidRecord:
            continue  # written by a version that allowed what this one does not


def evidence_of(
    client: Client, decision: Decision, book: BudgetBook, usage_topic: str, most: int
) -> DecisionEvidence:
    """Add up the events that were known, in the window and of the account, and keep the largest."""
    assert decision.budget_id is not None, "only decisions that name a budget get here"
    assert decision.account is not None, "it names a budget, hence an account"
    assert decision.window_start is not None, "it names a budget, hence a window"
    budget = book.get(decision.budget_id)
    flat = budget.unpriced_flat_nanousd() if budget is not None else 0
    events, spent = 0, 0
    largest: list[CountedEvent] = []
    for counted, subject, flats in _rows(client, decision, usage_topic):
        if not _is_of(decision.account, subject, book):
            continue
        cost = NanoUsd(counted.cost_nanousd + flats * flat)
        events += 1
        spent += cost
        largest.append(counted._replace(cost_nanousd=cost))
        if len(largest) > 10 * most:
            largest = nlargest(most, largest)
    names = names_of(client, subject_in(decision.account), decision.window_start)
    return DecisionEvidence(
        events, NanoUsd(spent), nlargest(most, largest), author_of(client, decision), names
    )


def _is_of(account: str | None, subject: Subject, book: BudgetBook) -> bool:
    """Whether the row counts in the account, even if an earlier version named the account after the recorded
    model."""
    for found in book.accounts_of(subject):
        if found.name == account:
            return True
        if "model" in found.budget.match and subject.model:
            pairs = {**dict(found.subject), "model": subject.model}
            if account_name(found.budget.id, pairs.items()) == account:
                return True
    return False


def _rows(
    client: Client, decision: Decision, usage_topic: str
) -> Iterator[tuple[CountedEvent, Subject, int]]:
    assert decision.window_start is not None, "it names a budget, hence a window"
    assert decision.account is not None, "it names a budget, hence an account"
    conditions, parameters = _of_subject(subject_in(decision.account))
    conditions.append(TimeRange(decision.window_start, decision.window_end).sql())
    lineage = lineage_of_topic(usage_topic, read_registered(client))
    sql = (
        "SELECT cost_nanousd, toUnixTimestamp64Micro(occurred_at), event_id, model, ifNull(key_alias, key),"
        f" gateway, {FLATS_OF}"
        f"{columns_of(DIMENSIONS)} FROM usage FINAL"
        f" WHERE {' AND '.join(conditions)} AND ({lineage.is_earlier} OR {lineage.is_of_it}"
        f" AND ({up_to(decision.watermark)} OR (producer_id = {{producer:String}} AND"
        " (seq <= {seq:UInt64} OR event_id IN {pending:Array(UUID)}))))"
    )
    parameters |= {"producer": decision.producer_id or "", "seq": decision.seq}
    parameters["pending"] = [str(event_id) for event_id in decision.pending]
    with client.query_row_block_stream(sql, parameters=parameters) as blocks:
        for block in blocks:
            for cost, occurred_us, event_id, model, name, gateway, flats, *values in block:
                counted = CountedEvent(
                    NanoUsd(cost), from_unix_us(occurred_us), event_id, model, name, gateway
                )
                yield counted, subject_from(DIMENSIONS, values), flats


def _of_subject(subject: dict[str, str]) -> tuple[list[str], dict[str, Any]]:
    """Conditions that the account's rows meet; the book decides whether a row really belongs to it."""
    conditions, parameters = [], {}
    for name, value in subject.items():
        is_pattern = is_glob(name, value)  # type: ignore[arg-type]
        if name == "tag":
            conditions.append("has(tags, {tag:String})")
        elif name == "model":
            # Recorded with or without the part before the last slash.
            conditions.append("endsWith(model, {model:String})")
            value = "" if is_pattern else value.rpartition("/")[2]
        elif not is_pattern:
            conditions.append(f"`{name}` = {{{name}:String}}")
        parameters[name] = value
    return conditions, parameters
