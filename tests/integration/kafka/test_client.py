"""spendmeter.client on the real broker: what it returns is stored, and no change is lost or made twice."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import TopicPartition

from spendmeter.client import InvalidReplaces, NoSuchBudget, SpendmeterClient, connect
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import encode_signal
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import consumer, producer
from spendmeter.settings import Settings
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.values.account import budget_id_of
from tests.builders import NOON, budget
from tests.integration.kafka.conftest import under_way
from tests.patience import WITHIN_SECONDS


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


async def test_each_change_is_made_and_signed_by_whoever_made_it(settings: Settings) -> None:
    async with connect(settings, clock=lambda: NOON, by="billing") as client:
        [first] = await client.apply([budget(updated_by="ann")])

        raised = await client.raise_limit("per-key", NanoUsd(5), NOON + timedelta(hours=1))
        paused = await client.pause("per-key")
        resumed = await client.resume("per-key")
        weekly = await client.set_period("per-key", "week:sunday", "Asia/Tokyo")

        assert await client.get("per-key") == weekly
    made = [first, raised, paused, resumed, weekly]
    assert [one.updated_by for one in made] == ["ann", *["billing"] * 4]
    assert [one.limit_at(NOON) - first.limit_nanousd for one in made] == [0, 5, 5, 5, 5]
    assert [one.paused for one in made] == [False, False, True, False, False]
    assert (weekly.period, weekly.timezone) == ("week:sunday", "Asia/Tokyo")


async def test_a_raise_that_has_ended_goes_with_the_next_change(settings: Settings) -> None:
    times = iter([NOON, NOON, NOON, NOON, *[NOON + timedelta(hours=2)] * 9])
    async with connect(settings, clock=lambda: next(times)) as client:
        await client.apply([budget()])
        raised = await client.raise_limit("per-key", NanoUsd(5), NOON + timedelta(hours=1))
        later = await client.pause("per-key")
        later = await client.resume("per-key")

    assert (len(raised.raises), later.raises) == (1, ())


async def test_budgets_that_replace_nobody_or_each_other_are_not_written(client: SpendmeterClient) -> None:
    with pytest.raises(InvalidReplaces, match="no budget 'b'"):
        await client.apply([budget(id="a", replaces="b")])
    with pytest.raises(InvalidReplaces, match="a → b → a"):
        await client.apply([budget(id="a", replaces="b"), budget(id="b", replaces="a")])

    assert await client.budgets() == {}


async def test_a_subscription_tells_what_is_there_and_then_each_change(
    settings: Settings, client: SpendmeterClient
) -> None:
    kafka = producer(settings)
    await kafka.start()

    async def tell(account: str, version: int, revision: int = 1) -> None:
        record = encode_signal(signal(account, version, revision))
        await kafka.send_and_wait(settings.topic(Topic.SIGNALS), key=record.key, value=record.value)

    await tell("a|key=1", 1)
    await tell("b|key=1", 1)
    heard = []
    async with asyncio.timeout(WITHIN_SECONDS), aclosing(client.subscribe("a")) as signals:
        async for one in signals:
            heard.append((one.account, one.version))
            if one.version == 1:
                # Neither another budget's nor an earlier one is heard.
                await tell("b|key=1", 2)
                await tell("a|key=1", 3)
                await tell("a|key=1", 2)
                await tell("a|key=1", 4)
            if one.version == 4:
                break
    await kafka.stop()

    assert (heard[0], heard[-1]) == (("a|key=1", 1), ("a|key=1", 4))
    # A slow listener may miss what was overtaken.
    assert set(heard) <= {("a|key=1", n) for n in (1, 3, 4)}
    assert heard == sorted(heard)


async def test_a_subscription_to_an_account_hears_no_other(
    settings: Settings, client: SpendmeterClient
) -> None:
    kafka = producer(settings)
    await kafka.start()
    for account in ("a|key=1", "a|key=2"):
        record = encode_signal(signal(account, 1, 1))
        await kafka.send_and_wait(settings.topic(Topic.SIGNALS), key=record.key, value=record.value)
    await kafka.stop()

    async with asyncio.timeout(WITHIN_SECONDS), aclosing(client.subscribe(account="a|key=2")) as signals:
        assert (await anext(signals)).account == "a|key=2"


def signal(account: str, version: int, revision: int) -> Signal:
    return Signal(
        budget_id=budget_id_of(account),
        account=account,
        subject={"key": "1"},
        window_start=NOON,
        window_end=None,
        limit_nanousd=NanoUsd(10),
        spent_nanousd=NanoUsd(version),
        state=State.OK,
        watermark={0: version},
        revision=revision,
        version=version,
        emitted_at=NOON,
    )


async def test_what_is_not_there_cannot_be_changed(client: SpendmeterClient) -> None:
    for change in (
        client.get("x"),
        client.set_limit("x", NanoUsd(1)),
        client.reset("x"),
        client.remove("x"),
        client.pause("x"),
    ):
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
