"""An upgrade from our last release: today's processes go on from all that it left, to the nano-dollar."""

import asyncio
import json
import shutil
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from spendmeter.contract.alert import Alert
from spendmeter.contract.budget import Budget
from spendmeter.contract.dead_letter import DeadLetter
from spendmeter.contract.decision import Decision
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import Opening, Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import Wire
from spendmeter.topics.create import create_topics
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.reconcile.run import reconcile
from spendmeter_sinks.reconcile.scope import WindowFilter
from spendmeter_stream.state import check_entry
from tests.builders import usage
from tests.integration.sinks.test_models_renamed import latest
from tests.integration.sinks.test_opening_balance import SinkProcess
from tests.integration.stream.conftest import Worker, open_stream
from tests.versions.earlier import GOLDEN, PARTITIONS, PREFIX, Earlier

LAST = Earlier(GOLDEN / "0.1.0")
MODELS: dict[str, type[Wire]] = {
    Topic.USAGE: UsageEvent,
    Topic.TOTALS: Total,
    Topic.OPENINGS: Opening,
    Topic.BUDGETS: Budget,
    Topic.SIGNALS: Signal,
    Topic.ALERTS: Alert,
    Topic.DECISIONS: Decision,
    Topic.DEAD_LETTERS: DeadLetter,
}
CHANGELOGS = {"spend-stream-meter-changelog": "meter", "spend-stream-judge-changelog": "judge"}
# As the last release logged a model, and what it is called since.
ONE_NAME = {
    "openai/gpt-4o-mini": "gpt-4o-mini",
    "openai/gpt-4o": "gpt-4o",
    "anthropic/claude-sonnet-4-5": "claude-sonnet-4-5",
}
UNSENT_NANOUSD = [1_000_003, 1_000_004, 1_000_005]


def events() -> list[dict[str, Any]]:
    """Each event that counts, once, in the order of its first copy. Read without any code of ours."""
    found: dict[str, dict[str, Any]] = {}
    for record in LAST.records:
        if record.topic == Topic.USAGE and record.value is not None and record.value.startswith(b'{"'):
            event = json.loads(record.value)
            found.setdefault(event["event_id"], event)
    return list(found.values())


def spent() -> dict[str, int]:
    """What the accounts with a lifetime have spent, by account."""
    sums: dict[str, int] = defaultdict(int)
    for event in events():
        cost, user, model = event["cost_nanousd"], event["user"], event["model"]
        sums["everything|"] += cost
        sums[f"per-key|key={event['key']}"] += cost
        sums[f"late|user={user}"] += cost
        if model in ONE_NAME:
            sums[f"per-model|model={ONE_NAME[model]}"] += cost
        if event["model_group"].startswith("gpt-4o"):
            sums["some-models|model_group=gpt-4o%2A"] += cost
    return dict(sums)


def test_every_kind_of_record_is_there() -> None:
    """What was made is worth reading: one of everything that the release writes."""
    assert {record.topic for record in LAST.records} == {*MODELS, *CHANGELOGS}
    assert {event["kind"] for event in events()} == {"usage", "correction", "void"}
    assert any(event["cost_source"] == "unpriced" for event in events())
    assert any(record.topic == Topic.BUDGETS and record.value is None for record in LAST.records)
    assert any(b'|history"' in (r.key or b"") or b"|history" in (r.key or b"") for r in LAST.records)


@pytest.mark.parametrize("topic", MODELS)
def test_each_record_is_read_as_it_was_written(topic: str) -> None:
    """But for the one that nobody could read."""
    unreadable = []
    for record in LAST.records:
        if record.topic != topic or record.value is None:
            continue
        try:
            value = decode(MODELS[topic], record.value, record.headers)
        except InvalidRecord:
            unreadable.append(record.value)
            continue
        now, then = value.model_dump(mode="json"), json.loads(record.value)
        assert _of_then(now, then) == then
    assert unreadable == ([b"{not json"] if topic == Topic.USAGE else [])


