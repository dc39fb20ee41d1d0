"""The embedded broker is an ordinary Kafka."""

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic


async def test_what_was_produced_is_consumed_in_order(kafka: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}orders"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(
        bootstrap_servers=kafka, enable_idempotence=True, compression_type="lz4"
    ) as producer:
        for number in range(100):
            await producer.send(topic, str(number).encode())
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
        seen = [int((await consumer.getone()).value) for _ in range(100)]
    assert seen == list(range(100))
