"""Topics as they must stay: noticed within seconds when one is made anew, gets more partitions or goes."""

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping
from time import monotonic

from aiokafka.errors import KafkaError

from spendmeter.kafka.client import admin_client, start
from spendmeter.settings import Settings
from spendmeter.topics.state import TopicState, topic_states

log = logging.getLogger(__name__)

WATCH_EVERY_SECONDS = 2.0
SAY_EVERY_SECONDS = 60.0


async def until_changed(
    settings: Settings, names: Collection[str], known: Mapping[str, TopicState]
) -> dict[str, TopicState]:
    """Return once one of these topics is not as it is known: how those that there are are then.

    While Kafka is away nothing is known to have changed.
    """
    while True:
        admin = admin_client(settings)
        try:
            await start(admin)
            while True:
                now = await topic_states(admin._client, names)
                if now != known:
                    return now
                await asyncio.sleep(WATCH_EVERY_SECONDS)
        except KafkaError as error:
            log.debug("cannot ask for topics, trying again: %r", error)
        finally:
            await admin.close()
        await asyncio.sleep(WATCH_EVERY_SECONDS)


def changes(known: Mapping[str, TopicState], now: Mapping[str, TopicState]) -> Iterator[str]:
    """What has become of topics, a clause each, as people read it."""
    for name, before in known.items():
        after = now.get(name)
        if after is None:
            yield f"there is no topic {name} any more"
        elif after.incarnation != before.incarnation:
            ids = f"its id is {after.incarnation}, it was {before.incarnation}"
            yield f"{name} was deleted and made anew: {ids}"
        elif after.partitions != before.partitions:
            yield f"{name} has {after.partitions} partitions, it had {before.partitions}"


class Said:
    """Logs a sentence that an operator must read: at once, and as long as it stays true once a minute."""

    def __init__(self, logger: logging.Logger) -> None:
        self._log = logger
        self._last: tuple[str, float] | None = None

    def say(self, sentence: str) -> None:
        """Say it, unless that was said within the minute."""
        now = monotonic()
        if self._last is None or self._last[0] != sentence or now - self._last[1] >= SAY_EVERY_SECONDS:
            self._last = (sentence, now)
            self._log.error("%s", sentence)
