"""Budgets and signals written to the real broker before a gateway starts."""

from collections.abc import Iterable
from itertools import islice

from bench.gateway.world import budgets, signals
from spendmeter.contract.records import Record, encode_budget, encode_signal
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import partition_of, producer
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter_stream.output_writer import ProducerRecord, publish

RECORDS_AT_ONCE = 5_000


async def fill(settings: Settings, budget_count: int, accounts: int) -> None:
    """Create the topics under the settings' prefix and put so many budgets and live signals there."""
    await create_topics(settings)
    made: Iterable[tuple[Topic, int, Record]] = (
        # What the signals include.
        *((Topic.USAGE, partition, Record(b"", b"{}", [])) for partition in range(settings.partitions)),
        *((Topic.BUDGETS, 0, encode_budget(budget)) for budget in budgets(budget_count)),
        *(
            (Topic.SIGNALS, partition_of(signal.account, settings.partitions), encode_signal(signal))
            for signal in signals(accounts)
        ),
    )
    kafka = producer(settings)
    await kafka.start()
    try:
        left = iter(made)
        while batch := list(islice(left, RECORDS_AT_ONCE)):
            await publish(kafka, [ProducerRecord(settings.topic(t), p, *record) for t, p, record in batch])
    finally:
        await kafka.stop()