def _of_then(now: Any, then: Any) -> Any:
    """What is read, without the fields that were added since, at any depth."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {name: _of_then(now[name], then[name]) for name in then}
    return now


@pytest.mark.parametrize("topic", CHANGELOGS)
def test_each_entry_of_the_changelogs_is_one(topic: str) -> None:
    entries = [record for record in LAST.records if record.topic == topic]
    assert entries
    for entry in entries:
        check_entry(CHANGELOGS[topic], entry.key, entry.value)


@pytest.fixture
async def settings(kafka: str, clickhouse: str, database: str) -> SinkSettings:
    """The last release's topics and tables, as an operator finds them before the upgrade."""
    settings = SinkSettings(
        kafka_bootstrap=kafka,
        clickhouse_url=clickhouse,
        topic_prefix=PREFIX,
        clickhouse_database=database,
        partitions=PARTITIONS,
        sink_instance="only",
    )
    await LAST.lay_into_kafka(settings)
    server = open_client(settings, database=None)
    LAST.lay_into_clickhouse(server, database)
    server.close()
    return settings


async def test_todays_processes_go_on_from_what_it_left(settings: SinkSettings, tmp_path: Path) -> None:
    """Upgraded as docs/operations.md says: topics, tables, workers and sinks, then a gateway."""
    await create_topics(settings)
    server = open_client(settings, database=None)
    assert migrate(server, settings.clickhouse_database), "the last release had every table"
    server.close()
    worker = Worker(settings, tmp_path, "stream", SPENDMETER_PARTITIONS=str(PARTITIONS))
    sink = SinkProcess(settings, tmp_path / "sink.log")
    expected = spent()
    try:
        worker.wait_ready()
        await asyncio.to_thread(sink.wait_ready)
        async with open_stream(settings) as stream:
            await stream.until(Topic.SIGNALS, lambda said: expected.items() <= latest(said).items())

            await asyncio.to_thread(finish_its_outbox, settings, tmp_path)
            key = next(event["key"] for event in events() if event["user"] == "ann")
            now = datetime.now(UTC)
            more = [
                usage(
                    n, 5_000 + n, event_id=uuid4(), producer_id="today", key=key, user="ann", model="gpt-4o",
                    provider="openai", model_group="gpt-4o", occurred_at=now, started_at=now,
                )
                for n in (1, 2)
            ]  # fmt: skip
            await stream.send(more)
            of_ann, unsent = sum(event.cost_nanousd for event in more), sum(UNSENT_NANOUSD)
            expected["everything|"] += of_ann + unsent
            expected[f"per-key|key={key}"] += of_ann
            expected["per-key|key=k-unsent"] = unsent
            expected["late|user=ann"] += of_ann
            expected["per-model|model=gpt-4o"] += of_ann + unsent
            expected["some-models|model_group=gpt-4o%2A"] += of_ann + unsent
            await stream.until(Topic.SIGNALS, lambda said: expected.items() <= latest(said).items())
        history = open_client(settings, settings.clickhouse_database)
        report = await reconcile(settings, history, WindowFilter(), datetime.now(UTC), 60.0, 1.0)
        assert report.equal, report
        ((kept, rows),) = history.query("SELECT sum(cost_nanousd), count() FROM usage_once").result_rows
        assert (kept, rows) == (expected["everything|"], len(events()) + len(UNSENT_NANOUSD) + len(more))
        history.close()
    finally:
        worker.kill()
        sink.kill()


def finish_its_outbox(settings: SinkSettings, folder: Path) -> None:
    """Today's gateway starts where the last release's was stopped, and ends once everything is sent."""
    data = folder / "gateway"
    shutil.copytree(LAST.outbox, data)
    gateway = Gateway(
        GatewaySettings(
            kafka_bootstrap=settings.kafka_bootstrap,
            topic_prefix=settings.topic_prefix,
            partitions=settings.partitions,
            data_dir=data,
            gateway="g2",
        )
    )
    gateway.start()
    gateway.stop()
    left = [file for file in data.rglob("*.segment") if file.stat().st_size]
    assert left == []


def test_what_it_had_not_sent_is_there() -> None:
    written = b"".join(file.read_bytes() for file in LAST.outbox.rglob("*.segment"))
    for number, cost in enumerate(UNSENT_NANOUSD):
        assert str(UUID(int=0x01A0D000_0000_7000_8000_000000000000 + number)).encode() in written
        assert f'"cost_nanousd":{cost}'.encode() in written
