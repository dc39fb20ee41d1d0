"""How fast the page is at 20 million events and 100,000 accounts, and how soon spend shows on it.

A real broker and engine, a stream worker and `spendmeter web`, each a process of its own. History is
synthetic; its sums are made as the sink makes them, all but those of the last hour. The questions take turns,
and so do the pages. Live is from the send of a usage event to the message that an open page gets.
Run: python -m bench.page
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from shutil import rmtree
from time import perf_counter
from typing import NamedTuple
from zoneinfo import ZoneInfo

import click
import httpx
from playwright.sync_api import sync_playwright

from bench.broker import running_broker
from bench.latency import share, wait_for
from bench.machine import describe, load
from bench.output import OUTPUT, tell
from bench.processes import cpu_seconds
from bench.synthetic_history import engine, events, fill
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd, from_usd
from spendmeter.contract.records import Record, encode_budget, encode_signal, encode_usage
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.window import window_of
from spendmeter.kafka.client import producer
from spendmeter.runtime import clickhouse
from spendmeter.topics.create import create_topics
from spendmeter.values.ids import uuid7
from spendmeter.values.times import TimeSpan
from spendmeter_console.history.queries import Filters, HistoryQueries
from spendmeter_console.history.spans import Interval, midnight
from spendmeter_console.pages.explore import exploration
from spendmeter_console.pages.overview import past_of, present_of
from spendmeter_console.viewer import EVERYTHING
from spendmeter_local.children import start_child, stop_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import says_ready
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.roll_ups.roller import RollUps
from tests.browser import find_browser

DIRECTORY = OUTPUT / "page"
DAYS = 30
DATABASE = "bench"
ZONE = ZoneInfo("Europe/Berlin")
GOAL_MS, GOAL_OF_A_KEY_MS, GOAL_OF_A_PAGE_MS, GOAL_LIVE_MS = 500, 100, 1_500, 1_000
LIVE_TEAM = "live"
QUIET_SECONDS = 1.0
STOP_SECONDS = 20
FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
PAGES = (
    "/",
    "/budgets",
    "/budgets/key-day",
    "/explore?by=team&by=model&range=30d",
    "/explore?by=key&range=7d",
    "/events?range=30d",
    "/refusals?range=30d",
    "/alerts?range=30d",
    "/prices",
    "/health",
)


class Measured(NamedTuple):
    """One thing that was asked many times."""

    name: str
    took_ms: list[float]
    goal_ms: int
    cpu_ms: float | None = None
    """Of the engine's processor, each time: what a busy machine does not change."""

    def line(self) -> str:
        """A row of a table."""
        p50, p95 = share(self.took_ms, 0.5), share(self.took_ms, 0.95)
        cpu = "" if self.cpu_ms is None else f" {self.cpu_ms:,.0f} |"
        return f"| {self.name} | {p50:,.0f} | {p95:,.0f} | {self.goal_ms:,} |{cpu}"


class Asked(NamedTuple):
    name: str
    ask: Callable[[HistoryQueries], object]
    goal_ms: int = GOAL_MS


@click.command()
@click.option("--rows", default=20_000_000, show_default=True)
@click.option("--keys", default=100_000, show_default=True, help="And as many accounts.")
@click.option("--rounds", default=20, show_default=True)
def main(rows: int, keys: int, rounds: int) -> None:
    """Measure the page."""
    lines = describe()
    rmtree(DIRECTORY, ignore_errors=True)
    with engine(DIRECTORY) as (url, pid), running_broker("page") as broker:
        settings = SinkSettings(
            kafka_bootstrap=broker.bootstrap, clickhouse_url=url, clickhouse_database=DATABASE
        )
        now = make_history(settings, rows, keys)
        lines += [
            f"{rows:,} events of {keys:,} keys in {DAYS} days, {keys:,} accounts",
            f"load then: {load()}",
        ]
        lines += ["", "| query | p50 ms | p95 ms | goal | engine's CPU ms |", "|---|---:|---:|---:|---:|"]
        lines += [one.line() for one in measure_queries(settings, pid, now, rounds)]
        asyncio.run(make_accounts(settings, keys))
        with processes(settings) as site:
            lines += ["", "| page, whole | p50 ms | p95 ms | goal |", "|---|---:|---:|---:|"]
            lines += [one.line() for one in measure_pages(site, rounds)]
            lines += ["", "| first content in Chromium | p50 ms | p95 ms | goal |", "|---|---:|---:|---:|"]
            lines += [one.line() for one in measure_first_content(site, rounds)]
            lines += ["", "| live | p50 ms | p95 ms | goal |", "|---|---:|---:|---:|"]
            lines.append(asyncio.run(measure_live(settings, site, rounds)).line())
    rmtree(DIRECTORY, ignore_errors=True)
    tell("page.md", "\n".join(lines))


