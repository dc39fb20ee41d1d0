"""What cannot be read or kept is put aside whole, with the reason, and the rest goes on."""

from datetime import UTC, datetime, timedelta

from clickhouse_connect.driver.client import Client

from spendmeter.contract.records import Record, encode_budget, encode_usage
from spendmeter.contract.topics import Topic
from tests.builders import budget, usage
from tests.integration.sinks.conftest import Eventually, Put, Running


async def test_unreadable_records_become_letters_and_their_neighbours_rows(
    running: Running, put: Put, eventually: Eventually, history: Client, topic_prefix: str
) -> None:
    future = datetime.now(UTC) + timedelta(hours=2)
    good = encode_usage(usage(1))
    bad = [
        Record(b"k1", b"{", []),
        Record(b"k1", b"\xff\xfe", []),
        Record(b"k1", b'{"key": "k1"}', []),
        good._replace(headers=[("ce_type", b"dev.spendmeter.usage.v9")]),
        encode_usage(usage(2, occurred_at=future)),
    ]
    stray = encode_budget(budget())._replace(key=b"another")
    async with running():
        await put(Topic.USAGE, [good, *bad, encode_usage(usage(3))])
        await put(Topic.BUDGETS, [stray])
        await eventually("SELECT count() FROM dead_letters FINAL", [(6,)])
        await eventually("SELECT groupArray(seq) FROM (SELECT seq FROM usage ORDER BY seq)", [([1, 3],)])
    letters = history.query(
        "SELECT source_offset, reason, component, encoding FROM dead_letters FINAL"
        f" WHERE source_topic = '{topic_prefix}spend.usage' ORDER BY source_offset"
    )
    assert letters.result_rows == [
        (1, "not_json", "clickhouse-sink", "utf-8"),
        (2, "not_json", "clickhouse-sink", "base64"),
        (3, "invalid", "clickhouse-sink", "utf-8"),
        (4, "unknown_schema", "clickhouse-sink", "utf-8"),
        (5, "from_the_future", "clickhouse-sink", "utf-8"),
    ]
    assert history.query("SELECT count() FROM budgets").result_rows == [(0,)]


async def test_a_row_that_clickhouse_refuses_is_put_aside_without_its_batch(
    running: Running, put: Put, eventually: Eventually, history: Client
) -> None:
    history.command("ALTER TABLE usage ADD CONSTRAINT no_poison CHECK model != 'poison'")
    events = [usage(n) for n in range(1, 201)]
    events[0] = usage(1, model="poison")
    events[99] = usage(100, model="poison")
    history.command("SYSTEM STOP MERGES usage")
    async with running():
        await put(Topic.USAGE, [encode_usage(event) for event in events])
        await eventually("SELECT count() FROM dead_letters FINAL", [(2,)])
        await eventually("SELECT count(), uniqExact(seq) FROM usage", [(198, 198)])
    letters = "SELECT source_offset, reason FROM dead_letters FINAL ORDER BY source_offset"
    assert history.query(letters).result_rows == [(0, "refused_by_history"), (99, "refused_by_history")]


async def test_a_dead_letter_that_cannot_be_read_is_skipped_and_makes_no_other(
    running: Running, put: Put, eventually: Eventually, history: Client
) -> None:
    async with running():
        await put(Topic.DEAD_LETTERS, [Record(b"", b"no letter", [])])
        # One that can be read, later on the same partition, shows that the first was passed.
        await put(Topic.USAGE, [Record(b"k1", b"{", [])])
        await eventually("SELECT count() FROM dead_letters", [(1,)])
    assert history.query("SELECT max(offset) FROM dead_letters").result_rows == [(1,)]
