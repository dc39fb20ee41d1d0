"""Messages say names where history has them, and ids where it has none, is away or hangs. The real engine."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from spendmeter.cli.alerts import follow_alerts
from spendmeter.contract.alert import Alert
from spendmeter.contract.records import encode_budget, encode_signal
from spendmeter.contract.topics import Topic
from spendmeter.history.name_lookup import NameLookup
from spendmeter.kafka.client import producer
from spendmeter.runtime import clickhouse as connection
from spendmeter.settings import ClickHouseSettings
from spendmeter_sinks.alerts.routes import Service
from spendmeter_sinks.alerts.settings import AlertSettings
from spendmeter_sinks.database.migrate import migrate
from tests.alerts import alert, webhook
from tests.builders import budget
from tests.integration.alerts.conftest import Put, Running
from tests.integration.alerts.receiver import HttpServer
from tests.integration.cli.conftest import spendmeter
from tests.patience import WITHIN_SECONDS

KEY, OTHER = "ab" * 32, "cd" * 32
MESSAGE = f"key-day: key {KEY} has spent its budget (50 of 50 USD)"


@pytest.fixture(scope="module")
def history(clickhouse: str) -> Iterator[dict[str, str]]:
    """Settings of a history in which a key, a user and a team have names."""
    database = f"t{uuid4().hex[:12]}"
    client = connection.client(
        ClickHouseSettings(clickhouse_url=clickhouse, clickhouse_database=database), database=None
    )
    migrate(client, database)
    row = {
        "event_id": uuid4(),
        "kind": "usage",
        "occurred_at": datetime.now(UTC),
        "key": KEY,
        "key_alias": "ann's notebook",
        "user": "u1",
        "user_email": "ann@example.com",
        "team": "t1",
        "team_alias": "Search",
    }
    client.insert("usage", [[*row.values()]], column_names=[*row])
    yield {"clickhouse_url": clickhouse, "clickhouse_database": database}
    client.close()


@pytest.fixture
async def address(request: pytest.FixtureRequest, clickhouse: str) -> AsyncIterator[str]:
    """Of history; of one that is away or hangs where the test wants that."""
    wanted = getattr(request, "param", "")
    if wanted != "hangs":
        yield "http://127.0.0.1:9" if wanted == "is away" else clickhouse
        return
    ends = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ends.wait()
        writer.close()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    ends.set()
    silent.close()


@pytest.fixture
async def settings(
    settings: AlertSettings, history: dict[str, str], address: str, clickhouse: str
) -> AlertSettings:
    # However busy the machine is: only where nothing answers is the wait itself the matter.
    within = AlertSettings().alerts_names_within_seconds if address != clickhouse else 10
    update = {**history, "clickhouse_url": address, "alerts_names_within_seconds": within}
    return settings.model_copy(update=update)


def of(key: str, number: int = 0) -> Alert:
    return alert(number=number, budget="key-day", message=MESSAGE.replace(KEY, key), key=key)


async def test_a_message_says_names_and_a_receiver_of_litellms_has_them_in_its_fields(
    server: HttpServer, put: Put, running: Running
) -> None:
    routes = [
        webhook(server.url, "own", goes_on=True),
        webhook(server.url, "litellm", Service.LITELLM),
    ]
    async with running(routes):
        await put([alert(budget="key-day", message=MESSAGE, key=KEY, team="t1", user="u1"), of(OTHER)])
        await server.until_accepted(4)

    bodies = [json.loads(one.body) for one in server.requests]
    own = [one["data"] for one in bodies if "data" in one]
    assert sorted(one["title"] for one in own) == [
        "Budget spent: key ann's notebook, team Search, user ann@example.com",
        f"Budget spent: key {OTHER[:8]}…",
    ]
    # As it is on the topic.
    assert {one["alerts"][0]["message"] for one in own} == {MESSAGE, MESSAGE.replace(KEY, OTHER)}
    assert sorted(
        (one["token"], one["key_alias"], one["team_alias"], one["user_email"])
        for one in bodies
        if "token" in one
    ) == [(KEY, "ann's notebook", "Search", "ann@example.com"), (OTHER, None, None, None)]


@pytest.mark.parametrize("address", ["is away", "hangs"], indirect=True)
async def test_no_message_waits_for_a_history_that_does_not_answer(
    server: HttpServer, put: Put, running: Running
) -> None:
    async with running([webhook(server.url)]):
        await put([of(KEY, number) for number in range(3)])
        await server.until_accepted(3)

    titles = [json.loads(one.body)["data"]["title"] for one in server.requests]
    assert titles == [f"Budget spent: key {KEY[:8]}…"] * 3


@pytest.fixture
def environment(settings: AlertSettings, monkeypatch: pytest.MonkeyPatch) -> AlertSettings:
    for name in ("kafka_bootstrap", "topic_prefix", "clickhouse_url", "clickhouse_database"):
        monkeypatch.setenv(f"SPENDMETER_{name.upper()}", getattr(settings, name))
    return settings


async def test_commands_say_names_and_with_wide_ids(
    environment: AlertSettings, server: HttpServer, put: Put, running: Running
) -> None:
    async with running([webhook(server.url)]):
        await put([of(KEY)])
        await server.until_accepted(1)
    limit = budget(id="key-day", match={"key": "*"}, period="lifetime")
    signal = of(KEY).signal
    assert signal is not None
    window = datetime(1970, 1, 1, tzinfo=UTC)
    kafka = producer(environment)
    await kafka.start()
    for topic, record in (
        (Topic.BUDGETS, encode_budget(limit)),
        (
            Topic.SIGNALS,
            encode_signal(signal.model_copy(update={"window_start": window, "window_end": None})),
        ),
    ):
        await kafka.send_and_wait(environment.topic(topic), **record._asdict())
    await kafka.stop()

    for command in (["alerts"], ["alerts", "log"], ["budget", "show", "key-day"]):
        by_name = await asyncio.to_thread(spendmeter, *command)
        by_id = await asyncio.to_thread(spendmeter, *command, "--wide")
        assert "ann's notebook" in by_name, command
        assert KEY[:8] not in by_name, command
        assert KEY in re.sub(r"\s", "", by_id), command
        assert "ann's notebook" not in by_id, command


async def test_who_follows_sees_names(
    settings: AlertSettings, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = ""

    async def until_printed(text: str) -> None:
        nonlocal printed
        while text not in printed:
            assert not following.done(), following
            await asyncio.sleep(0.02)
            printed += capsys.readouterr().out

    lookup = NameLookup(settings, settings.alerts_names_within_seconds)
    following = asyncio.create_task(follow_alerts(settings, lookup, as_json=False, wide=False))
    async with asyncio.timeout(WITHIN_SECONDS):
        await put([of(KEY)])
        await until_printed("key ann's notebook has spent its budget")
        await put([of(OTHER)])
        await until_printed(f"key {OTHER[:8]}… has spent its budget")
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
