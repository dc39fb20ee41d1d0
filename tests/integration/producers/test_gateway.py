"""A gateway on the real broker: what is written to the topics is in force there."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from aiokafka import TopicPartition

from spendmeter.contract.budget import Action, Raise
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import decode
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import consumer
from spendmeter.runtime import metrics
from spendmeter.values.ids import uuid7
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_gateway.spend.believed_signals import BEYOND_THE_END
from tests.patience import WITHIN_SECONDS

from .conftest import Asker, Hand, budget, draft, recorded, signal, until


async def test_what_is_on_the_topics_at_the_start_is_enforced_from_the_first_request(
    settings: GatewaySettings, hand: Hand
) -> None:
    of = budget()
    await hand.puts(of)
    await hand.signals(signal(of, 100), signal(of, 99, key="other"))
    gateway = Gateway(settings)
    gateway.start()
    try:
        assert await Asker(gateway).asks() is not None
        assert await Asker(gateway).asks("other") is None
    finally:
        await asyncio.to_thread(gateway.stop)


async def test_a_limit_that_is_reached_refuses_and_a_raise_admits(asker: Asker, hand: Hand) -> None:
    of = budget()
    await hand.puts(of)
    await hand.signals(signal(of, 100))
    await asker.until_refused()

    await hand.puts(budget(limit_nanousd=101, revision=2))
    await asker.until_admitted()

    await hand.signals(signal(of, 101, version=2))
    await asker.until_refused()

    until_then = datetime.now(UTC) + timedelta(hours=1)
    more = Raise(amount_nanousd=NanoUsd(1), until=until_then)
    await hand.puts(budget(limit_nanousd=101, revision=3, raises=[more]))
    await asker.until_admitted()


async def test_a_reset_admits(asker: Asker, hand: Hand) -> None:
    of = budget()
    await hand.puts(of)
    await hand.signals(signal(of, 100))
    await asker.until_refused()

    await hand.puts(budget(reset_at=datetime.now(UTC), revision=2))
    await asker.until_admitted()


@pytest.mark.parametrize("action", [Action.WARN, Action.OBSERVE])
async def test_a_budget_that_no_longer_blocks_admits(asker: Asker, hand: Hand, action: Action) -> None:
    of = budget()
    await hand.puts(of)
    await hand.signals(signal(of, 100))
    await asker.until_refused()

    await hand.puts(budget(action=action, revision=2))
    await asker.until_admitted()


async def test_a_removed_budget_admits(asker: Asker, hand: Hand) -> None:
    of = budget()
    await hand.puts(of)
    await hand.signals(signal(of, 100))
    await asker.until_refused()

    await hand.removes("b")
    await asker.until_admitted()


async def test_the_end_of_a_window_admits_without_a_message(asker: Asker, hand: Hand) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=28)
    of = budget(period="PT30S", starts_at=begun)
    await hand.puts(of)
    await hand.signals(signal(of, 100))
    await asker.until_refused()
    refusal = await asker.asks()
    assert refusal is not None
    assert refusal.headers["retry-after"] in ("1", "2")

    await asker.until_admitted()
    assert datetime.now(UTC) >= begun + timedelta(seconds=30)


async def test_own_spend_counts_before_kafka_and_never_twice(asker: Asker, hand: Hand) -> None:
    of = budget()
    await hand.puts(of)
    await hand.signals(signal(of, 90))
    await asker.has(of)
    await asker.knows(of, 90)
    recorded(asker.gateway, 10)
    assert await asker.asks() is not None, "an own event counts at once"

    await until(lambda: asker.gateway.views.spend.oldest_recorded_seconds() is None, "acknowledged")
    assert asker.known(of) == (100, 0)
    offset = await _last_offset(asker.gateway)
    await hand.signals(signal(of, 95, version=2, watermark=dict([offset])))
    await asker.knows(of, 95)


@pytest.mark.parametrize("beyond", [0, 10**6, 2**62])
async def test_a_signal_with_a_watermark_beyond_the_end_of_the_log_is_not_believed(
    asker: Asker, hand: Hand, caplog: pytest.LogCaptureFixture, beyond: int
) -> None:
    of = budget()
    await hand.puts(of)
    await asker.has(of)
    recorded(asker.gateway, 40)
    await until(lambda: asker.gateway.views.spend.oldest_recorded_seconds() is None, "acknowledged")
    partition, last = await _last_offset(asker.gateway)
    before = BEYOND_THE_END._value.get()

    forged = [{partition: last + 1 + beyond}, {partition: last, 1 - partition: beyond}, {77: beyond}]
    await hand.signals(*(signal(of, 1, version=9 + n, watermark=one) for n, one in enumerate(forged)))
    await asker.caught_up()
    assert asker.known(of) == (40, 0), "what was spent here is not forgotten"

    await hand.signals(signal(of, 45, version=2, watermark={partition: last}))
    await asker.knows(of, 45)
    assert BEYOND_THE_END._value.get() == before + len(forged)
    said = [one for one in caplog.records if "it is ignored" in one.getMessage()]
    assert len(said) == 1, "it is said once"


async def test_signals_of_a_topic_that_was_made_anew_are_not_believed_at_the_start(
    settings: GatewaySettings, hand: Hand
) -> None:
    of = budget()
    await hand.puts(of)
    await hand.signals(signal(of, 100, watermark={0: 41}), signal(of, 99, key="new", watermark={}))
    gateway = Gateway(settings)
    gateway.start()
    try:
        asker = Asker(gateway)
        await asker.caught_up()
        assert asker.known(of) == (0, 0)
        assert asker.known(of, "new") == (99, 0)
        assert await asker.asks() is None
    finally:
        await asyncio.to_thread(gateway.stop)


async def test_signals_of_events_of_others_are_believed_as_soon_as_they_are_stored(
    asker: Asker, hand: Hand
) -> None:
    of = budget(limit_nanousd=1_000)
    await hand.puts(of)
    await asker.has(of)
    for n in range(20):
        await hand.fills({0: 1})
        await hand.signals(signal(of, n, version=n + 1, watermark={0: n}))
        await asker.caught_up()
        assert asker.known(of) == (n, 0)


async def test_an_event_that_a_signal_may_include_waits_for_its_acknowledgement(
    asker: Asker, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acknowledgement is held back until a request waits for it."""
    of = budget()
    await hand.puts(of)
    await asker.has(of)
    held = []
    views = asker.gateway.views
    acknowledged = views.acknowledged
    monkeypatch.setattr(views, "acknowledged", lambda stored, *, resent: held.append((stored, resent)))
    recorded(asker.gateway, 20)
    await until(lambda: held)
    stored = held[0][0]
    await hand.signals(signal(of, 80, watermark={stored.partition: stored.offset}))
    await asker.knows(of, 80, 20)

    asking = asyncio.create_task(asker.asks())
    await until(lambda: views.notifier._waiting, "the request waits")
    acknowledged(stored, resent=False)
    assert await asking is None, "the signal includes it: 80 of 100 are spent"


