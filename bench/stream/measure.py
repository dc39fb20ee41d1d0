"""One run of one contender: its time, its processor time, its memory, and whether it was right."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from time import monotonic
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from bench.broker import NotReadyError, RunningBroker
from bench.processes import cpu_seconds, peak_mib
from bench.stream.contender import READY, Contender, Start
from bench.stream.place import Place, ends_of
from spendmeter.kafka.client import connection
from spendmeter_local.children import kill_child, start_child, stop_child
from spendmeter_local.probes import says_ready

READY_WITHIN_SECONDS = 120
STALLED_SECONDS = 120
"""A contender that commits nothing for so long has failed."""
POLL_SECONDS = 0.1
STOP_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment at which a commit was seen."""

    at: float
    committed: int
    cpu: float
    broker_cpu: float


@dataclass
class Run:
    """What one run measured; the properties are per million events where they say so."""

    contender: str
    events: int
    start_seconds: float
    start_cpu: float
    marks: list[Mark] = field(default_factory=list)
    """The first is the moment it was ready, the last its end."""
    peak_mib: float = 0.0
    wrong: str | None = None

    @property
    def events_per_second(self) -> float:
        """From ready to the last commit before the end.

        A worker commits once a second: at the end it waits for its own clock, not for work.
        """
        return _rate(self.marks[0], self._last_busy())

    @property
    def cpu_per_million(self) -> float:
        return self._per_million(self.marks[-1].cpu - self.marks[0].cpu, self.marks[-1].committed)

    @property
    def broker_cpu_per_million(self) -> float:
        return self._per_million(
            self.marks[-1].broker_cpu - self.marks[0].broker_cpu, self.marks[-1].committed
        )

    @property
    def warm_cpu_per_million(self) -> float | None:
        """Of the second half alone, when compilers and caches are warm; None for too short a run."""
        half = next((mark for mark in self.marks if mark.committed >= self.events / 2), self.marks[-1])
        rest = self.events - half.committed
        return self._per_million(self.marks[-1].cpu - half.cpu, rest) if rest > self.events / 10 else None

    def _last_busy(self) -> Mark:
        before = self.marks[-2]
        return before if before.committed >= self.events / 2 else self.marks[-1]

    @staticmethod
    def _per_million(seconds: float, events: int) -> float:
        return seconds / events * 1e6


def _rate(first: Mark, last: Mark) -> float:
    return (last.committed - first.committed) / (last.at - first.at)


async def measure(contender: Contender, place: Place, broker: RunningBroker, name: str) -> Run:
    """Run a contender once from the topic's beginning to its end, and check what it made.

    Raises:
        NotReadyError: it did not come up, ended by itself, or made no progress; with the end of its log.
    """
    start = await contender.begin(place, name)
    log = place.directory / f"{name}.log"
    log.unlink(missing_ok=True)
    began = monotonic()
    with _child(start, log) as child:
        await _until_ready(start, child, log, began)
        ready = Mark(monotonic(), 0, cpu_seconds(child.pid), cpu_seconds(broker.pid))
        run = Run(contender.name, place.count, ready.at - began, ready.cpu, [ready])
        async with admin(place) as asked:
            await _follow(run, start, place, broker, child, asked, log)
        run.peak_mib = peak_mib(child.pid)
        stop_child(child, grace_seconds=STOP_SECONDS)
    run.wrong = await contender.check(place, start, log)
    return run


@contextmanager
def _child(start: Start, log: Path) -> Iterator[Popen[bytes]]:
    child = start_child(start.command, log=log, env=start.env)
    try:
        yield child
    finally:
        kill_child(child)


async def _until_ready(start: Start, child: Popen[bytes], log: Path, began: float) -> None:
    while not (says_ready(start.metrics_url) if start.metrics_url else READY in _text(log)):
        if child.poll() is not None or monotonic() - began > READY_WITHIN_SECONDS:
            raise NotReadyError(f"not ready:\n{_end_of(log)}")
        await asyncio.sleep(POLL_SECONDS / 2)


async def _follow(
    run: Run,
    start: Start,
    place: Place,
    broker: RunningBroker,
    child: Popen[bytes],
    admin: AIOKafkaAdminClient,
    log: Path,
) -> None:
    """Add a mark for each commit until everything is committed."""
    while True:
        offsets = await committed(admin, start.group)
        count = sum(offset for tp, offset in offsets.items() if tp.topic == place.topic)
        done = count >= place.count and await _has_read(start, place, offsets)
        if count > run.marks[-1].committed or done:
            run.marks.append(
                Mark(monotonic(), min(count, place.count), cpu_seconds(child.pid), cpu_seconds(broker.pid))
            )
        if done:
            return
        if child.poll() is not None or monotonic() - run.marks[-1].at > STALLED_SECONDS:
            raise NotReadyError(f"stopped at {count} of {place.count}:\n{_end_of(log)}")
        await asyncio.sleep(POLL_SECONDS)


async def committed(admin: AIOKafkaAdminClient, group: str) -> dict[Any, int]:
    """What a group has committed, by topic and partition."""
    try:
        found = await admin.list_consumer_group_offsets(group)
    except KafkaError:
        # The group is not known before its first commit.
        return {}
    return {tp: committed.offset for tp, committed in found.items() if committed.offset > 0}


async def _has_read(start: Start, place: Place, offsets: Mapping[Any, int]) -> bool:
    if start.also_reads is None:
        return True
    ends = await ends_of(place.settings, start.also_reads)
    return all(offsets.get(tp, 0) >= end for tp, end in ends.items())


@asynccontextmanager
async def admin(place: Place) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client of the place's broker that can ask for a group's offsets."""
    client = AIOKafkaAdminClient(**connection(place.settings))
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def _end_of(log: Path) -> str:
    return _text(log)[-3000:]


def _text(log: Path) -> str:
    return log.read_text(errors="replace")
