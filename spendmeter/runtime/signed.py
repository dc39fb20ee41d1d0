"""Records that people's changes are: sent signed, where there is a key to sign with."""

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from spendmeter.contract.signing import SigningKeys
from spendmeter.runtime.kafka import partition_of_key


async def send_signed(
    kafka: AIOKafkaProducer,
    keys: SigningKeys,
    topic: str,
    key: bytes,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
) -> None:
    """Return once every in-sync replica has the record, in the partition of its key. Raises KafkaError."""
    # A signature names the partition: a copy elsewhere would be somebody else's.
    partition = partition_of_key(key, len(await kafka.partitions_for(topic)))
    signature = keys.sign(topic, partition, key, value, headers)
    await kafka.send_and_wait(
        topic, key=key, value=value, headers=[*headers, *signature], partition=partition
    )
