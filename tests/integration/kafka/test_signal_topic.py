"""spend.signals in memory, on the real broker: the highest of each account, whatever order they come in."""

from datetime import timedelta
from itertools import permutations

from spendmeter.contract.records import encode_signal
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import producer
from spendmeter.settings import Settings
from spendmeter.topics.signals import REFUSED, SignalTopic
from tests.builders import NOON, signal


async def publish(settings: Settings, *records: tuple[bytes, bytes | None]) -> dict[str, Signal]:
    """Put records on spend.signals, then read it whole."""
    async with producer(settings) as kafka:
        for key, value in records:
            await kafka.send_and_wait(settings.topic(Topic.SIGNALS), key=key, value=value)
    topic = SignalTopic(settings)
    await topic.read_to_end()
    return topic.signals


def record(of: Signal) -> tuple[bytes, bytes]:
    encoded = encode_signal(of)
    return encoded.key, encoded.value


async def test_the_highest_of_each_account_is_kept_whatever_order_they_come_in(settings: Settings) -> None:
    rising = [
        signal(version=9),
        signal(window_start=NOON + timedelta(days=1), window_end=None, version=1),
        signal(revision=2, version=0),
    ]
    records = [
        record(one.model_copy(update={"account": f"b|key=k{n}"}))
        for n, order in enumerate(permutations(rising))
        for one in order
    ]

    kept = await publish(settings, *records)

    assert len(kept) == 6
    assert {one.order() for one in kept.values()} == {rising[2].order()}


async def test_a_tombstone_takes_an_account_out(settings: Settings) -> None:
    kept = await publish(
        settings, record(signal()), record(signal(account="b|key=k2")), (b"b|key=k1", None), (b"nobody", None)
    )

    assert kept == {"b|key=k2": signal(account="b|key=k2")}


async def test_what_is_no_signal_of_its_account_is_ignored_and_counted(settings: Settings) -> None:
    before = REFUSED._value.get()
    key, value = record(signal())

    kept = await publish(settings, (key, value), (key, b"not json"), (b"b|key=k2", value), (b"\xff", value))

    assert kept == {"b|key=k1": signal()}
    assert REFUSED._value.get() - before == 3
