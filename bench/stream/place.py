"""Where a contender finds its work: the topics of one size of the job, loaded once for all of them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from aiokafka import TopicPartition

from bench.output import OUTPUT
from bench.stream.job import Sums, events
from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import consumer, partition_of, producer
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter_stream.output_writer import ProducerRecord, publish

RECORDS_AT_ONCE = 5_000


@dataclass
class Place:
    """One loaded topic, and what is known about it."""

    bootstrap: str
    count: int
    sums: Sums = field(default_factory=Sums)
    bytes_loaded: int = 0
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    """The offset after the last record of each partition."""

    @property
    def prefix(self) -> str:
        return f"bench-{self.count}."

    @property
    def settings(self) -> Settings:
        return Settings(kafka_bootstrap=self.bootstrap, topic_prefix=self.prefix, component="bench")

    @property
    def topic(self) -> str:
        return self.settings.topic(Topic.USAGE)

    @property
    def directory(self) -> Path:
        return OUTPUT / "runs"


async def load(bootstrap: str, count: int) -> Place:
    """Create the topics of that size and append its events, as gateways write them."""
    place = Place(bootstrap, count)
    settings, topic = place.settings, place.topic  # read once: they are made of the environment anew
    await create_topics(settings)
    kafka = producer(settings)
    await kafka.start()
    try:
        made = events(count, datetime.now(UTC))
        while batch := list(islice(made, RECORDS_AT_ONCE)):
            records = []
            for event in batch:
                place.sums.add(event)
                record = encode_usage(event)
                place.bytes_loaded += len(record.value)
                partition = partition_of(event.key, settings.partitions)
                records.append(ProducerRecord(topic, partition, *record))
            await publish(kafka, records)
    finally:
        await kafka.stop()
    place.ends = await ends_of(settings, place.topic)
    return place


async def ends_of(settings: Settings, topic: str) -> dict[TopicPartition, int]:
    """The offset after the last record of each partition of a topic now."""
    reader = consumer(settings)
    await reader.start()
    try:
        found: dict[TopicPartition, int] = await reader.end_offsets(
            [TopicPartition(topic, p) for p in range(settings.partitions)]
        )
        return found
    finally:
        await reader.stop()
