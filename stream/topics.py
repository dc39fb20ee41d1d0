"""The worker's topics: as its settings say they are, or it does not start."""

import logging
from collections.abc import Mapping

from spendmeter.contract.topics import PARTITIONED
from spendmeter.runtime.create_topics import create, partitions_of
from spendmeter.runtime.supported import warning_of_kafka
from stream.changelog import JUDGE_TABLE, METER_TABLE
from stream.settings import StreamSettings

log = logging.getLogger(__name__)

# A tombstone must outlive every worker that may still have to read it; values are small and many.
_CHANGELOG = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "21600000"}


class WrongTopics(Exception):
    """A worker would work wrongly on these topics; the message says what to do."""


async def prepare(settings: StreamSettings) -> None:
    """Look at the topics, and make the changelogs.

    Raises:
        WrongTopics: one is missing, which Faust would ignore for ever, or has other partitions than is said.
        aiokafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    warning = await warning_of_kafka(settings)
    if warning:
        log.warning(warning)
    sources = [settings.topic(topic) for topic in PARTITIONED]
    changelogs = [settings.changelog(table) for table in (METER_TABLE, JUDGE_TABLE)]
    there = await partitions_of(settings, [*sources, *changelogs])
    missing = [name for name in sources if name not in there]
    if missing:
        raise WrongTopics(
            f"there is no topic {', '.join(missing)};"
            " create it with `python -m spendmeter.runtime.create_topics`"
        )
    _refuse_others(there, settings.partitions)
    await create(settings, dict.fromkeys(changelogs, (settings.partitions, _CHANGELOG)))


def _refuse_others(there: Mapping[str, int], wanted: int) -> None:
    """All that an account leads to must meet in partitions of one number."""
    others = [f"{name} has {partitions}" for name, partitions in there.items() if partitions != wanted]
    if others:
        raise WrongTopics(
            f"SPENDMETER_PARTITIONS is {wanted}, but {', '.join(others)};"
            " give every worker the number that the topics were created with. It cannot be changed later"
        )
