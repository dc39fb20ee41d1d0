"""Who takes part, in the order in which they run."""

import json
import os
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from aiokafka.structs import ConsumerRecord

from bench.stream import build, meter
from bench.stream.contender import Contender, Start
from bench.stream.job import Spent
from bench.stream.place import Place
from bench.stream.results import differences, read_topic
from spendmeter.topics.create import create
from spendmeter.values.times import to_unix_us
from spendmeter_local.kafka.broker import find_java

_HOUR_MS = 3_600_000
_PROGRAMS = "bench.stream.programs"


async def _begin_plain(place: Place, name: str) -> Start:
    group = f"{name}-{os.getpid()}"
    command = [sys.executable, "-m", f"{_PROGRAMS}.plain_consume", place.topic, group, str(place.count)]
    return Start(command, group, {"BOOTSTRAP": place.bootstrap})


def _text(log: Path) -> str:
    return log.read_text(errors="replace")


async def _check_plain(place: Place, start: Start, log: Path) -> str | None:
    said = f"read {place.count} records, {place.bytes_loaded} bytes"
    return None if said in _text(log) else f"did not say {said!r}"


async def _begin_faust(place: Place, name: str) -> Start:
    group = f"{name}-{os.getpid()}"
    program = [
        sys.executable,
        "-m",
        f"{_PROGRAMS}.stock_faust",
        "worker",
        "--loglevel",
        "warn",
        "--without-web",
    ]
    env = {"BOOTSTRAP": place.bootstrap, "GROUP": group, "TOPIC": place.topic}
    return Start(program, group, {**env, "FAUST_DATADIR": str(place.directory / name)})


async def _check_faust(place: Place, start: Start, log: Path) -> str | None:
    found: dict[Spent, int] = {}

    def take(record: ConsumerRecord) -> None:
        key, _, hour = json.loads(record.key).partition("|")
        at = datetime.fromisoformat(f"{hour}:00:00").replace(tzinfo=UTC)
        found[Spent(key, to_unix_us(at))] = json.loads(record.value)

    await read_topic(place.settings, f"{start.group}-totals-changelog", place.settings.partitions, take)
    return differences(found, place.sums.by_key_and_hour)


def _streams(name: str, store: str, title: str) -> Contender:
    async def begin(place: Place, run: str) -> Start:
        application = f"{run}-{os.getpid()}"
        result = _streams_result(application)
        await create(place.settings, {result: (place.settings.partitions, {"cleanup.policy": "compact"})})
        state = str(place.directory / application)
        arguments = [place.bootstrap, place.topic, result, application, state, store]
        java = [str(find_java()), "-Xmx1g", "-cp", build.CLASSPATH.read_text(), "HourlyTotals"]
        return Start([*java, *arguments], application)

    return Contender(name, title, begin, _check_streams, build=build.kafka_streams)


def _streams_result(application: str) -> str:
    return f"{application}-result"


async def _check_streams(place: Place, start: Start, log: Path) -> str | None:
    found: dict[Spent, int] = {}

    def take(record: ConsumerRecord) -> None:
        key, _, began_ms = record.key.decode().partition("|")
        found[Spent(key, int(began_ms) * 1000)] = int(record.value)

    await read_topic(place.settings, _streams_result(start.group), place.settings.partitions, take)
    return differences(found, place.sums.by_key_and_hour)


async def _begin_quix(place: Place, name: str) -> Start:
    group = f"{name}-{os.getpid()}"
    program = Path(__file__).parent / "programs" / "quix_totals.py"
    state = str(place.directory / group)
    return Start(
        [str(build.QUIX / "bin" / "python"), str(program), place.bootstrap, place.topic, group, state], group
    )


async def _check_quix(place: Place, start: Start, log: Path) -> str | None:
    found: dict[Spent, int] = {}

    def take(record: ConsumerRecord) -> None:
        # `key|start|end`, both times eight bytes; records of another shape are its own bookkeeping.
        parts = record.key[:-18], record.key[-18:-17], record.key[-17:-9]
        if record.value is not None and len(record.key) > 18 and parts[1] == b"|":
            began_ms = int.from_bytes(parts[2], "big")
            found[Spent(parts[0].decode(), began_ms * 1000)] = json.loads(record.value)

    store = f"totals_tumbling_window_{_HOUR_MS}_sum"
    changelog = f"changelog__{start.group}--{place.topic}--{store}"
    await read_topic(place.settings, changelog, place.settings.partitions, take)
    return differences(found, place.sums.by_key_and_hour)


CONTENDERS = (
    Contender(
        "plain",
        "plain consume, nothing decoded",
        _begin_plain,
        _check_plain,
        build=lambda: f"aiokafka {version('aiokafka')}",
        note="the limit for a consumer in Python",
    ),
    _streams("streams", "rocksdb", "Kafka Streams, RocksDB"),
    _streams("streams-memory", "memory", "Kafka Streams, in memory"),
    meter.contender("spendmeter", "spendmeter, one budget per event", meter.ONE),
    meter.contender(
        "spendmeter-all",
        "spendmeter, three budgets per event",
        meter.THREE,
        note="three windowed totals per event instead of one",
    ),
    Contender(
        "quix",
        "Quix Streams, tumbling window",
        _begin_quix,
        _check_quix,
        build=build.quix,
        share_of_events=0.2,
        note="publishes no totals: that would be a record per event; the result is read from its changelog",
    ),
    Contender(
        "faust",
        "stock Faust, `table[key] += …`",
        _begin_faust,
        _check_faust,
        build=lambda: f"faust-streaming {version('faust-streaming')}",
        share_of_events=0.02,
    ),
)
