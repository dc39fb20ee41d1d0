"""Adoption on the real broker: gateways agree on what LiteLLM shows, and what is settled is left in peace."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from spendmeter.contract.budget import Budget
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import consumer
from spendmeter.litellm.entities import LitellmEntity
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.settings import GatewaySettings

from .conftest import Asker, Hand, budget, recorded, until

ID = "litellm:key:k"
KEY = LitellmEntity("key", ("k",), max_budget=0.0000001, budget_duration="1d")


@pytest.fixture
async def other(settings: GatewaySettings, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A second gateway of the same cluster."""
    more = {"data_dir": tmp_path / "other", "gateway": "g2"}
    gateway = Gateway(settings.model_copy(update=more))
    gateway.start()
    yield gateway
    await asyncio.to_thread(gateway.stop)


def known(gateway: Gateway, budget_id: str = ID) -> Budget | None:
    with gateway.views.lock:
        return gateway.views.budgets.book.get(budget_id)


async def stored(settings: GatewaySettings) -> int:
    """How many records spend.budgets has ever had."""
    reader = consumer(settings)
    await reader.start()
    try:
        topic = settings.topic(Topic.BUDGETS)
        partitions = [TopicPartition(topic, n) for n in sorted(await reader._client._wait_on_metadata(topic))]
        ends: dict[TopicPartition, int] = await reader.end_offsets(partitions)
        return sum(ends.values())
    finally:
        await reader.stop()


async def settled(*gateways: Gateway) -> None:
    """Wait until nothing is left to look at or to publish."""
    for gateway in gateways:
        await until(partial(_is_done, gateway), "nothing left to adopt")
        await gateway.budgets_read()


def _is_done(gateway: Gateway) -> bool:
    return not gateway.adopter.has_work


async def test_what_several_gateways_see_again_and_again_is_written_once_and_stays(
    settings: GatewaySettings, asker: Asker, other: Gateway
) -> None:
    gateways = (asker.gateway, other)
    for gateway in gateways:
        await until(partial(_is_done, gateway), "all read")
        gateway.adopter.note([KEY])
    await settled(*gateways)
    written = await stored(settings)

    for _ in range(3):
        for gateway in gateways:
            gateway.adopter.note([KEY])
            # What was forgotten is looked at again, and found in force.
            gateway.adopter.forget()
            gateway.adopter.note([KEY])
        await settled(*gateways)

    assert 1 <= written <= 2
    assert await stored(settings) == written
    first, second = known(asker.gateway), known(other)
    assert first == second
    assert first is not None
    assert first.limit_nanousd == 100
    assert first.updated_by == "LiteLLM"


async def test_a_limit_seen_at_one_gateway_refuses_at_the_other(asker: Asker, other: Gateway) -> None:
    asker.gateway.adopter.note([KEY])
    await until(lambda: known(other) is not None, "adopted at the other")

    recorded(other, 100)
    await Asker(other).until_refused()

    asker.gateway.adopter.note([KEY._replace(max_budget=0.000001)])
    await Asker(other).until_admitted()
    asker.gateway.adopter.note([KEY._replace(max_budget=None)])
    await until(lambda: known(other) is None, "removed at the other")


async def test_what_people_changed_here_and_other_budgets_are_left_alone(
    settings: GatewaySettings, asker: Asker, hand: Hand
) -> None:
    paused = budget(
        id=ID, match={"key": "k"}, limit_nanousd=100, period="day", paused=True, updated_by="ann", revision=3
    )
    mine = budget(id="mine", match={"key": "k"})
    await hand.puts(paused, mine)
    await asker.has(paused)
    written = await stored(settings)

    asker.gateway.adopter.note([KEY])
    await settled(asker.gateway)

    assert await stored(settings) == written
    assert known(asker.gateway) == paused
    assert known(asker.gateway, "mine") == mine