def make_history(settings: SinkSettings, rows: int, keys: int) -> datetime:
    """Thirty days with their sums, and rows of an hour without; the end of that hour."""
    client = open_client(settings, database=None, timeout_seconds=3_600)
    migrate(client, DATABASE)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    fill(client, hour - timedelta(days=DAYS), DAYS, rows, keys)
    roll_ups = RollUps(settings, lambda: True)
    roll_ups.round()
    roll_ups.round()
    client.command("INSERT INTO usage " + events(hour, 3_600, rows, rows // (DAYS * 24), keys))
    client.close()
    return hour + timedelta(minutes=59)


def measure_queries(settings: SinkSettings, engine_pid: int, now: datetime, rounds: int) -> list[Measured]:
    """Each question of the pages, as the page asks it."""
    client = clickhouse.reader(settings)
    history = HistoryQueries(client, EVERYTHING)
    month = TimeSpan(midnight(now, ZONE, -29), midnight(now, ZONE, 1))
    week = month._replace(start=midnight(now, ZONE, -6))
    today = month._replace(start=midnight(now, ZONE))
    one_key: Filters = {"key": "key-700"}
    asked = (
        Asked("overview: yesterday and the months", lambda h: past_of(h, now, ZONE)),
        Asked("overview: today, all of it", lambda h: present_of(h, now, ZONE)),
        Asked("teams, 30 days", lambda h: h.spend(month, ["team"], {}, 100)),
        Asked("teams and models, 30 days", lambda h: h.spend(month, ["team", "model"], {}, 100)),
        Asked("models by day, 30 days", lambda h: h.series(month, Interval.DAY, ZONE, "model", [], {})),
        Asked("keys, today", lambda h: h.spend(today, ["key"], {}, 100)),
        Asked("keys, 7 days", lambda h: h.spend(week, ["key"], {}, 100)),
        Asked("keys, 30 days", lambda h: h.spend(month, ["key"], {}, 100)),
        Asked("keys of a team, 30 days", lambda h: h.spend(month, ["key"], {"team": "team-7"}, 100)),
        Asked(
            "explore: teams and models with its chart, 30 days",
            lambda h: exploration(h, month, Interval.DAY, ZONE, ["team", "model"], {}, 100, 0),
        ),
        Asked("one key's month", lambda h: h.totals(month, one_key), GOAL_OF_A_KEY_MS),
        Asked(
            "one key's month by model",
            lambda h: h.spend(month, ["model"], one_key, 100),
            GOAL_OF_A_KEY_MS,
        ),
        Asked("the latest hundred events", lambda h: h.events(month, {}, 100)),
        Asked("a key's latest hundred events", lambda h: h.events(month, one_key, 100)),
        Asked("unpriced and doubted, 30 days", lambda h: h.doubted(month)),
        Asked("names of keys, the last minutes", lambda h: h.key_names(now, timedelta(minutes=11))),
        Asked("names of all keys, once an hour", lambda h: h.key_names(now)),
        Asked("health", lambda h: h.health()),
    )
    took: list[list[float]] = [[] for _ in asked]
    cpu = [0.0 for _ in asked]
    for number in range(rounds + 1):
        for n, one in enumerate(asked):
            before = cpu_seconds(engine_pid)
            wall_ms = milliseconds_of(partial(one.ask, history))
            # The first time the engine reads from the disk.
            if number:
                took[n].append(wall_ms)
                cpu[n] += (cpu_seconds(engine_pid) - before) * 1_000 / rounds
    client.close()
    return [
        Measured(one.name, milliseconds, one.goal_ms, cpu_ms)
        for one, milliseconds, cpu_ms in zip(asked, took, cpu, strict=True)
    ]


def measure_pages(site: str, rounds: int) -> list[Measured]:
    """Each page, from the request to the last byte."""
    took: dict[str, list[float]] = {path: [] for path in PAGES}
    with httpx.Client(base_url=site, timeout=60, cookies={"spendmeter_zone": ZONE.key}) as client:

        def get(path: str) -> None:
            client.get(path).raise_for_status()

        for _ in range(rounds + 1):
            for path in PAGES:
                took[path].append(milliseconds_of(lambda path=path: get(path)))
    return [Measured(path, ms[1:], GOAL_OF_A_PAGE_MS) for path, ms in took.items()]


def measure_first_content(site: str, rounds: int) -> list[Measured]:
    """Each page in Chromium, as somebody sees it who was never there: until its first content is painted."""
    took: dict[str, list[float]] = {path: [] for path in PAGES}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        for number in range(rounds + 1):
            for path in PAGES:
                context = browser.new_context(timezone_id=ZONE.key)
                context.add_cookies([{"name": "spendmeter_zone", "value": ZONE.key, "url": site}])
                opened = context.new_page()
                opened.goto(f"{site}{path}")
                painted = opened.wait_for_function(FIRST_PAINT).json_value()
                context.close()
                if number:
                    took[path].append(painted)
        browser.close()
    return [Measured(path, ms, GOAL_OF_A_PAGE_MS) for path, ms in took.items()]


async def measure_live(settings: SinkSettings, site: str, rounds: int) -> Measured:
    """From the send of an event to the message that an open page gets."""
    took, changed, kafka = list[float](), asyncio.Queue[float](), producer(settings)
    await kafka.start()
    following = asyncio.create_task(_follow(site, changed))
    try:
        for seq in range(1, rounds + 2):
            await _wait_quiet(changed)
            record, began = encode_usage(_event(seq)), perf_counter()
            await kafka.send(
                settings.topic(Topic.USAGE), key=record.key, value=record.value, headers=record.headers
            )
            took.append((await changed.get() - began) * 1_000)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await kafka.stop()
    return Measured("from a usage event to an open page", took[1:], GOAL_LIVE_MS)


async def _follow(site: str, changed: asyncio.Queue[float]) -> None:
    """Note when each message comes, the first of all included."""
    async with (
        httpx.AsyncClient(base_url=site, timeout=60) as client,
        client.stream("GET", "/live") as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                changed.put_nowait(perf_counter())


async def _wait_quiet(changed: asyncio.Queue[float]) -> None:
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(QUIET_SECONDS):
                await changed.get()


async def make_accounts(settings: SinkSettings, count: int) -> None:
    """Two budgets, and a signal for each key of one of them."""
    await create_topics(settings)
    now = datetime.now(UTC)
    of_keys = _budget("key-day", {"key": "*"}, now)
    window = window_of(of_keys, now)
    assert window is not None
    kafka = producer(settings)
    await kafka.start()

    async def send(topic: Topic, record: Record) -> None:
        await kafka.send(settings.topic(topic), key=record.key, value=record.value, headers=record.headers)

    try:
        for budget in (of_keys, _budget("live", {"team": LIVE_TEAM}, now)):
            await send(Topic.BUDGETS, encode_budget(budget))
        for n in range(count):
            signal = Signal(
                budget_id=of_keys.id,
                account=f"key-day|key=key-{n}",
                subject={"key": f"key-{n}"},
                window_start=window.start,
                window_end=window.end,
                limit_nanousd=of_keys.limit_nanousd,
                spent_nanousd=NanoUsd(n * 10_000),
                state=State.OK,
                watermark={0: n},
                revision=of_keys.revision,
                version=1,
                emitted_at=now,
            )
            await send(Topic.SIGNALS, encode_signal(signal))
    finally:
        await kafka.stop()


@contextmanager
def processes(settings: SinkSettings) -> Iterator[str]:
    """A stream worker and the page; its address."""
    with ExitStack() as stack:
        port = free_port()
        for module, more in (("spendmeter_stream", {}), ("spendmeter_console", {"WEB_PORT": str(port)})):
            metrics = free_port([port])
            env = {
                "KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
                "CLICKHOUSE_URL": settings.clickhouse_url,
                "CLICKHOUSE_DATABASE": settings.clickhouse_database,
                "METRICS_PORT": str(metrics),
                "DATA_DIR": str(DIRECTORY / module),
                **more,
            }
            child = start_child(
                [sys.executable, "-m", module],
                log=DIRECTORY / f"{module}.log",
                env={**os.environ, **{f"SPENDMETER_{name}": value for name, value in env.items()}},
            )
            stack.callback(stop_child, child, grace_seconds=STOP_SECONDS)
            wait_for(module, partial(says_ready, f"http://{LOOPBACK}:{metrics}/metrics"))
        yield f"http://{LOOPBACK}:{port}"


def _budget(budget_id: str, match: Mapping[str, str], now: datetime) -> Budget:
    fields = {"id": budget_id, "match": match, "limit_nanousd": from_usd("10"), "period": "day"}
    return Budget.model_validate({**fields, "updated_at": now})


def _event(seq: int) -> UsageEvent:
    now = datetime.now(UTC)
    fields = {
        "event_id": uuid7(int(now.timestamp() * 1_000)),
        "producer_id": "bench",
        "seq": seq,
        "occurred_at": now,
        "started_at": now,
        "key": "key-7",
        "team": LIVE_TEAM,
        "model": "gpt-4o-mini",
        "model_group": "gpt-4o-mini",
        "gateway": "g1",
        "cost_nanousd": 1_000,
        "cost_source": CostSource.LITELLM,
    }
    return UsageEvent.model_validate(fields)


def milliseconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = perf_counter()
    work()
    return (perf_counter() - began) * 1_000


if __name__ == "__main__":
    main()
