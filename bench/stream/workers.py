"""One worker and two: how much more two do, and for how long signals pause while one joins or is killed.

Part one: a backlog on four partitions, from the moment that all workers are ready to its end. Part two: a
steady trickle with every account close to its limit, where each change is told; the gaps between the signals
of a partition, as a reader sees them. Run: python -m bench.stream.workers
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from subprocess import Popen
from time import monotonic

import click
from aiokafka.admin import AIOKafkaAdminClient

from bench.broker import NotReadyError, running_broker
from bench.latency import share
from bench.machine import describe
from bench.output import OUTPUT, tell
from bench.stream.job import events, key_name
from bench.stream.measure import admin, committed
from bench.stream.meter import KEY_HOUR, forget
from bench.stream.place import Place, load
from spendmeter.client import connect
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import consumer, partition_of, producer
from spendmeter_local.children import kill_child, start_child, stop_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import says_ready
from spendmeter_stream.settings import StreamSettings

READY_WITHIN_SECONDS = STALLED_SECONDS = 120
POLL_SECONDS, STOP_SECONDS = 0.1, 20
EVENTS_PER_SECOND = 400
PHASE_SECONDS = 15.0
SESSION_SECONDS = 6
"""How long the group waits for a worker that was killed."""
# Every signal is told from 80 % of the limit on: this one is reached by the first event.
TRICKLE = KEY_HOUR.model_copy(update={"limit_nanousd": NanoUsd(1), "period": "lifetime"})


class Workers:
    """Processes of one group; all are ended at the end."""

    def __init__(self, settings: StreamSettings, children: ExitStack) -> None:
        self._settings, self._children = settings, children
        self._started = 0

    async def start(self) -> tuple[Popen[bytes], Callable[[], Awaitable[None]]]:
        """A new one, and how to wait until it is ready."""
        self._started += 1
        name, port = f"workers-{self._started}", free_port()
        env = {
            **os.environ,
            "SPENDMETER_KAFKA_BOOTSTRAP": self._settings.kafka_bootstrap,
            "SPENDMETER_TOPIC_PREFIX": self._settings.topic_prefix,
            "SPENDMETER_DATA_DIR": str(OUTPUT / "runs" / name),
            "SPENDMETER_METRICS_PORT": str(port),
            "SPENDMETER_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
        }
        child = start_child(
            [sys.executable, "-m", "spendmeter_stream"], log=OUTPUT / "runs" / f"{name}.log", env=env
        )
        # Asked to leave: the group would wait for it, and refuse the next run's offsets meanwhile.
        self._children.callback(partial(stop_child, child, grace_seconds=STOP_SECONDS))
        return child, partial(_until_ready, f"http://{LOOPBACK}:{port}/metrics")


async def _until_ready(url: str) -> None:
    until = monotonic() + READY_WITHIN_SECONDS
    while not says_ready(url):
        if monotonic() > until:
            raise NotReadyError(f"no worker at {url}")
        await asyncio.sleep(POLL_SECONDS)


async def backlog_rate(place: Place, workers: int) -> float:
    """Events per second that so many workers do together, once all are ready. Raises NotReadyError."""
    settings = StreamSettings(kafka_bootstrap=place.bootstrap, topic_prefix=place.prefix)
    await forget(place, settings)
    async with connect(settings, by="bench") as client:
        await client.apply([KEY_HOUR])
    with ExitStack() as children:
        group = Workers(settings, children)
        started = [await group.start() for _ in range(workers)]
        for _, is_ready in started:
            await is_ready()
        async with admin(place) as asked:
            first, began, done, seen_at = await _done(asked, settings, place), monotonic(), 0, monotonic()
            while done < place.count:
                await asyncio.sleep(POLL_SECONDS)
                now = await _done(asked, settings, place)
                if now > done:
                    done, seen_at = now, monotonic()
                elif monotonic() - seen_at > STALLED_SECONDS:
                    raise NotReadyError(f"{workers} workers stopped at {done} of {place.count}")
            return (done - first) / (seen_at - began)


async def _done(asked: AIOKafkaAdminClient, settings: StreamSettings, place: Place) -> int:
    offsets = await committed(asked, settings.app_id)
    return sum(offset for tp, offset in offsets.items() if tp.topic == place.topic)


class Watch:
    """When signals came, by partition."""

    def __init__(self) -> None:
        self._came: dict[int, list[float]] = {}

    async def read(self, settings: StreamSettings) -> None:
        reader = consumer(settings)
        reader.subscribe([settings.topic(Topic.SIGNALS)])
        await reader.start()
        try:
            while True:
                for tp, records in (await reader.getmany(timeout_ms=100)).items():
                    if records:
                        self._came.setdefault(tp.partition, []).append(monotonic())
        finally:
            await reader.stop()

    def gaps_ms(self, since: float) -> list[float]:
        """Between signals of a partition, of those that ended since then; longest last."""
        gaps = [
            (after - before) * 1000
            for came in self._came.values()
            for before, after in pairwise(came)
            if after >= since
        ]
        return sorted(gaps)


async def trickle(settings: StreamSettings) -> None:
    """Append events at a steady rate until cancelled."""
    kafka, topic = producer(settings), settings.topic(Topic.USAGE)
    await kafka.start()
    try:
        due = monotonic()
        for number, event in enumerate(events(10**9, datetime.now(UTC))):
            now = datetime.now(UTC)
            key = key_name(number % 64)
            told = event.model_copy(update={"key": key, "occurred_at": now, "started_at": now})
            record = encode_usage(told)
            at = partition_of(key, settings.partitions)
            await kafka.send(topic, record.value, record.key, at, headers=record.headers)
            due += 1 / EVENTS_PER_SECOND
            await asyncio.sleep(max(due - monotonic(), 0))
    finally:
        await kafka.stop()


async def pauses(bootstrap: str) -> list[tuple[str, list[float]]]:
    """The gaps while nothing happens, while a second worker joins, and after it is killed."""
    settings = StreamSettings(kafka_bootstrap=bootstrap, topic_prefix="pauses.")
    place = Place(bootstrap, 0)
    await forget(place, settings)
    async with connect(settings, by="bench") as client:
        await client.apply([TRICKLE])
    watch, found = Watch(), []
    with ExitStack() as children:
        group = Workers(settings, children)
        await (await group.start())[1]()
        running = [asyncio.ensure_future(task) for task in (watch.read(settings), trickle(settings))]
        await asyncio.sleep(PHASE_SECONDS / 3)
        since = monotonic()
        await asyncio.sleep(PHASE_SECONDS)
        found.append(("nothing happens", watch.gaps_ms(since)))
        since = monotonic()
        second, is_ready = await group.start()
        await is_ready()
        await asyncio.sleep(PHASE_SECONDS / 3)
        found.append(("a second worker joins", watch.gaps_ms(since)))
        since = monotonic()
        kill_child(second)
        await asyncio.sleep(SESSION_SECONDS + PHASE_SECONDS)
        found.append((f"it is killed (session of {SESSION_SECONDS} s)", watch.gaps_ms(since)))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return found


@click.command()
@click.option("--events", "event_count", default=300_000, show_default=True)
def main(event_count: int) -> None:
    """Measure both; writes .spendmeter/bench/workers.md."""
    lines = ["## Stream: one worker and two", "", *(f"- {fact}" for fact in describe()), ""]
    lines += ["| workers | events/s | beside one |", "|---:|---:|---:|"]
    with running_broker("workers") as broker:
        place = asyncio.run(load(broker.bootstrap, event_count))
        one = 0.0
        for workers in (1, 2):
            rate = asyncio.run(backlog_rate(place, workers))
            one = one or rate
            lines.append(f"| {workers} | {rate:,.0f} | {rate / one:.2f} |")
        lines += ["", f"Gaps between signals of a partition, at {EVENTS_PER_SECOND} events/s, ms:", ""]
        lines += ["| while | p50 | p99 | longest |", "|---|---:|---:|---:|"]
        for what, gaps in asyncio.run(pauses(broker.bootstrap)):
            lines.append(f"| {what} | {share(gaps, 0.5):.0f} | {share(gaps, 0.99):.0f} | {gaps[-1]:,.0f} |")
    told = "\n".join(lines) + "\n"
    tell("workers.md", told)


if __name__ == "__main__":
    main()
