"""spendmeter.client on the real broker: what it returns is stored, and no change is lost or made twice."""

from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import TopicPartition

from spendmeter.client import NoSuchBudget, SpendmeterClient, connect
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.topics import Topic
from spendmeter.runtime.budget_topic import BudgetTopic
from spendmeter.runtime.kafka import consumer
from spendmeter.runtime.settings import Settings
from tests.builders import NOON, budget
from tests.integration.runtime.conftest import under_way


async def stored(settings: Settings) -> list[tuple[bytes | None, bytes | None]]:
    """Every record of spend.budgets, not only the latest."""
    kafka = consumer(settings)
    await kafka.start()
    try:
        partition = TopicPartition(settings.topic(Topic.BUDGETS), 0)
        kafka.assign([partition])
        end = (await kafka.end_offsets([partition]))[partition]
        return [((one := await kafka.getone()).key, one.value) for _ in range(end)]
    finally:
        await kafka.stop()


async def test_what_was_applied_is_there_as_it_was_returned(client: SpendmeterClient) -> None:
    written = await client.apply([budget(id="a"), budget(id="b")])

    assert [one.id for one in written] == ["a", "b"]
    assert await client.budgets() == {one.id: one for one in written}
    assert await client.get("a") == written[0]
    assert all(one.updated_by for one in written)


async def test_to_apply_the_same_again_writes_nothing(settings: Settings, client: SpendmeterClient) -> None:
    await client.apply([budget(id="a"), budget(id="b")])
    before = await stored(settings)

    assert await client.apply([budget(id="a", revision=7, updated_at=NOON), budget(id="b")]) == []

    assert await stored(settings) == before
    assert len(before) == 2


async def test_to_apply_a_change_writes_that_one_and_keeps_its_reset(client: SpendmeterClient) -> None:
    await client.apply([budget(id="a"), budget(id="b")])
    reset = await client.reset("a")

    written = await client.apply([budget(id="a", limit_nanousd=7), budget(id="b")])

    assert [(one.id, one.limit_nanousd, one.reset_at) for one in written] == [("a", 7, reset.reset_at)]


async def test_a_limit_is_raised_and_nothing_else_changed(client: SpendmeterClient) -> None:
    [first] = await client.apply([budget(updated_by="ann")])

    raised = await client.set_limit("per-key", NanoUsd(7))

    assert raised == await client.get("per-key")
    apart = {"limit_nanousd", "revision", "updated_at", "updated_by"}
    assert raised.model_dump(exclude=apart) == first.model_dump(exclude=apart)
    assert (raised.limit_nanousd, raised.revision > first.revision) == (7, True)
    # Ann set the budget up, but it was not she who raised it.
    assert raised.updated_by != "ann"


async def test_a_limit_that_no_budget_can_have_is_refused(client: SpendmeterClient) -> None:
    [first] = await client.apply([budget()])

    with pytest.raises(ValueError, match="greater than 0"):
        await client.set_limit("per-key", NanoUsd(0))

    assert await client.get("per-key") == first


async def test_a_reset_is_now(settings: Settings) -> None:
    async with connect(settings, clock=lambda: NOON) as client:
        await client.apply([budget()])
        assert (await client.reset("per-key")).reset_at == NOON


async def test_what_is_not_there_cannot_be_changed(client: SpendmeterClient) -> None:
    for change in (client.get("x"), client.set_limit("x", NanoUsd(1)), client.reset("x"), client.remove("x")):
        with pytest.raises(NoSuchBudget, match="there is no budget 'x'; `spendmeter budget list` shows"):
            await change


async def test_a_removed_budget_is_gone_and_its_tombstone_stored(
    settings: Settings, client: SpendmeterClient
) -> None:
    [written] = await client.apply([budget()])

    assert await client.remove("per-key") == written

    assert await client.budgets() == {}
    assert [key for key, value in await stored(settings) if value is None] == [b"per-key"]


@pytest.mark.parametrize("back", [timedelta(0), timedelta(hours=1)])
async def test_revisions_rise_across_changes_and_removals_even_if_the_clock_does_not(
    settings: Settings, back: timedelta
) -> None:
    """A gateway keeps the highest revision: one that fell would leave it with the removed limit."""
    now = datetime.now(UTC)
    clock = iter(now - n * back for n in range(100))
    async with connect(settings, clock=lambda: next(clock)) as client:
        [first] = await client.apply([budget()])
        raised = await client.set_limit("per-key", NanoUsd(7))
        await client.remove("per-key")
        [again] = await client.apply([budget()])
        reset = await client.reset("per-key")

    revisions = [one.revision for one in (first, raised, again, reset)]
    assert revisions == sorted(set(revisions))


async def test_a_client_that_follows_the_topic_sees_its_own_changes_at_once(settings: Settings) -> None:
    followed = BudgetTopic(settings)
    async with under_way(followed.run), connect(settings, followed=followed) as client:
        for limit in range(1, 11):
            [written] = await client.apply([budget(limit_nanousd=limit)])

            assert await client.budgets() == {"per-key": written}


async def test_there_are_no_signals_before_there_are_any(client: SpendmeterClient) -> None:
    assert await client.signals() == []
    assert await client.signals("per-key") == []
