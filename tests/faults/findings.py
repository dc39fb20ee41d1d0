"""Reads what totals, history and the upstream say, by means that share nothing with the product's readers."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults.alerts import BUDGET as ALERTING
from tests.faults.alerts import alert_id_of
from tests.faults.hand import Place
from tests.faults.verdict import Call, Row
from tests.integration.garbage.generate import NOBODY

TIMEOUT = aiohttp.ClientTimeout(total=120)
SHARDS = 16
"""History is read in so many queries, which bounds what an answer holds."""

HISTORY = """
SELECT toString(event_id), end_user, gateway, key, cost_nanousd, toUnixTimestamp64Micro(occurred_at)
FROM spend.usage FINAL WHERE cityHash64(event_id) % {shards} = {shard}
FORMAT JSONCompactEachRow SETTINGS output_format_json_quote_64bit_integers = 0
"""
# A sink that inserts a batch twice leaves two rows of one place, until the engine merges them: so this is
# also asked after every fault.
RAW = """
SELECT count(), uniqExact(topic, partition, offset) FROM spend.usage
FORMAT JSONCompactEachRow SETTINGS output_format_json_quote_64bit_integers = 0
"""
DEAD_LETTERS = """
SELECT source_topic, source_partition, source_offset, payload FROM spend.dead_letters FINAL
FORMAT JSONCompactEachRow SETTINGS output_format_json_quote_64bit_integers = 0
"""
ALERTS = f"""
SELECT DISTINCT toString(alert_id) FROM spend.alerts FINAL
WHERE budget_id = '{ALERTING}' AND kind = 'threshold' FORMAT JSONCompactEachRow
"""
ACCOUNTS = ("everything|", "per-key|", "by-gateway|", f"{ALERTING}|")


class Findings:
    """One look at everything, straight at broker, engine and upstream."""

    def __init__(self, bootstrap: str, clickhouse_url: str, upstream_url: str) -> None:
        self._bootstrap, self._clickhouse_url, self._upstream_url = bootstrap, clickhouse_url, upstream_url

    async def rows(self) -> list[Row]:
        """History, each event once. Raises aiohttp.ClientError."""
        rows: list[Row] = []
        for shard in range(SHARDS):
            for event_id, request_id, *rest in await self._query(HISTORY.format(shards=SHARDS, shard=shard)):
                rows.append(Row(event_id, request_id or "", *rest))
        return rows

    async def raw_rows(self) -> tuple[int, int]:
        """Rows of history as they lie there, and how many places in Kafka they come from."""
        ((rows, places),) = await self._query(RAW)
        return rows, places

    async def dead_letters(self) -> dict[Place, str]:
        """Where each record that is a dead letter lay, and the record."""
        letters: dict[Place, str] = {}
        for *place, payload in await self._query(DEAD_LETTERS):
            assert Place(*place) not in letters, f"two dead letters of {place}"
            letters[Place(*place)] = payload
        return letters

    async def calls(self) -> list[Call]:
        """Every call that the upstream has served whole. Raises aiohttp.ClientError."""
        calls: list[Call] = []
        since, last = 0, 1
        async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
            while since < last:
                async with http.get(f"{self._upstream_url}/served/calls?since={since}") as answer:
                    page = await answer.json()
                assert page["kept_from"] <= since + 1, "the upstream has forgotten calls: the run is too long"
                calls += [
                    Call(c["user"] or "", c["model"], c["input_tokens"], c["output_tokens"])
                    for c in page["calls"]
                    if c["outcome"] == "served"
                ]
                last = page["last"]
                since = page["calls"][-1]["number"] if page["calls"] else last
        return calls

    async def totals(self) -> dict[tuple[str, int], int]:
        """(account, start of window in µs, 0 for lifetime): nano-USD, as any reader adds them up."""
        latest: dict[bytes, tuple[int, str, str, int]] = {}
        async for key, value in self._records("spend.totals"):
            try:
                total = json.loads(value or b"null")
                found = (
                    total["last_offset"],
                    total["account"],
                    total["window_start"],
                    total["spent_nanousd"],
                )
                if not found[1].startswith(ACCOUNTS):
                    continue  # garbage
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # poison
            if key not in latest or latest[key][0] < found[0]:
                latest[key] = found
        sums: dict[tuple[str, int], int] = defaultdict(int)
        for _, account, start, spent in latest.values():
            is_hourly = account.startswith("by-gateway|")
            sums[account, _unix_us(start) if is_hourly else 0] += spent
        return dict(sums)

    async def events_stored(self) -> tuple[int, int]:
        """Records on spend.usage that name an event of ours, and how many different events they name."""
        ids: list[str] = []
        async for _, value in self._records("spend.usage"):
            try:
                event = json.loads(value or b"null")
                if not (str(event["gateway"]) + str(event["key"])).startswith(NOBODY):
                    ids.append(str(event["event_id"]))
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # poison
        return len(ids), len(set(ids))

    async def alerts(self) -> tuple[list[str], set[str]]:
        """The ids of the alerts at a threshold of the run's budget, on the topic and in history."""
        told = [found async for _, value in self._records("spend.alerts") if (found := alert_id_of(value))]
        return told, {alert_id for (alert_id,) in await self._query(ALERTS)}

    async def _records(self, topic: str) -> AsyncIterator[tuple[bytes, bytes | None]]:
        """Everything on a topic now."""
        # Not "latest", aiokafka's default: its first look for an offset may end after our seek.
        reader = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await reader.start()
        try:
            partitions = [TopicPartition(topic, n) for n in await reader._client._wait_on_metadata(topic)]
            reader.assign(partitions)
            ends = await reader.end_offsets(partitions)
            while any([await reader.position(p) < end for p, end in ends.items()]):
                for records in (await reader.getmany(timeout_ms=500, max_records=20_000)).values():
                    for record in records:
                        yield record.key, record.value
        finally:
            await reader.stop()

    async def _query(self, sql: str) -> Sequence[Sequence[Any]]:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, raise_for_status=True) as http,
            http.post(self._clickhouse_url, data=sql) as answer,
        ):
            return [json.loads(line) for line in (await answer.text()).splitlines()]


def _unix_us(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp()) * 1_000_000
