"""`spendmeter correct` and `void` on a live system: stream, history, gateway and reconciler agree."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.contract.alert import AlertKind
from spendmeter.contract.signal import State
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.matching import Subject
from spendmeter.history.usage import find_event, find_recorded
from spendmeter.values.ids import uuid7
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.model import Caller
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.probes import wait_until
from tests.builders import budget, usage
from tests.integration.cli.conftest import spendmeter, spendmeter_json
from tests.integration.sinks.test_reconcile import System, running_system
from tests.patience import WITHIN_SECONDS


@pytest.fixture(scope="module")
def system(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(kafka, clickhouse, tmp_path_factory.mktemp("corrected")) as running:
        yield running


@pytest.fixture(autouse=True)
def found_by_the_commands(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in system.env().items():
        monkeypatch.setenv(name, value)


def request(key: str, cost_nanousd: int = 1_000_000, **fields: Any) -> UsageEvent:
    now = datetime.now(UTC)
    given = {"event_id": uuid7(int(now.timestamp() * 1000)), "key": key, "producer_id": f"gateway of {key}"}
    return usage(1, cost_nanousd, **{"occurred_at": now, "started_at": now, **given, **fields})


def in_history(system: System, event_id: UUID) -> bool:
    return find_event(system.history, system.settings.topic(Topic.USAGE), event_id) is not None


async def eventually(condition: Callable[[], bool]) -> bool:
    return await asyncio.to_thread(wait_until, condition, timeout_seconds=WITHIN_SECONDS)


async def says(*arguments: str, exit_code: int = 0) -> str:
    """What the command prints; in a thread, because it has a loop of its own."""
    return await asyncio.to_thread(spendmeter, *arguments, exit_code=exit_code)


async def says_json(*arguments: str) -> Any:
    return await asyncio.to_thread(spendmeter_json, *arguments)


async def recorded(system: System, event: UsageEvent, **of_budget: Any) -> None:
    """The event is in the totals and in history."""
    key = event.key
    async with system.stream() as stream:
        await stream.client.apply([budget(id=f"of-{key}", match={"key": key}, **of_budget)])
        await stream.send([event])
        await stream.until(
            Topic.SIGNALS, lambda found: any(s.account == f"of-{key}|key={key}" for s in found)
        )

    assert await eventually(lambda: in_history(system, event.event_id))


def net(client: Client, key: str) -> list[tuple[str, int]]:
    rows = client.query(
        f"SELECT toString(net_usd), corrections FROM usage_net WHERE key = '{key}'"
    ).result_rows
    return [(str(usd), int(times)) for usd, times in rows]


async def test_a_correction_reopens_an_account_at_the_gateway_and_history_adds_up(
    system: System, tmp_path: Path
) -> None:
    event = request("reopened")
    await recorded(system, event)
    settings = GatewaySettings(
        kafka_bootstrap=system.settings.kafka_bootstrap,
        topic_prefix=system.settings.topic_prefix,
        data_dir=tmp_path,
        gateway="g9",
        start_wait_ms=15_000,
    )
    gateway = Gateway(settings)
    gateway.start()
    try:
        caller = Caller(Subject(key="reopened"), "reopened")
        assert await gateway.admit(caller) is not None, "the budget is spent"

        told = await says_json("correct", str(event.event_id), "--cost-usd", "0.0004", "--reason", "refund")
        assert (told["cost_before_usd"], told["cost_usd"], told["in_history"]) == ("0.001", "0.0004", True)
        assert told["sent"]["cost_nanousd"] == -600_000
        assert await eventually(lambda: asyncio.run(gateway.admit(caller)) is None), "admitted again"
    finally:
        await asyncio.to_thread(gateway.stop)

    async with system.stream() as stream:
        account = "of-reopened|key=reopened"
        signals = [s for s in await stream.read(Topic.SIGNALS) if s.account == account]
        assert (signals[-1].state, signals[-1].spent_nanousd) == (State.OK, 400_000)
        alerts = [a for a in await stream.read(Topic.ALERTS) if a.signal and a.signal.account == account]
        assert [a.kind for a in alerts] == [AlertKind.THRESHOLD, AlertKind.EXCEEDED, AlertKind.RECOVERED]
    assert net(system.history, "reopened") == [("0.0004", 1)]
    ((kind, reason, by),) = system.history.query(
        f"SELECT kind, reason, recorded_by FROM usage_once WHERE corrects = '{event.event_id}'"
    ).result_rows
    assert (kind, reason) == ("correction", "refund")
    assert by
    report = await system.compare()
    assert report.equal, report.model_dump_json(indent=2)


async def test_corrections_follow_one_another_until_nothing_is_left_to_do(system: System) -> None:
    event = request("often")
    await recorded(system, event)
    event_id = str(event.event_id)
    commands = [
        ("correct", event_id, "--cost-usd", "0.002", "--reason", "the provider charged more"),
        ("correct", event_id, "--cost-usd", "0.0015", "--reason", "but gave some back"),
        ("void", event_id, "--reason", "and then all"),
    ]
    told = [await says_json(*arguments) for arguments in commands]
    assert [t["cost_usd"] for t in told] == ["0.002", "0.0015", "0"]
    assert [t["sent"]["seq"] for t in told] == [1, 2, 3]
    assert "nothing to do" in await says(*commands[-1])
    assert net(system.history, "often") == [("0", 3)]
    async with system.stream() as stream:
        assert (await stream.spent())["of-often|key=often"] == 0


async def test_of_two_corrections_made_at_once_the_first_counts_everywhere_and_the_other_is_told(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = request("raced")
    await recorded(system, event)
    stale = find_recorded(system.history, system.settings.topic(Topic.USAGE), event.event_id)
    await says("correct", str(event.event_id), "--cost-usd", "0.0003", "--reason", "first")

    monkeypatch.setattr("spendmeter.cli.correct.find_recorded", lambda *_: stale)
    told = await says("void", str(event.event_id), "--reason", "second", exit_code=1)
    assert "at the same moment, and that counts" in told
    again = await says_json("correct", str(event.event_id), "--cost-usd", "0.0003", "--reason", "first")
    assert again["in_history"], "the same once more is the same event"

    assert net(system.history, "raced") == [("0.0003", 1)]
    report = await system.compare()
    assert report.equal, report.model_dump_json(indent=2)
    async with system.stream() as stream:
        assert (await stream.spent())["of-raced|key=raced"] == 300_000


async def test_an_unpriced_request_counts_its_flat_amount_until_its_cost_is_known(system: System) -> None:
    event = request("flat", 0, cost_source=CostSource.UNPRICED)
    await recorded(system, event, unpriced="0.01")
    async with system.stream() as stream:
        assert (await stream.spent())["of-flat|key=flat"] == 10_000_000
        await says("correct", str(event.event_id), "--cost-usd", "0.0002", "--reason", "from the invoice")
        report = await system.compare()
        assert report.equal, report.model_dump_json(indent=2)
        assert (await stream.spent())["of-flat|key=flat"] == 200_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("void", str(uuid4()), "--reason", "r"), "history has no event"),
        (("void", "nonsense", "--reason", "r"), "not a valid UUID"),
        (("void", str(uuid4()), "--reason", "  "), "say why"),
        (("correct", str(uuid4()), "--cost-usd", "-1", "--reason", "r"), "below 0"),
        (("correct", str(uuid4()), "--cost-usd", "lots", "--reason", "r"), "not a decimal number"),
    ],
)
def test_what_cannot_be_corrected_is_told(system: System, arguments: tuple[str, ...], words: str) -> None:
    exit_code = 1 if words == "history has no event" else 2
    assert words in spendmeter(*arguments, exit_code=exit_code)


async def test_a_correction_is_not_corrected_itself(system: System) -> None:
    event = request("twice-removed")
    await recorded(system, event)
    told = await says_json("void", str(event.event_id), "--reason", "r")
    words = await says("void", told["sent"]["event_id"], "--reason", "r", exit_code=1)
    assert f"is a void of {event.event_id}; name that one" in words
