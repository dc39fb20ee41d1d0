"""What Faust is handed of a changelog: nothing behind what a rebalance threw away."""

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from faust.types import TP
from mode import Service
from mode.utils.queues import FlowControlEvent

from spendmeter_stream.faust.batch_consumer import BatchConsumer

CHANGELOG = TP("meter-changelog", 0)
NEVER = -1


class Standby(Service):  # type: ignore[misc]
    """What the drain asks of the consumer; a rebalance comes with one record and ends with another."""

    def __init__(self, begins: int, ends: int) -> None:
        super().__init__()
        self.flow_active = True
        self.suspend_flow = asyncio.Event()
        self.flow_control = FlowControlEvent(initially_suspended=False)
        self._read_offset: dict[TP, int | None] = defaultdict(lambda: None)
        self.handed: list[int] = []
        self._steps = {begins: self._begin, ends: self._end}

    def _to_message(self, _: TP, record: Any) -> Any:
        if record.offset in self._steps:
            asyncio.get_running_loop().call_soon(self._steps[record.offset])
        return record

    def _begin(self) -> None:
        self.flow_active = False
        self.suspend_flow.set()
        self.flow_control.suspend()

    def _end(self) -> None:
        self.flow_active = True
        self.suspend_flow.clear()
        self.flow_control.resume()

    async def callback(self, record: Any) -> None:
        await self.flow_control.acquire()
        self.handed.append(record.offset)


async def handed(begins: int = NEVER, ends: int = NEVER) -> list[int]:
    standby: Any = Standby(begins, ends)
    records: Any = [SimpleNamespace(offset=offset) for offset in range(9)]
    await asyncio.wait_for(BatchConsumer._hand_to_faust(standby, CHANGELOG, records), 60)
    found: list[int] = standby.handed
    return found


def test_every_record_of_a_changelog_is_handed_on_while_there_is_no_rebalance() -> None:
    assert asyncio.run(handed()) == list(range(9))


def test_no_record_is_handed_on_behind_those_that_a_rebalance_threw_away() -> None:
    # The store would take the last one for all that came before it, and never read the others again.
    assert asyncio.run(handed(begins=3, ends=5)) == [0, 1, 2]
