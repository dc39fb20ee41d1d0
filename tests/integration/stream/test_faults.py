"""Workers that are killed, frozen, added and taken away, with traffic flowing."""

import asyncio
import random
import signal
from datetime import UTC, datetime
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import connection, producer
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter_local.probes import wait_until
from tests.builders import budget, usage
from tests.patience import WITHIN_SECONDS

KEYS = [f"k{n}" for n in range(12)]


class Traffic:
    """Events of several producers, some of them resent, and what they must add up to."""

    def __init__(self, stream: Any, seed: int) -> None:
        self._stream = stream
        self._random = random.Random(seed)
        self._seqs = {f"p{n}": 0 for n in range(3)}
        self.expected: dict[str, int] = {}
        self.sent = 0

    async def burst(self, count: int) -> None:
        for producer_id in self._seqs:
            events = [self._event(producer_id) for _ in range(count // len(self._seqs))]
            await self._stream.send(events)
            # A sender that did not hear the acknowledgement sends its last chunk again, as it was.
            if self._random.random() < 0.5:
                await self._stream.send(events[-20:])

    def _event(self, producer_id: str) -> Any:
        self._seqs[producer_id] += 1
        self.sent += 1
        key, cost = self._random.choice(KEYS), self._random.randrange(1, 1_000_000)
        account = f"per-key|key={key}"
        self.expected[account] = self.expected.get(account, 0) + cost
        self.expected["everything|"] = self.expected.get("everything|", 0) + cost
        now = datetime.now(UTC)
        return usage(
            self._seqs[producer_id], cost, producer_id=producer_id, key=key, occurred_at=now, started_at=now
        )


async def start(stream: Any, seed: int = 7) -> Traffic:
    await stream.client.apply(
        [budget(period="lifetime"), budget(id="everything", match={}, period="lifetime")]
    )
    return Traffic(stream, seed)


async def test_kill_9_at_any_moment_loses_and_doubles_nothing(stream: Any, workers: Any) -> None:
    traffic = await start(stream)
    worker = workers().wait_ready()
    pauses = random.Random(1)
    for _ in range(4):
        burst = asyncio.create_task(traffic.burst(1500))
        await asyncio.sleep(
            pauses.uniform(0.05, 0.4)
        )  # the random moment of the fault, not a synchronisation
        worker.kill()
        await burst
        worker.start()
    worker.wait_ready()
    await traffic.burst(300)
    await stream.until_spent(traffic.expected)


async def test_a_second_and_third_worker_come_and_go_under_load(stream: Any, workers: Any) -> None:
    traffic = await start(stream)
    first = workers("stream-1").wait_ready()
    await traffic.burst(600)
    second = workers("stream-2")
    await traffic.burst(600)
    third = workers("stream-3")
    await traffic.burst(600)
    second.wait_ready()
    third.wait_ready()
    await traffic.burst(600)
    first.stop()
    await traffic.burst(600)
    third.kill()
    await traffic.burst(600)
    await stream.until_spent(traffic.expected)


async def test_a_frozen_worker_that_wakes_up_takes_nothing_back(stream: Any, workers: Any) -> None:
    traffic = await start(stream)
    zombie, other = workers("stream-1").wait_ready(), workers("stream-2").wait_ready()
    burst = asyncio.create_task(traffic.burst(1500))
    await asyncio.sleep(0.1)  # the moment of the fault
    zombie.signal(signal.SIGSTOP)
    await burst
    await traffic.burst(600)
    # Past its session: the other worker has taken over and finished what the zombie had begun.
    await stream.until_spent(traffic.expected)
    zombie.signal(signal.SIGCONT)
    await traffic.burst(600)
    await stream.until_spent(traffic.expected)
    # What the zombie may have written late must not win when the changelog is read again.
    other.kill()
    other.start()
    other.wait_ready()
    await traffic.burst(600)
    await stream.until_spent(traffic.expected)


async def test_standbys_take_over_from_killed_workers_and_go_back_to_being_standbys(
    stream: Any, workers: Any
) -> None:
    """Each of the two is killed once while the other follows its tables, and comes back as a follower."""
    traffic = await start(stream)
    pair = [workers(name, SPENDMETER_STANDBY_REPLICAS="1") for name in ("stream-1", "stream-2")]
    for worker in pair:
        worker.wait_ready()
    for worker in pair:
        burst = asyncio.create_task(traffic.burst(1500))
        await asyncio.sleep(0.2)  # the moment of the fault
        worker.kill()
        await burst
        await stream.until_spent(traffic.expected)
        worker.start()
        worker.wait_ready()
    await traffic.burst(600)
    await stream.until_spent(traffic.expected)


async def test_a_worker_counts_nothing_of_a_source_topic_that_was_made_anew_and_says_what_to_do(
    stream: Any, workers: Any
) -> None:
    """Its first offsets were folded before, so it would be taken for a replay, and lost."""
    traffic = await start(stream)
    worker = workers("stream-1").wait_ready()
    await traffic.burst(60)
    await stream.until_spent(traffic.expected)
    worker.stop()
    await _make_anew(stream.settings)
    worker.start()
    async with producer(stream.settings) as kafka:
        for partition in range(stream.settings.partitions):
            record = encode_usage(usage(1, 5, producer_id="another"))
            topic = stream.settings.topic(Topic.USAGE)
            await kafka.send_and_wait(
                topic, key=record.key, value=record.value, headers=record.headers, partition=partition
            )
    told = ("not ready", "was deleted and created anew", "spendmeter move --to-prefix")
    assert wait_until(
        lambda: all(words in worker.log.read_text() for words in told), timeout_seconds=WITHIN_SECONDS
    ), worker.log.read_text()[-3000:]
    assert worker.process.poll() is None, "it would only be started again"
    assert await stream.spent() == traffic.expected


async def _make_anew(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        await admin.delete_topics([settings.topic(Topic.USAGE)])
        # The name is free once the brokers have let it go.
        for _ in range(int(WITHIN_SECONDS) * 20):
            if settings.topic(Topic.USAGE) not in await admin.list_topics():
                break
            await asyncio.sleep(0.05)
        await create_topics(settings)
    finally:
        await admin.close()
