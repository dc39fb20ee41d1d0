"""Whether history has what Kafka has: what is still on its way would seem never to have been."""

import asyncio

from spendmeter.contract.topics import Topic
from spendmeter.kafka.groups import SINK_GROUP
from spendmeter_sinks.reconcile.kafka_reader import CannotCompare, KafkaReader
from spendmeter_sinks.watch.check import CheckFailed
from spendmeter_sinks.watch.settings import WatchSettings

HISTORY_WITHIN_SECONDS = 60.0


def wait_for_history(settings: WatchSettings, else_said: str) -> None:
    """Return once history has the usage that Kafka has now. Blocking.

    Raises:
        CheckFailed: it does not within a minute; `else_said` is what would be wrong then.
    """
    asyncio.run(_wait(settings, else_said))


async def _wait(settings: WatchSettings, else_said: str) -> None:
    try:
        async with KafkaReader(settings) as kafka:
            ends = await kafka.ends(Topic.USAGE)
            await kafka.wait_until_passed(SINK_GROUP, ends, HISTORY_WITHIN_SECONDS, "history")
    except CannotCompare as error:
        raise CheckFailed(f"{else_said}: {error}") from None
