"""Each topic's records as a person finds them in ClickHouse."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from clickhouse_connect.driver.client import Client

from spendmeter.contract.alert import Alert, AlertDelivery, AlertKind, DeliveryOutcome
from spendmeter.contract.budget import Raise
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import (
    Record,
    encode_alert,
    encode_budget,
    encode_delivery,
    encode_signal,
    encode_usage,
)
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import CostSource, UsageEvent
from tests.builders import NOON, budget, usage
from tests.integration.sinks.conftest import Eventually, Put, Running

LATER = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


def signal(**fields: object) -> Signal:
    defaults = {
        "budget_id": "per-key",
        "account": "per-key|key=k1",
        "subject": {"key": "k1"},
        "window_start": NOON,
        "window_end": None,
        "limit_nanousd": 1_000_000,
        "spent_nanousd": 999_999,
        "state": State.WARNING,
        "threshold": 0.8,
        "watermark": {0: 41, 3: 7},
        "revision": 5,
        "version": 9,
        "emitted_at": LATER,
    }
    return Signal.model_validate({**defaults, **fields})


async def test_every_field_of_a_usage_event_is_kept_as_it_was(
    running: Running, put: Put, eventually: Eventually, history: Client
) -> None:
    event = usage(
        7,
        123_456_789_012_345_678,
        occurred_at=LATER,
        key_alias="ci",
        user="ada",
        team=None,
        tags=("a", "b"),
        prices={"input_token": "0.00000003751", "version": "3"},
        cost_source=CostSource.PRICEBOOK,
        duration_ms=1234,
        estimated=True,
    )
    async with running():
        await put(Topic.USAGE, [encode_usage(event)])
        await eventually("SELECT count() FROM usage", [(1,)])
    kept = next(iter(history.query("SELECT *, cost_nanousd FROM usage").named_results()))
    for name in set(UsageEvent.model_fields) - {"tags", "occurred_at", "started_at"}:
        assert kept[name] == getattr(event, name), name
    assert tuple(kept["tags"]) == event.tags
    assert kept["occurred_at"] == LATER.replace(tzinfo=None)
    assert kept["cost_usd"] == Decimal("123456789.012345678")
    assert (kept["partition"], kept["offset"]) == (0, 0)
    assert abs(kept["stored_at"] - kept["appended_at"]).total_seconds() < 10


async def test_the_first_copy_of_a_resent_event_is_the_one_that_counts(
    running: Running, put: Put, eventually: Eventually
) -> None:
    async with running():
        await put(Topic.USAGE, [encode_usage(usage(1, 5)), encode_usage(usage(2, 7))])
        await eventually("SELECT count() FROM usage", [(2,)])
        await put(Topic.USAGE, [encode_usage(usage(1, 5)), encode_usage(usage(3, 1))])
        await eventually("SELECT countIf(seq = 3) FROM usage", [(1,)])
        await eventually("SELECT sum(cost_usd) FROM usage FINAL", [(Decimal("0.000000013"),)])
        await eventually("SELECT offset FROM usage_once WHERE seq = 1", [(0,)])


async def test_every_signal_is_history_and_the_latest_is_now(
    running: Running, put: Put, eventually: Eventually, history: Client
) -> None:
    exceeded = signal(version=10, spent_nanousd=1_000_001, state=State.EXCEEDED, threshold=1.0)
    # Alike but for its offset: still an emission of its own. The tombstone is none.
    records = [encode_signal(s) for s in (signal(), exceeded, exceeded)]
    async with running():
        await put(Topic.SIGNALS, [*records, Record(b"per-key|key=k2", None, [])])  # type: ignore[arg-type]
        await eventually("SELECT count() FROM signals FINAL", [(3,)])
    now = "SELECT state, spent_usd, remaining_usd, watermark, emitted_at FROM signals_now"
    assert history.query(now).result_rows == [
        (
            "exceeded",
            Decimal("0.001000001"),
            Decimal("-0.000000001"),
            {0: 41, 3: 7},
            LATER.replace(tzinfo=None),
        )
    ]


async def test_now_is_the_month_of_a_budget_that_was_one_of_a_day(
    running: Running, put: Put, eventually: Eventually, history: Client
) -> None:
    of_the_day = signal(revision=5, window_start=NOON, version=11)
    of_the_month = signal(revision=6, window_start=NOON - timedelta(days=20), version=10, spent_nanousd=7)
    async with running():
        await put(Topic.SIGNALS, [encode_signal(of_the_month), encode_signal(of_the_day)])
        await eventually("SELECT count() FROM signals FINAL", [(2,)])
    now = history.query("SELECT revision, spent_usd FROM signals_now").result_rows
    assert now == [(6, Decimal("0.000000007"))]


async def test_a_repeated_alert_is_one_alert_the_first(
    running: Running, put: Put, eventually: Eventually, history: Client
) -> None:
    first = Alert(
        alert_id=UUID(int=1), kind=AlertKind.EXCEEDED, signal=signal(), message="first", emitted_at=NOON
    )
    repeat = first.model_copy(update={"message": "repeat", "emitted_at": LATER})
    bare = Alert(
        alert_id=UUID(int=2),
        kind=AlertKind.UNUSED,
        subject={"team": "t"},
        message="not used",
        emitted_at=NOON,
    )
    async with running():
        await put(Topic.ALERTS, [encode_alert(first)])
        await eventually("SELECT count() FROM alerts", [(1,)])
        await put(Topic.ALERTS, [encode_alert(repeat), encode_alert(bare)])
        await eventually("SELECT count() FROM alerts WHERE kind = 'unused'", [(1,)])
    kept = "SELECT message, account, subject, spent_usd FROM alerts FINAL ORDER BY alert_id"
    assert history.query(kept).result_rows == [
        ("first", "per-key|key=k1", {"key": "k1"}, Decimal("0.000999999")),
        ("not used", "", {"team": "t"}, None),
    ]


async def test_every_step_of_a_delivery_is_history_and_the_latest_counts_whatever_clocks_say(
    running: Running, put: Put, eventually: Eventually, history: Client
) -> None:
    alert = Alert(
        alert_id=UUID(int=1), kind=AlertKind.EXCEEDED, signal=signal(), message="spent", emitted_at=NOON
    )

    def delivery(route: str, outcome: DeliveryOutcome, at: datetime, **fields: object) -> AlertDelivery:
        of = {"route": route, "alert_id": alert.alert_id, "outcome": outcome, "at": at, "alert": alert}
        return AlertDelivery.model_validate({**of, **fields})

    began = AlertDelivery(route="chat", alert_id=None, outcome=DeliveryOutcome.STARTED, at=NOON, offset=0)
    # The relay that held it had a clock ahead of the one that sent it.
    held = delivery("chat", DeliveryOutcome.HELD, LATER + timedelta(hours=1), reason="a digest", due_at=LATER)
    sent = delivery("chat", DeliveryOutcome.SENT, LATER, attempts=2, due_at=LATER + timedelta(hours=4))
    again = delivery("chat", DeliveryOutcome.SENT, LATER + timedelta(hours=4), attempts=1, reminders=1)
    skipped = delivery("", DeliveryOutcome.SKIPPED, NOON, reason="no route matches")
    of_another = encode_delivery(sent)._replace(key=b"mail|x")
    gone = encode_delivery(sent)._replace(value=None)  # type: ignore[arg-type]
    async with running():
        await put(Topic.DELIVERIES, [*map(encode_delivery, (began, held, sent)), of_another, gone])
        await eventually("SELECT count() FROM deliveries", [(2,)])
        await put(Topic.DELIVERIES, [*map(encode_delivery, (again, skipped))])
        await eventually("SELECT count() FROM deliveries FINAL", [(4,)])
        await eventually("SELECT key, reason FROM dead_letters", [("mail|x", "invalid")])
    now = (
        "SELECT route, outcome, at, sent_at, reason, attempts, reminders, due_at, kind, account"
        " FROM deliveries_now ORDER BY route"
    )
    naive, later = LATER.replace(tzinfo=None), (LATER + timedelta(hours=4)).replace(tzinfo=None)
    of_alert = ("exceeded", "per-key|key=k1")
    assert history.query(now).result_rows == [
        ("", "skipped", NOON.replace(tzinfo=None), None, "no route matches", 0, 0, None, *of_alert),
        ("chat", "sent", later, naive, "", 1, 1, None, *of_alert),
    ]


async def test_every_revision_of_a_budget_is_kept_with_who_and_when_and_its_removal(
    running: Running, put: Put, eventually: Eventually, history: Client
) -> None:
    raised = budget(
        revision=2,
        updated_by="ada",
        updated_at=LATER,
        raises=(Raise(amount_nanousd=NanoUsd(5), until=LATER),),
    )
    other = budget(id="all", match={})
    removal = Record(b"per-key", None, [("ce_updatedby", b"bob")])  # type: ignore[arg-type]
    async with running():
        await put(Topic.BUDGETS, [encode_budget(budget()), encode_budget(raised), encode_budget(other)])
        await put(Topic.BUDGETS, [removal])
        await eventually("SELECT count() FROM budgets", [(4,)])
    kept = (
        "SELECT revision, removed, updated_by, `raises.amount_usd`"
        " FROM budgets WHERE id = 'per-key' ORDER BY offset"
    )
    assert history.query(kept).result_rows == [
        (1, False, "", []),
        (2, False, "ada", [Decimal("5E-9")]),
        (0, True, "bob", []),
    ]
    assert history.query("SELECT id FROM budgets_now").result_rows == [("all",)]
