"""The sender against the real broker: order, placement, acknowledgements, and what dead processes left."""

import asyncio
import itertools
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from spendmeter.contract.records import SENT_BEFORE_HEADER, is_sent_before
from spendmeter.kafka.client import partition_of
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter.topics.state import TopicState
from spendmeter_gateway.outbox import writer as outbox
from spendmeter_gateway.outbox.sender import MAX_CHUNK_EVENTS
from spendmeter_gateway.outbox.writer import Outbox
from tests.integration.producers.sending import (
    KEYS,
    MAX_BYTES,
    PARTITIONS,
    event,
    log_of,
    sending,
    seqs_of,
    total,
    until,
    without_resends,
)

EARLIER_TOPIC = "tQyP5J8dT8qcUW346NUhow"


@pytest.fixture
async def settings(kafka: str, topic_prefix: str) -> Settings:
    made = Settings(kafka_bootstrap=kafka, topic_prefix=topic_prefix, partitions=PARTITIONS)
    await create_topics(made)
    return made


async def test_events_arrive_once_in_order_in_the_partition_of_their_key(
    settings: Settings, tmp_path: Path
) -> None:
    async with sending(settings, tmp_path) as one:
        one.append(1_200)
        await one.drained()
        log = await log_of(settings)

    assert seqs_of(log, one.outbox.producer_id) == list(range(1, 1_201))
    for stored in log:
        assert stored.key.decode() == stored.event.key
        assert stored.partition == partition_of(stored.event.key, PARTITIONS)
        assert dict(stored.headers)["ce_type"] == b"dev.spendmeter.usage.v1"
        assert dict(stored.headers)["ce_id"] == str(stored.event.event_id).encode()
    for _, records in itertools.groupby(log, key=lambda stored: stored.partition):
        in_partition = [stored.event.seq for stored in records]
        assert in_partition == sorted(in_partition)


async def test_each_acknowledgement_names_where_its_event_lies(settings: Settings, tmp_path: Path) -> None:
    async with sending(settings, tmp_path) as one:
        for _ in range(10):
            one.append(30)
            await one.drained()
        log = await log_of(settings)

    lies_at = {stored.event.seq: (stored.partition, stored.offset) for stored in log}
    assert {a.seq: (a.partition, a.offset) for a in one.acknowledged} == lies_at
    assert not any(a.resent for a in one.acknowledged)


