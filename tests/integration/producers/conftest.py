"""A gateway on the real broker, and the hand that writes its budgets and signals."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import encode_budget, encode_signal
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.matching import Subject
from spendmeter.domain.window import window_of
from spendmeter.kafka.client import partition_of, producer
from spendmeter.topics.create import create_topics
from spendmeter.values.ids import uuid7
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.model import Caller, UsageDraft
from spendmeter_gateway.settings import GatewaySettings
from tests.patience import WITHIN_SECONDS

PARTITIONS = 2


def budget(**changes: Any) -> Budget:
    now = datetime.now(UTC)
    given = {"id": "b", "match": {"key": "*"}, "limit_nanousd": 100, "period": "year", "updated_at": now}
    return Budget.model_validate(given | changes)


def signal(
    of: Budget, spent: int, *, key: str = "k", version: int = 1, watermark: dict[int, int] | None = None
) -> Signal:
    window = window_of(of, datetime.now(UTC))
    assert window is not None
    return Signal(
        budget_id=of.id,
        account=f"{of.id}|key={key}",
        subject={"key": key},
        window_start=window.start,
        window_end=window.end,
        limit_nanousd=of.limit_nanousd,
        spent_nanousd=NanoUsd(spent),
        state=State.OK,
        watermark=watermark or {},
        revision=of.revision,
        version=version,
        emitted_at=datetime.now(UTC),
    )


def draft(cost: int, *, key: str = "k", event_id: UUID | None = None) -> UsageDraft:
    now = datetime.now(UTC)
    return UsageDraft(
        {
            "event_id": event_id or uuid7(int(now.timestamp() * 1000)),
            "occurred_at": now,
            "started_at": now,
            "key": key,
            "cost_nanousd": cost,
            "cost_source": CostSource.LITELLM,
        }
    )


async def until(condition: Callable[[], Any], what: str = "") -> float:
    """Wait for a condition; returns the milliseconds it took."""
    begun = time.perf_counter()
    while not condition():
        assert time.perf_counter() - begun < WITHIN_SECONDS, f"not within {WITHIN_SECONDS} s: {what}"
        await asyncio.sleep(0.001)
    return (time.perf_counter() - begun) * 1000


class Hand:
    """Writes budgets and signals as the command line and the judge do."""

    def __init__(self, settings: GatewaySettings, kafka: AIOKafkaProducer) -> None:
        self._settings, self._kafka = settings, kafka

    async def puts(self, *budgets: Budget) -> None:
        for one in budgets:
            key, value, headers = encode_budget(one)
            topic = self._settings.topic(Topic.BUDGETS)
            await self._kafka.send_and_wait(topic, key=key, value=value, headers=headers)

    async def removes(self, budget_id: str) -> None:
        topic = self._settings.topic(Topic.BUDGETS)
        await self._kafka.send_and_wait(topic, key=budget_id.encode(), value=None)

    async def signals(self, *signals: Signal) -> None:
        for one in signals:
            key, value, headers = encode_signal(one)
            topic, partition = self._settings.topic(Topic.SIGNALS), partition_of(one.account, PARTITIONS)
            await self._kafka.send_and_wait(topic, key=key, value=value, headers=headers, partition=partition)

    async def fills(self, ends: dict[int, int]) -> None:
        """Have spend.usage end there, by partition."""
        topic = self._settings.topic(Topic.USAGE)
        for partition, end in ends.items():
            for _ in range(end):
                await self._kafka.send_and_wait(topic, value=b"somebody's", partition=partition)


class Asker:
    """Asks a gateway for admission as the callback does."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def asks(self, key: str = "k") -> Refusal | None:
        return await self.gateway.admit(Caller(Subject(key=key), key))

    async def until_refused(self, key: str = "k") -> float:
        return await self._until(lambda refusal: refusal is not None, key)

    async def until_admitted(self, key: str = "k") -> float:
        return await self._until(lambda refusal: refusal is None, key)

    async def _until(self, holds: Callable[[Refusal | None], bool], key: str) -> float:
        begun = time.perf_counter()
        while not holds(await self.asks(key)):
            assert time.perf_counter() - begun < WITHIN_SECONDS
            await asyncio.sleep(0.001)
        return (time.perf_counter() - begun) * 1000

    async def has(self, of: Budget) -> None:
        """Wait until the budget is in force here."""
        await until(lambda: self.gateway.views.budgets.book.get(of.id) == of, f"budget {of.id}")

    async def caught_up(self) -> None:
        """Wait until every signal that is stored by now is believed or refused."""
        reading = self.gateway.views.signals.catch_up()
        async with asyncio.timeout(WITHIN_SECONDS):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(reading, self.gateway._loop))

    async def knows(self, of: Budget, certain: int, doubtful: int = 0, key: str = "k") -> float:
        """Wait until that much is known to be spent."""

        def holds() -> bool:
            known = self.known(of, key)
            return known[:2] == (certain, doubtful)

        return await until(holds, f"known {certain} + {doubtful}, is {self.known(of, key)}")

    def known(self, of: Budget, key: str = "k") -> tuple[int, int]:
        window = window_of(of, datetime.now(UTC))
        assert window is not None
        with self.gateway.views.lock:
            known = self.gateway.views.spend.known(f"{of.id}|key={key}", window.start)
        return known.certain_nanousd, known.doubtful_nanousd


@pytest.fixture
async def settings(kafka: str, topic_prefix: str, tmp_path: Path) -> GatewaySettings:
    made = GatewaySettings(
        kafka_bootstrap=kafka,
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        data_dir=tmp_path,
        gateway="g1",
        start_wait_ms=15_000,
        # So long that a crowded machine changes nothing.
        ack_wait_ms=5_000,
    )
    await create_topics(made)
    return made


@pytest.fixture
async def hand(settings: GatewaySettings) -> AsyncIterator[Hand]:
    async with producer(settings) as kafka:
        yield Hand(settings, kafka)


@pytest.fixture
async def asker(settings: GatewaySettings) -> AsyncIterator[Asker]:
    gateway = Gateway(settings)
    gateway.start()
    yield Asker(gateway)
    await asyncio.to_thread(gateway.stop)


def recorded(gateway: Gateway, cost: int, key: str = "k") -> UsageEvent:
    event = gateway.record(draft(cost, key=key))
    assert event is not None
    return event
