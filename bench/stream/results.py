"""Reading a contender's result and holding it against the generator's sums."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from bench.stream.job import Spent
from spendmeter.kafka.client import consumer
from spendmeter.settings import Settings

POLL_MS = 1_000
MAX_EMPTY_POLLS = 60
MAX_TOLD = 3


async def read_topic(
    settings: Settings, topic: str, partitions: int, take: Callable[[ConsumerRecord], None]
) -> None:
    """Hand every record of a topic, in offset order per partition, to `take`; only what was committed.

    Raises TimeoutError when the end is not reached.
    """
    # Transactions of a contender that aborted are no result.
    reader = consumer(settings, isolation_level="read_committed")
    await reader.start()
    try:
        tps = [TopicPartition(topic, p) for p in range(partitions)]
        reader.assign(tps)
        await reader.seek_to_beginning(*tps)
        ends: Mapping[TopicPartition, int] = await reader.end_offsets(tps)
        empty = 0
        while any([await reader.position(tp) < ends[tp] for tp in tps]):
            fetched: dict[Any, list[ConsumerRecord]] = await reader.getmany(timeout_ms=POLL_MS)
            empty = 0 if fetched else empty + 1
            if empty > MAX_EMPTY_POLLS:
                raise TimeoutError(f"{topic}: the end was not reached")
            for records in fetched.values():
                for record in records:
                    take(record)
    finally:
        await reader.stop()


def differences(found: Mapping[Spent, int], expected: Counter[Spent]) -> str | None:
    """What a result has wrong, or None when it is exact to the nano-dollar."""
    wrong = [spent for spent in found.keys() | expected.keys() if found.get(spent) != expected.get(spent)]
    if not wrong:
        return None
    told = "; ".join(
        f"{s.subject[:20]} at {s.window_start_us}: {found.get(s)} instead of {expected.get(s)}"
        for s in sorted(wrong)[:MAX_TOLD]
    )
    return f"{len(wrong)} of {len(expected)} totals differ: {told}"