async def test_a_broker_that_knows_fewer_partitions_moves_no_key(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has not heard of added partitions: a key's events would lie in two of them."""
    async with sending(settings, tmp_path) as one:
        one.append(40)
        await one.drained()
        asked = one.sender._delivery.topic

        async def behind(*, fresh: bool = False) -> TopicState:
            return (await asked(fresh=fresh))._replace(partitions=1)

        monkeypatch.setattr(one.sender._delivery, "topic", behind)
        one.append(40)
        await one.drained()
        log = await log_of(settings)

    partitions: dict[bytes, set[int]] = defaultdict(set)
    for stored in log:
        partitions[stored.key].add(stored.partition)
    assert len(log) == 80
    assert {len(of) for of in partitions.values()} == {1}


# Longer than any wait of these tests: what is sent all the same was not kept for it.
LONG_SECONDS = 3_600.0


async def test_what_is_not_urgent_waits_for_what_is_and_goes_with_it(
    settings: Settings, tmp_path: Path
) -> None:
    async with sending(settings, tmp_path, linger_seconds=LONG_SECONDS) as one:
        one.append(1)
        await one.acknowledged_more_than(0)
        one.append(3, is_urgent=False)
        await until(lambda: one.sender.is_lingering)
        assert len(one.acknowledged) == 1
        one.append(1)
        await one.acknowledged_more_than(4)


async def test_what_is_not_urgent_goes_after_the_linger(settings: Settings, tmp_path: Path) -> None:
    async with sending(settings, tmp_path, linger_seconds=0.05) as one:
        one.append(3, is_urgent=False)
        await one.acknowledged_more_than(2)


async def test_a_stop_waits_for_no_linger(settings: Settings, tmp_path: Path) -> None:
    async with sending(settings, tmp_path, linger_seconds=LONG_SECONDS) as one:
        one.append(3, is_urgent=False)
        await until(lambda: one.sender.is_lingering)
        await one.drained()


async def test_what_is_much_waits_for_no_linger(settings: Settings, tmp_path: Path) -> None:
    async with sending(settings, tmp_path, linger_seconds=LONG_SECONDS) as one:
        one.append(1_200, is_urgent=False)
        await one.acknowledged_more_than(1_000)


async def test_a_backlog_of_one_key_goes_although_it_is_more_than_a_kafka_batch_holds(
    settings: Settings, tmp_path: Path
) -> None:
    count = 1_000
    async with sending(settings, tmp_path, linger_seconds=LONG_SECONDS) as one:
        for _ in range(count):
            one.outbox.append(
                lambda seq: event(one.outbox.producer_id, seq).model_copy(update={"key": KEYS[0]})
            )
        one.sender.wake()
        await one.drained()
        log = await log_of(settings)

    assert [stored.event.seq for stored in log] == list(range(1, count + 1))


async def test_a_stop_with_nothing_unsent_leaves_no_file(settings: Settings, tmp_path: Path) -> None:
    async with sending(settings, tmp_path) as one:
        one.append(3)
        await one.drained()

    assert files_in(tmp_path) == []
    assert total("spendmeter_outbox_oldest_unsent_seconds") == 0


async def test_what_this_version_cannot_read_is_sent_as_it_is_and_blocks_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sending(settings, tmp_path) as one:
        with monkeypatch.context() as newer:
            newer.setattr(outbox, "write_json", lambda _: b'{"of":"another version"}')
            one.append(1)
        one.append(1)
        await one.drained()
        log = await log_of(settings)

    assert sorted(stored.value for stored in log)[-1] == b'{"of":"another version"}'
    assert [a.seq for a in one.acknowledged] == [1, 2]


class TestPredecessors:
    """What dead processes left."""

    APPENDER = """
import asyncio, sys
from pathlib import Path
from spendmeter.settings import Settings
from spendmeter.topics.state import TopicState
from tests.integration.producers.sending import sending

async def main():
    settings = Settings(kafka_bootstrap=sys.argv[2], topic_prefix=sys.argv[3])
    async with sending(settings, Path(sys.argv[1])) as one:
        for _ in range(1_000_000):
            one.append(20)
            print(one.outbox.producer_id, one.outbox.last_seq, len(one.acknowledged), flush=True)
            await asyncio.sleep(0)

asyncio.run(main())
"""

    async def test_a_killed_process_is_finished_by_the_next(self, settings: Settings, tmp_path: Path) -> None:
        """SIGKILL while events are appended, sent and acknowledged; and a torn end on top of it."""
        producer_id, recorded = await asyncio.to_thread(self.killed_appender, settings, tmp_path)
        torn = sorted((tmp_path / producer_id).glob("*.segment"))[-1]
        with torn.open("ab") as file:
            file.write(b"\xf5sm1\x00\x04 the first half of a record")
        cut = total("spendmeter_outbox_cut_bytes_total")

        left = Outbox.predecessors(tmp_path)
        async with sending(settings, tmp_path, left) as one:
            one.append(1)
            await one.drained()
            log = await log_of(settings)

        kept = without_resends(log)
        found = seqs_of(kept, producer_id)
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= recorded
        assert seqs_of(log, one.outbox.producer_id) == [1]
        assert len(one.acknowledged) == 1, "only its own events are told to the gateway"
        assert total("spendmeter_outbox_cut_bytes_total") - cut == 33
        assert files_in(tmp_path) == []

    def killed_appender(self, settings: Settings, root: Path) -> tuple[str, int]:
        command = [sys.executable, "-c", self.APPENDER, str(root), settings.kafka_bootstrap]
        repository = Path(__file__).parents[3]
        with subprocess.Popen(
            [*command, settings.topic_prefix], cwd=repository, stdout=subprocess.PIPE
        ) as appender:
            assert appender.stdout is not None
            for line in appender.stdout:
                producer_id, recorded, acknowledged = line.decode().split()
                if int(acknowledged) > 200 and int(recorded) > int(acknowledged):
                    appender.kill()
                    return producer_id, int(recorded)
        raise AssertionError("the appender ended by itself")

    async def test_a_predecessor_that_cannot_be_read_stays_and_holds_nothing_up(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        dead = Outbox.open(tmp_path, max_bytes=MAX_BYTES)
        dead.append(lambda seq: event(dead.producer_id, seq))
        dead.close()
        unreadable = tmp_path / dead.producer_id / "000000000000.segment"
        unreadable.mkdir()

        async with sending(settings, tmp_path, Outbox.predecessors(tmp_path)) as one:
            one.append(1)
            await one.drained()
        unreadable.rmdir()
        async with sending(settings, tmp_path, Outbox.predecessors(tmp_path)) as next_one:
            await next_one.drained()
            log = await log_of(settings)

        assert seqs_of(log, one.outbox.producer_id) == [1]
        assert seqs_of(log, dead.producer_id) == [1]

    async def test_an_event_that_may_be_stored_goes_to_its_old_partition_when_partitions_were_added(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        dead = Outbox.open(tmp_path, max_bytes=MAX_BYTES)
        dead.unsent.assign_partitions(PARTITIONS // 2)
        for _ in range(40):
            dead.append(lambda seq: event(dead.producer_id, seq))
        dead.close()

        async with sending(settings, tmp_path, Outbox.predecessors(tmp_path)) as one:
            one.append(40)
            await one.drained()
            log = await log_of(settings)

        for stored in log:
            is_old = stored.event.producer_id == dead.producer_id
            placed_by = PARTITIONS // 2 if is_old else PARTITIONS
            assert stored.partition == partition_of(stored.event.key, placed_by)
        assert len(log) == 80

    async def test_what_may_stand_in_another_topic_says_so_and_what_was_never_sent_does_not(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        """Its gateway was killed with a chunk on its way, and the system has moved since."""
        dead = Outbox.open(tmp_path, max_bytes=MAX_BYTES)
        dead.unsent.assign_partitions(PARTITIONS // 2, EARLIER_TOPIC)
        for _ in range(MAX_CHUNK_EVENTS + 40):
            dead.append(lambda seq: event(dead.producer_id, seq))
        dead.close()

        async with sending(settings, tmp_path, Outbox.predecessors(tmp_path)) as one:
            one.append(40)
            await one.drained()
            log = await log_of(settings)

        assert len(log) == MAX_CHUNK_EVENTS + 80
        said = {s.event.seq for s in log if (SENT_BEFORE_HEADER, EARLIER_TOPIC.encode()) in s.headers}
        # A chunk: as many as a batch is sure to hold, from the first that was not acknowledged.
        assert MAX_CHUNK_EVENTS / 2 < len(said) <= MAX_CHUNK_EVENTS
        assert said == set(range(1, len(said) + 1))
        for stored in log:
            is_in_doubt = stored.event.producer_id == dead.producer_id and stored.event.seq in said
            assert is_sent_before(stored.headers) == is_in_doubt
            assert stored.partition == partition_of(stored.event.key, PARTITIONS)


def files_in(root: Path) -> list[Path]:
    return list(root.iterdir())
