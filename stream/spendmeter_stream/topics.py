"""The worker's topics: if they differ from its settings, it does not start."""

import asyncio
import logging

from spendmeter.contract.topics import PARTITIONED, Topic
from spendmeter.runtime.supported import warning_of_kafka
from spendmeter.topics.check import check_topics
from spendmeter.topics.create import create, partitions_of
from spendmeter.topics.state import WATCH_EVERY_SECONDS, Said, TopicState
from spendmeter_stream.settings import StreamSettings
from spendmeter_stream.state import JUDGE_TABLE, METER_TABLE

log = logging.getLogger(__name__)

# A tombstone must outlive every worker that may still have to read it; values are small and many.
_CHANGELOG = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "21600000"}
USED = (*PARTITIONED, Topic.OPENINGS, Topic.BUDGETS, Topic.ALERTS, Topic.DEAD_LETTERS)
"""What a worker reads and writes."""


class WrongTopics(Exception):
    """A worker would work wrongly on these topics; the message says what to do."""


async def prepare(settings: StreamSettings) -> dict[str, TopicState]:
    """Check the topics and create the changelogs; returns the state of the topics.

    Raises:
        WrongTopics: a topic is wrong, or is missing, which Faust would ignore for ever.
        aiokafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    unsupported = await warning_of_kafka(settings)
    if unsupported:
        log.warning(unsupported)
    checked = await check_topics(settings, USED)
    for warning in checked.warnings:
        log.warning("%s", warning)
    if checked.fatal:
        raise WrongTopics(checked.fatal)
    changelogs = [settings.changelog(table) for table in (METER_TABLE, JUDGE_TABLE)]
    there = await partitions_of(settings, changelogs)
    if others := [f"{name} has {n} partitions" for name, n in there.items() if n != settings.partitions]:
        raise WrongTopics(
            f"SPENDMETER_PARTITIONS is {settings.partitions}, but {', '.join(others)}: the stream's state has"
            " that many. Give every worker the number with which the topics were created. For more"
            " partitions, `spendmeter move --to-prefix NEW --partitions N`"
        )
    await create(settings, dict.fromkeys(changelogs, (settings.partitions, _CHANGELOG)))
    return checked.states


async def prepared(settings: StreamSettings) -> dict[str, TopicState]:
    """Like `prepare`, but wait while the topics are wrong, and say so: if it ended, it would be restarted.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    said = Said(log)
    while True:
        try:
            return await prepare(settings)
        except WrongTopics as wrong:
            said.say(f"not ready, nothing is counted: {wrong}")
        await asyncio.sleep(WATCH_EVERY_SECONDS)
