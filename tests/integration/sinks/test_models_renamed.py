"""Models have got one name: every open window keeps what it had, on the real broker and the real engine."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.topics.create import create_topics
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.reconcile.run import reconcile
from spendmeter_sinks.reconcile.scope import WindowFilter
from tests.builders import budget, usage
from tests.integration.sinks.test_opening_balance import SinkProcess
from tests.integration.stream.conftest import Worker, open_stream

EARLIER = str(Path(__file__).with_name("earlier_models.py"))
# As the router logs it, and as a pass-through route does.
NAMES = ("openai/gpt-4o", "gpt-4o")
EACH, OLD = "each|model=gpt-4o", "each|model=openai%2Fgpt-4o"
NAMED, GLOB, KEYS = "named|model=openai%2Fgpt-4o", "glob|model=openai%2F%2A", "keys|key=k1"
BUDGETS = [
    budget(id="each", match={"model": "*"}, period="lifetime"),
    budget(id="named", match={"model": "openai/gpt-4o"}, period="month"),
    budget(id="glob", match={"model": "openai/*"}, period="lifetime"),
    budget(id="keys", match={"key": "*"}, period="lifetime"),
]


class EarlierWorker(Worker):
    command = (EARLIER, "spendmeter_stream")


class EarlierSink(SinkProcess):
    command = (EARLIER, "spendmeter_sinks")


class Sent:
    """What was sent, by the name of its model."""

    def __init__(self) -> None:
        self.seq = 0
        self.nanousd = dict.fromkeys(NAMES, 0)

    @property
    def all_nanousd(self) -> int:
        return sum(self.nanousd.values())

    def make(self, name: str, cost: int, key: str = "k1") -> UsageEvent:
        self.seq += 1
        self.nanousd[name] += cost
        now = datetime.now(UTC)
        return usage(
            self.seq, cost, event_id=uuid4(), model=name, provider="openai", key=key, occurred_at=now,
            started_at=now,
        )  # fmt: skip


def latest(signals: list[Signal]) -> dict[str, int]:
    """What each account is said to have spent, once nothing of it is missing."""
    held: dict[str, Signal] = {}
    for signal in signals:
        if signal.account not in held or signal.order() >= held[signal.account].order():
            held[signal.account] = signal
    return {account: signal.spent_nanousd for account, signal in held.items() if not signal.opening}


@pytest.fixture
async def settings(kafka: str, clickhouse: str) -> SinkSettings:
    name = f"t{uuid4().hex[:12]}"
    made = SinkSettings(
        kafka_bootstrap=kafka, clickhouse_url=clickhouse, topic_prefix=f"{name}.", clickhouse_database=name
    )
    await create_topics(made)
    server = open_client(made, database=None)
    migrate(server, name)
    server.close()
    return made


@pytest.fixture
def processes() -> Iterator[list[Worker | SinkProcess]]:
    running: list[Worker | SinkProcess] = []
    yield running
    for process in running:
        process.kill()


async def test_every_open_window_keeps_what_it_had_to_the_nano_dollar(
    settings: SinkSettings, processes: list[Worker | SinkProcess], tmp_path: Path
) -> None:
    sent = Sent()
    processes += [EarlierWorker(settings, tmp_path, "w"), EarlierSink(settings, tmp_path / "earlier.log")]
    for process in processes:
        process.wait_ready()
    async with open_stream(settings) as stream:
        await stream.client.apply(BUDGETS)
        await stream.send(sent.make(NAMES[n % 2], 1_000_003 + n, key=f"k{n % 3}") for n in range(40))
        before = {
            OLD: sent.nanousd["openai/gpt-4o"],
            EACH: sent.nanousd["gpt-4o"],
            NAMED: sent.nanousd["openai/gpt-4o"],
            GLOB: sent.nanousd["openai/gpt-4o"],
        }
        signals = await stream.until(Topic.SIGNALS, lambda said: before.items() <= latest(said).items())
        of_key = latest(signals)[KEYS]

        for process in processes:
            process.kill()
        later: list[Worker | SinkProcess] = [
            Worker(settings, tmp_path, "w"),
            SinkProcess(settings, tmp_path / "sink.log"),
        ]
        processes += later
        for process in later:
            process.wait_ready()

        kept = dict.fromkeys((EACH, NAMED, GLOB), sent.all_nanousd) | {OLD: 0, KEYS: of_key}
        await stream.until(Topic.SIGNALS, lambda said: kept.items() <= latest(said).items())

        # And goes on under the one name, whichever an event has.
        await stream.send(sent.make(NAMES[n % 2], 7 + n, key="k3") for n in range(10))
        then = dict.fromkeys((EACH, NAMED, GLOB), sent.all_nanousd) | {OLD: 0, KEYS: of_key}
        await stream.until(Topic.SIGNALS, lambda said: then.items() <= latest(said).items())
    history = open_client(settings, settings.clickhouse_database)
    try:
        report = await reconcile(settings, history, WindowFilter(), datetime.now(UTC), 60.0, 1.0)
    finally:
        history.close()
    assert report.equal, report
