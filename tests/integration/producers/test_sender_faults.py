"""The sender and a broker that is absent, killed, silent, or gone at the end."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter_gateway.outbox import kafka as delivery
from spendmeter_gateway.outbox.writer import Outbox
from tests.integration.producers.sending import (
    OwnBroker,
    log_of,
    sending,
    seqs_of,
    total,
    until,
    without_resends,
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    one = OwnBroker(tmp_path_factory.mktemp("kafka"))
    yield one
    one.kill()


@pytest.fixture
def settings(broker: OwnBroker, topic_prefix: str) -> Settings:
    return broker.settings(topic_prefix)


async def test_events_are_recorded_before_there_is_a_broker_and_arrive_once_there_is(
    broker: OwnBroker, settings: Settings, tmp_path: Path
) -> None:
    broker.kill()
    async with sending(settings, tmp_path / "outbox") as one:
        one.append(50)
        assert not await one.sender.drain(0.2)
        await broker.start()
        await create_topics(settings)
        await one.drained()
        log = await log_of(settings)

    assert seqs_of(log, one.outbox.producer_id) == list(range(1, 51))


async def test_a_broker_killed_in_mid_stream_loses_nothing_and_doubles_nothing(
    broker: OwnBroker, settings: Settings, tmp_path: Path
) -> None:
    await broker.start()
    await create_topics(settings)
    async with sending(settings, tmp_path / "outbox") as one:
        one.append(1_500)
        await one.acknowledged_more_than(100)
        broker.kill()
        one.append(1_500)
        await broker.start()
        await one.drained()
        log = await log_of(settings)

    kept = without_resends(log)
    assert seqs_of(kept, one.outbox.producer_id) == list(range(1, 3_001))
    assert sorted(a.seq for a in one.acknowledged) == list(range(1, 3_001)), "each is told once"


async def test_without_an_answer_it_sends_again_the_same_and_the_old_copy_that_comes_late_is_harmless(
    broker: OwnBroker, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broker.start()
    await create_topics(settings)
    failures = total("spendmeter_sender_failures_total")
    async with sending(settings, tmp_path / "outbox") as one:
        one.append(100)
        await one.drained()
        monkeypatch.setattr(delivery, "DELIVERY_TIMEOUT_SECONDS", 1.0)
        with broker.paused():
            one.append(100)
            await until(lambda: total("spendmeter_sender_failures_total") > failures)
        monkeypatch.undo()
        one.append(100)
        await one.drained()
        log = await log_of(settings)

    assert seqs_of(without_resends(log), one.outbox.producer_id) == list(range(1, 301))
    assert len(log) > 300, "copies came late"
    told = {a.seq: a for a in one.acknowledged}
    assert len(told) == len(one.acknowledged) == 300
    assert {seq for seq, a in told.items() if a.resent} >= {101}
    for stored in log:
        first_or_later = told[stored.event.seq]
        assert stored.offset <= first_or_later.offset or first_or_later.resent


async def test_a_stop_does_not_wait_for_a_broker_that_is_gone(
    broker: OwnBroker, settings: Settings, tmp_path: Path
) -> None:
    await broker.start()
    await create_topics(settings)
    async with sending(settings, tmp_path / "outbox") as one:
        one.append(10)
        await one.drained()
        broker.kill()
        one.append(10)
        assert not await one.sender.drain(0.5)
        stopped_from = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopped_from < 6

    (left,) = Outbox.predecessors(tmp_path / "outbox")
    assert [frame.seq for frame in left.unsent.read(100)] == list(range(11, 21))
    left.release()