async def test_where_the_acknowledgement_fails_to_come_the_request_is_admitted_in_time(
    settings: GatewaySettings, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = budget()
    await hand.puts(of)
    gateway = Gateway(settings.model_copy(update={"ack_wait_ms": 50}))
    gateway.start()
    try:
        asker = Asker(gateway)
        await asker.has(of)
        monkeypatch.setattr(gateway.views, "acknowledged", lambda stored, *, resent: None)
        recorded(gateway, 20)
        await hand.fills({0: 1, 1: 1})
        await hand.signals(signal(of, 80, watermark={0: 0, 1: 0}))
        await asker.knows(of, 80, 20)

        assert await asyncio.wait_for(asker.asks(), WITHIN_SECONDS) is None
    finally:
        await asyncio.to_thread(gateway.stop)


async def test_a_stream_that_is_silent_too_long_leaves_us_blind_until_its_next_signal(
    settings: GatewaySettings, hand: Hand
) -> None:
    of = budget()
    await hand.puts(of)
    gateway = Gateway(settings.model_copy(update={"on_stale": "block", "stale_after_seconds": 3.0}))
    gateway.start()
    try:
        asker = Asker(gateway)
        await asker.has(of)
        await hand.signals(signal(of, 10))
        await asker.knows(of, 10)
        recorded(gateway, 20)
        await asker.until_refused()
        refusal = await asker.asks()
        assert refusal is not None
        assert refusal.refuse.why is Why.BLIND

        await hand.signals(signal(of, 30, version=2, watermark=dict([await _last_offset(gateway)])))
        await asker.until_admitted()
    finally:
        await asyncio.to_thread(gateway.stop)


async def test_an_event_that_litellm_logs_twice_is_recorded_once(asker: Asker, hand: Hand) -> None:
    of = budget()
    await hand.puts(of)
    await asker.has(of)
    event_id = uuid7(1)

    assert asker.gateway.record(draft(10, event_id=event_id)) is not None
    assert asker.gateway.record(draft(10, event_id=event_id)) is None
    assert asker.known(of) == (10, 0)


async def test_a_stop_hands_kafka_what_the_outbox_holds(settings: GatewaySettings) -> None:
    gateway = Gateway(settings)
    gateway.start()
    recorded_ids = [recorded(gateway, 1).event_id for _ in range(50)]
    await asyncio.to_thread(gateway.stop)

    assert sorted(await _events(settings)) == sorted(recorded_ids)
    assert metrics.READY.why_not_ready()


async def test_what_a_refusal_rests_on_is_published(
    asker: Asker, hand: Hand, settings: GatewaySettings
) -> None:
    of = budget()
    await hand.puts(of)
    await hand.fills({0: 42, 1: 8})
    await hand.signals(signal(of, 100, watermark={0: 41, 1: 7}))
    await asker.until_refused()
    refusal = await asker.asks()
    assert refusal is not None
    decision = await _decision(settings, refusal.id)

    assert (decision.spent_nanousd, decision.limit_nanousd) == (100, 100)
    assert decision.watermark == {0: 41, 1: 7}
    assert (decision.account, decision.gateway) == ("b|key=k", settings.gateway)


async def _decision(settings: GatewaySettings, decision_id: UUID) -> Decision:
    async with asyncio.timeout(WITHIN_SECONDS), consumer(settings) as reader:
        reader.assign([TopicPartition(settings.topic(Topic.DECISIONS), 0)])
        await reader.seek_to_beginning()
        async for record in reader:
            decision = decode(Decision, record.value, record.headers)
            if decision.decision_id == decision_id:
                return decision
    raise AssertionError("unreachable: the topic has no end")


async def _last_offset(gateway: Gateway) -> tuple[int, int]:
    ends = await _ends(gateway._settings)
    partition, end = next((p, e) for p, e in ends.items() if e)
    return partition.partition, end - 1


async def _ends(settings: GatewaySettings) -> dict[TopicPartition, int]:
    topic = settings.topic(Topic.USAGE)
    async with consumer(settings) as reader:
        partitions = [TopicPartition(topic, p) for p in range(settings.partitions)]
        ends: dict[TopicPartition, int] = await reader.end_offsets(partitions)
    return ends


async def _events(settings: GatewaySettings) -> list[UUID]:
    ends = await _ends(settings)
    found: list[UUID] = []
    async with consumer(settings) as reader:
        reader.assign(list(ends))
        await reader.seek_to_beginning()
        while len(found) < sum(ends.values()):
            for records in (await reader.getmany(timeout_ms=1000)).values():
                found += [decode(UsageEvent, r.value, r.headers).event_id for r in records]
    return found
