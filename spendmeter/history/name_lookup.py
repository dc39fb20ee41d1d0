"""Names for people, for work that must not wait for them."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice

from spendmeter.contract.alert import Alert
from spendmeter.history.names import NamedId, Names, ids_in, name_of, names_of_ids
from spendmeter.runtime import clickhouse
from spendmeter.runtime.clickhouse import Client, Unusable
from spendmeter.runtime.threads import in_thread
from spendmeter.settings import ClickHouseSettings
from spendmeter.topics.state import Said
from spendmeter.visible import one_line

log = logging.getLogger(__name__)

FRESH_SECONDS = 600.0
UNNAMED_FRESH_SECONDS = 30.0
"""Of an id without a name: its first spend may still be on its way to history."""
AWAY_SECONDS = 30.0
"""So long history is left alone after it has failed."""
ANSWER_SECONDS = 5
USED_LATELY = timedelta(days=62)
MAX_REMEMBERED = 50_000


class NameLookup:
    """Names of ids, remembered, on one loop. One query at a time.

    Without history there are none, and while it is away those that are remembered: ids are shown then.
    """

    def __init__(self, settings: ClickHouseSettings | None, wait_seconds: float) -> None:
        """`wait_seconds`: the longest wait. An answer that comes later is there for the next who asks."""
        self._settings, self._wait_seconds = settings, wait_seconds
        self._client: Client | None = None
        self._known: OrderedDict[NamedId, tuple[str, float]] = OrderedDict()
        """The name, empty where there is none, and the monotonic time until which it is believed."""
        self._asking: asyncio.Task[None] | None = None
        self._ask_again_at = 0.0
        self._said = Said(log)

    def connect(self) -> None:
        """Begin to connect, so that the first who asks need not wait for that."""
        if self._settings is not None and self._asking is None:
            self._asking = asyncio.create_task(self._ask([]))

    def known(self, ids: Iterable[NamedId]) -> Names:
        """The names of these ids that have been learnt."""
        found = {id_: self._known[id_][0] for id_ in ids if id_ in self._known}
        return {id_: name for id_, name in found.items() if name}

    async def names_of(self, ids: Iterable[NamedId]) -> Names:
        """Learn them, and return the names that are known then."""
        wanted = [*ids]
        await self.learn(wanted)
        return self.known(wanted)

    async def learn(self, ids: Iterable[NamedId]) -> None:
        """Return once history has said the names of these ids, after `wait_seconds` at the latest."""
        wanted = [*islice(dict.fromkeys(ids), MAX_REMEMBERED)]
        end = time.monotonic() + self._wait_seconds
        while (missing := self._missing(wanted)) and (left := end - time.monotonic()) > 0:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask(missing))
            done, _ = await asyncio.wait([self._asking], timeout=left)
            for one in done:
                one.result()

    def _missing(self, ids: Iterable[NamedId]) -> list[NamedId]:
        now = time.monotonic()
        if self._settings is None or now < self._ask_again_at:
            return []
        return [id_ for id_ in ids if id_ not in self._known or self._known[id_][1] <= now]

    async def _ask(self, ids: list[NamedId]) -> None:
        try:
            found = await in_thread(partial(self._query, ids), "names")
        except (Unusable, ValueError) as error:
            self._ask_again_at = time.monotonic() + AWAY_SECONDS
            self._said.say(f"ids are shown instead of names: {error}")
            return
        now = time.monotonic()
        for id_ in ids:
            name = found.get(id_, "")
            self._known[id_] = name, now + (FRESH_SECONDS if name else UNNAMED_FRESH_SECONDS)
            self._known.move_to_end(id_)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    def _query(self, ids: list[NamedId]) -> Names:
        assert self._settings is not None, "without history nothing is missing"
        with clickhouse.raising_unusable(self._settings):
            if self._client is None:
                limited = self._settings.model_copy(update={"query_max_seconds": ANSWER_SECONDS})
                self._client = clickhouse.reader(limited)
            return names_of_ids(self._client, ids, (datetime.now(UTC) - USED_LATELY).date())


def named_message(alert: Alert, names: Names | None) -> str:
    """The alert's message in one line, with the names of whose account it is; None: with ids, whole."""
    subject = alert.signal.subject if alert.signal is not None else {}
    ids = ", ".join(f"{dimension} {id_}" for dimension, id_ in subject.items())
    if names is None or not ids:
        return one_line(alert.message)
    named = ", ".join(f"{dimension} {name_of(dimension, id_, names)}" for dimension, id_ in subject.items())
    return one_line(alert.message.replace(f": {ids} ", f": {named} ", 1))


def ids_of(alerts: Iterable[Alert]) -> list[NamedId]:
    """The ids in alerts that may have a name."""
    return [id_ for alert in alerts for id_ in ids_in(alert.concerns)]
