"""A database is one system's history: another topic prefix is refused, unless that system has moved there."""

import asyncio
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.contract.records import encode_budget, encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.history.spenders import SpendSpan, spend_by
from spendmeter.kafka.client import producer
from spendmeter.topics.create import create_topics
from spendmeter_local.probes import wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.database.owner import OwnedByAnother, claim, owner_of
from spendmeter_sinks.history.incarnations import Registered, UsageIncarnation
from spendmeter_sinks.history.registry import register
from tests.builders import budget, usage
from tests.integration.sinks.conftest import Eventually, Put, Running
from tests.integration.sinks.test_process import COMMAND, environment
from tests.patience import WITHIN_SECONDS


def what_is_said(settings: SinkSettings, log: Path) -> str:
    """By a sink that stays, since it would only be started again, once it has said that it is not ready."""
    with log.open("wb") as output:
        process = subprocess.Popen(COMMAND, env={**os.environ, **environment(settings)}, stderr=output)
    try:
        told = wait_until(lambda: "not ready" in log.read_text(), timeout_seconds=WITHIN_SECONDS)
        assert told, log.read_text()
        assert process.poll() is None
        return log.read_text()
    finally:
        process.kill()
        process.wait()


def of(settings: SinkSettings, prefix: str) -> SinkSettings:
    return settings.model_copy(update={"topic_prefix": prefix})


async def test_two_prefixes_with_one_database_are_never_added_up(
    settings: SinkSettings,
    history: Client,
    running: Running,
    put: Put,
    eventually: Eventually,
    tmp_path: Path,
) -> None:
    other = of(settings, f"other.{settings.topic_prefix}")
    await create_topics(other)
    kafka = producer(other)
    await kafka.start()
    now = datetime.now(UTC)
    for topic, record in (
        (Topic.USAGE, encode_usage(usage(2, occurred_at=now, key="theirs"))),
        (Topic.BUDGETS, encode_budget(budget(id="theirs"))),
    ):
        await kafka.send_and_wait(
            other.topic(topic), key=record.key, value=record.value, headers=record.headers, partition=0
        )
    await kafka.stop()
    await put(Topic.USAGE, [encode_usage(usage(1, occurred_at=now, key="ours"))])
    await put(Topic.BUDGETS, [encode_budget(budget(id="ours"))])
    async with running():
        await eventually("SELECT count() FROM usage", [(1,)])
        await eventually("SELECT id FROM budgets_now", [("ours",)])
        said = await asyncio.to_thread(what_is_said, other, tmp_path / "other.log")
    assert (
        f"not ready, nothing is stored: database {settings.clickhouse_database} belongs to the system with"
        f" SPENDMETER_TOPIC_PREFIX '{settings.topic_prefix}', and this one has '{other.topic_prefix}': set"
        " SPENDMETER_CLICKHOUSE_DATABASE to a database of its own, or correct the prefix;"
        " if this system continues that one, run `spendmeter move`"
    ) in said
    assert "Traceback" not in said
    spenders, _ = spend_by(history, ["key"], SpendSpan(datetime.now(UTC) - timedelta(hours=1)), {}, 10)
    assert [spender.ids for spender in spenders] == [("ours",)]
    assert history.query("SELECT id FROM budgets_now").result_rows == [("ours",)]


async def test_an_existing_database_is_adopted_by_the_first_prefix_that_writes(
    settings: SinkSettings, history: Client, running: Running, put: Put, eventually: Eventually
) -> None:
    # As an upgrade finds it: with rows and without an owner, which `migrate` does not decide.
    history.command(
        "INSERT INTO alerts (alert_id, kind) VALUES ('00000000-0000-0000-0000-000000000001', 'drift')"
    )
    assert migrate(history, settings.clickhouse_database) == []
    assert owner_of(history) is None
    await put(Topic.USAGE, [encode_usage(usage(1))])
    for _ in range(2):
        async with running():
            await eventually("SELECT count() FROM usage", [(1,)])
    assert owner_of(history) == settings.topic_prefix
    assert history.command("SELECT count() FROM owner") == 1


def test_of_many_that_start_at_once_one_gets_the_database(settings: SinkSettings, history: Client) -> None:
    prefixes = [f"{number}." for number in range(16)]

    def start(prefix: str) -> str | None:
        client = open_client(settings, settings.clickhouse_database)
        try:
            claim(client, of(settings, prefix))
        except OwnedByAnother:
            return None
        finally:
            client.close()
        return prefix

    with ThreadPoolExecutor(len(prefixes)) as together:
        got = [prefix for prefix in together.map(start, prefixes) if prefix is not None]
    assert got == [owner_of(history)]
    assert history.command("SELECT count() FROM owner") == 1


def test_a_system_that_goes_on_where_the_owner_stood_may_write(
    settings: SinkSettings, history: Client
) -> None:
    before, after = of(settings, "before."), of(settings, "after.")
    claim(history, before)
    with pytest.raises(
        OwnedByAnother, match=r"SPENDMETER_TOPIC_PREFIX 'before\.', and this one has 'after\.'"
    ):
        claim(history, after)
    moved, stood = (UsageIncarnation(one.topic(Topic.USAGE), one.topic_prefix) for one in (after, before))
    register(history, Registered(moved, follows=stood), by="an operator")
    for one in (before, after):
        claim(history, one)
    with pytest.raises(OwnedByAnother):
        claim(history, of(settings, "another."))
    assert history.command("SELECT count() FROM owner") == 1
