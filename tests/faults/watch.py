"""Sees from outside when new events reach the totals and history again after a fault."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable
from uuid import UUID

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

POLL_SECONDS = 0.2
RETRY_SECONDS = 0.5
LATEST_IN_HISTORY = """
SELECT gateway, partition, toUnixTimestamp64Milli(max(UUIDv7ToDateTime(event_id))) AS minted_ms,
    count() - uniqExact(topic, partition, offset) AS doubles
FROM spend.usage WHERE stored_at > now64(3) - INTERVAL 10 MINUTE
GROUP BY gateway, partition FORMAT JSONCompactEachRow
"""


def minted_at(event_id: str) -> float:
    """When a UUIDv7 was made, in seconds since 1970."""
    return (UUID(event_id).int >> 80) / 1000


class Watch:
    """The newest event of each gateway, and of each partition, in the totals and in history."""

    def __init__(self, bootstrap: str, clickhouse_url: str, account_prefix: str, partitions: int) -> None:
        self._partitions = partitions
        self._bootstrap, self._clickhouse_url = bootstrap, clickhouse_url
        self._prefix = account_prefix
        self._in_totals: dict[str, float] = {}
        self._in_history: dict[str, float] = {}
        self.doubles = 0
        """The most rows ever seen of places in Kafka that had a row already, before merges took them."""

    async def follow_totals(self) -> None:
        """Follow spend.totals until cancelled, through every outage of the broker."""
        while True:
            reader = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
            )
            with contextlib.suppress(KafkaError, OSError):
                try:
                    await reader.start()
                    numbers = await reader._client._wait_on_metadata("spend.totals")
                    reader.assign([TopicPartition("spend.totals", n) for n in numbers])
                    async for record in reader:
                        self._take(record.value)
                finally:
                    await reader.stop()
            await asyncio.sleep(RETRY_SECONDS)

    def _take(self, value: bytes | None) -> None:
        # What is poison to the product is skipped here.
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            total = json.loads(value or b"null")
            if total["account"].startswith(self._prefix) and total["last_event_id"]:
                minted = minted_at(total["last_event_id"])
                for name in (
                    total["account"].removeprefix(self._prefix),
                    _partition(total["source_partition"]),
                ):
                    self._in_totals[name] = max(minted, self._in_totals.get(name, 0.0))

    async def recovered(self, sources: Iterable[str], since: float, timeout_seconds: float) -> float | None:
        """Seconds from `since` until of each source and partition an event made after it is in both.

        None if that takes too long.
        """
        missing = {*sources, *map(_partition, range(self._partitions))}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            while time.time() - since < timeout_seconds:
                await self._look_at_history(http)
                missing = {
                    source
                    for source in missing
                    if min(self._in_totals.get(source, 0.0), self._in_history.get(source, 0.0)) <= since
                }
                if not missing:
                    return time.time() - since
                await asyncio.sleep(POLL_SECONDS)
        return None

    def behind(self, since: float) -> str:
        """Who is missing where, in words."""
        late = []
        for where, seen in (("totals", self._in_totals), ("history", self._in_history)):
            late += [f"{source} in {where}" for source, at in sorted(seen.items()) if at <= since]
        return ", ".join(late)

    async def _look_at_history(self, http: aiohttp.ClientSession) -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with http.post(self._clickhouse_url, data=LATEST_IN_HISTORY) as answer:
                if answer.status == 200:
                    for line in (await answer.text()).splitlines():
                        gateway, partition, minted_ms, doubles = json.loads(line)
                        self.doubles = max(self.doubles, int(doubles))
                        for name in (gateway, _partition(partition)):
                            minted = int(minted_ms) / 1000
                            self._in_history[name] = max(minted, self._in_history.get(name, 0.0))


def _partition(number: object) -> str:
    return f"partition {number}"
