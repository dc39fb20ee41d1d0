"""Bills of one object in history: however many copies come, however they differ, one counts: the first."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.contract.provider_object import object_event_id
from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter_sinks.clickhouse import consumer as consuming
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.reconcile.history import History as Recounted
from tests.builders import NOON, usage

from .conftest import Eventually, Put, Running


def bill(producer: str, seq: int, object_id: str = "openai/resp_1", **fields: Any) -> UsageEvent:
    named = {"event_id": object_event_id(object_id), "object_id": object_id}
    return usage(seq, 3_500_000, producer_id=producer, **named, **fields)


COPIES = [
    bill("g1", 1, key="creator"),
    # Who read it at other gateways did not know the creator, or when it ended.
    bill("g2", 1, key="reader"),
    bill("g2", 3, key="creator", occurred_at=NOON + timedelta(days=1)),
    bill("g3", 1, key="creator"),
]
OTHERS = [usage(2, producer_id="g1"), usage(2, producer_id="g2"), bill("g1", 3, "openai/batch_1")]


async def test_the_first_bill_of_an_object_is_kept_and_no_other(
    put: Put, running: Running, eventually: Eventually, settings: SinkSettings, history: Client
) -> None:
    first, *later = [encode_usage(event) for event in (COPIES[0], *OTHERS, *COPIES[1:])]
    await put(Topic.USAGE, [first])
    async with running():
        await eventually("SELECT count() FROM usage", [(1,)])
        await put(Topic.USAGE, later)
        await eventually("SELECT count() FROM usage_objects FINAL", [(5,)])
        await eventually("SELECT max(offset) FROM usage", [(3,)])
        # Again, to be sure that what came last was looked at.
        await put(Topic.USAGE, [encode_usage(usage(4, producer_id="g1"))])
        await eventually("SELECT count() FROM usage WHERE seq = 4", [(1,)])

    kept = history.query(
        "SELECT object_id, producer_id, key, offset FROM usage WHERE object_id != '' ORDER BY offset"
    ).result_rows
    assert kept == [("openai/resp_1", "g1", "creator", 0), ("openai/batch_1", "g1", "k1", 3)]
    recounted = Recounted(history, settings.topic(Topic.USAGE))
    assert [(one.producer_id, one.seqs, one.highest) for one in recounted.recorded()] == [
        ("g1", 4, 4),
        ("g2", 3, 3),
        ("g3", 1, 1),
    ]
    assert recounted.gaps(["g1", "g2", "g3"]) == {}, "a bill that is left out is no loss"
    assert recounted.conflicts(["g1", "g2", "g3"]) == []


async def test_a_topic_that_is_read_again_keeps_the_same_rows(
    put: Put, running: Running, eventually: Eventually, history: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All copies in one batch, then once more by a group that knows nothing, with one more behind."""
    await put(Topic.USAGE, [encode_usage(event) for event in COPIES])
    async with running():
        await eventually("SELECT count() FROM usage_objects FINAL", [(4,)])
        await eventually("SELECT count() FROM usage FINAL", [(1,)])
    await put(Topic.USAGE, [encode_usage(bill("g4", 1, key="reader"))])
    monkeypatch.setattr(consuming, "SINK_GROUP", "another")
    async with running():
        await eventually("SELECT count() FROM usage_objects FINAL", [(5,)])
        await put(Topic.USAGE, [encode_usage(usage(2, producer_id="g4"))])
        await eventually("SELECT max(offset) FROM usage", [(5,)])

    rows = history.query("SELECT event_id, key FROM usage FINAL WHERE object_id != ''").result_rows
    assert rows == [(UUID(str(object_event_id("openai/resp_1"))), "creator")]
