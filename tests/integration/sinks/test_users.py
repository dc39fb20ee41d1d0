"""deploy/clickhouse/users.sql, run: each process works with the grants of its user, and with nothing more.

The engine of the tests knows one user and no CREATE USER, so that one gets the grants of each in turn, as the
file has them; the engine enforces them. What the file says beside that is held to ClickHouse's own parser.
"""

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4
from xml.sax.saxutils import escape

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, Error

from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.history.names import EMAIL, NAMED, names_of_ids
from spendmeter.history.reconciles import (
    ReconcileOutcome,
    ReconcileRun,
    differences_said,
    last_equal,
    last_reconcile,
    note_reconcile,
)
from spendmeter.runtime import clickhouse as connection
from spendmeter_doctor.checks.history import check_history
from spendmeter_doctor.system import Process, System
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate, migrations
from spendmeter_sinks.reconcile.connection import reading, writing
from spendmeter_sinks.reconcile.history import History as RecountedHistory
from spendmeter_sinks.watch import run_log
from spendmeter_sinks.watch.gateways import read_activity
from spendmeter_sinks.watch.settings import WatchSettings
from tests.builders import usage
from tests.integration.cli.conftest import spendmeter
from tests.integration.sinks.conftest import Put
from tests.integration.sinks.test_outages import sink_of
from tests.patience import WITHIN_SECONDS

FILE = Path(__file__).parents[3] / "deploy" / "clickhouse" / "users.sql"
ENGINE = """
import sys
from pathlib import Path
from spendmeter_local.clickhouse import engine
engine.GRANTS = Path(sys.argv.pop(1))
engine.ONE_INSERT_IS_ONE_BLOCK = {}  # a user who only reads may set nothing
from spendmeter_local.clickhouse.__main__ import main
main()
"""
READERS = ("spend_reconcile", "spend_query", "spend_console")
VIEWS = (
    *("events", "by_hour", "by_day", "by_team_day", "by_key_day", "by_model_day"),
    *("by_team_model_day", "by_team_model_hour", "by_key_between", "entries"),
    *("budgets_now", "accounts_now", "refusals", "alerts_once", "deliveries_now"),
)
OF_DAYS = {"by_key_between": "(first_day = toDate('2026-11-01'), days_end = toDate('2026-11-02'))"}
"""What a view wants to know."""
EVERYTHING = "everything"


def statements() -> list[str]:
    uncommented = re.sub(r"(?m)^--.*$", "", FILE.read_text())
    return [" ".join(one.split()) for one in uncommented.split(";") if one.strip()]


def grants_of(user: str) -> list[str]:
    found = [re.fullmatch(rf"(GRANT .*) TO {user}", one) for one in statements()]
    return [one.group(1) for one in found if one]


def profile_of(user: str) -> dict[str, str]:
    if user == EVERYTHING:
        return {}
    [made] = [one for one in statements() if one.startswith(f"CREATE USER IF NOT EXISTS {user} ")]
    named = re.search(r"SETTINGS PROFILE '(\w+)'", made)
    if named is None:
        return {}
    [profile] = [
        one for one in statements() if one.startswith(f"CREATE SETTINGS PROFILE IF NOT EXISTS {named[1]} ")
    ]
    return {name: value.strip("'") for name, value in re.findall(r"(\w+) = ('\w+'|\d+)", profile)}


@contextmanager
def engine_for(user: str, data: Path) -> Iterator[str]:
    """URL of the engine on `data`, on which every request is that user's."""
    tags = "".join(f"<{name}>{value}</{name}>" for name, value in profile_of(user).items())
    # Where a connection begins; the local front says USE, which a server does not.
    granted = ["GRANT ALL ON *.*"] if user == EVERYTHING else grants_of(user)
    grants, owner = (
        "".join(f"<query>{escape(grant)}</query>" for grant in of)
        for of in (["GRANT SHOW DATABASES ON default.*", *granted], grants_of("spend_migrate"))
    )
    users = data.with_name("users.xml")
    users.write_text(
        f"<clickhouse><profiles><default>{tags}</default></profiles><quotas><default/></quotas><users><default>"
        "<password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
        f"<grants>{grants}</grants></default><spend_migrate><no_password/><profile>default</profile>"
        f"<quota>default</quota><grants>{owner}</grants></spend_migrate></users></clickhouse>"
    )
    port, log = free_port(), data.with_name(f"{user}.log")
    command = [sys.executable, "-c", ENGINE, str(users), "--path", str(data), "--port", str(port)]
    child = start_child(command, log=log, env={"SPENDMETER_CLICKHOUSE_PASSWORD": user})
    try:
        address = f"{LOOPBACK}:{port}"
        ready = wait_until(lambda: http_answers(f"http://{address}/ping"), timeout_seconds=WITHIN_SECONDS)
        assert ready, log.read_text()
        yield f"http://default:{user}@{address}"
    finally:
        kill_child(child)


def refuses(client: Client, *changes: str) -> None:
    for change in changes:
        with pytest.raises(DatabaseError, match=r"ACCESS_DENIED|READONLY"):
            client.command(change)


async def test_each_process_works_with_its_own_grants_and_nothing_more(
    settings: SinkSettings, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"clickhouse_database": "spend"})
    data = tmp_path / "data"

    with engine_for("spend_migrate", data) as url:
        client = open_client(settings.model_copy(update={"clickhouse_url": url}), database=None)
        assert migrate(client, "spend") == [migration.name for migration in migrations()]
        refuses(client, "DROP TABLE usage", "ALTER TABLE usage DELETE WHERE 1", "CREATE DATABASE another")
        client.close()

    with engine_for("spend_sink", data) as url:
        ours = settings.model_copy(update={"clickhouse_url": url})
        await put(Topic.USAGE, [encode_usage(usage(n, occurred_at=datetime.now(UTC))) for n in (1, 2)])
        stop = asyncio.Event()
        sink = asyncio.create_task(sink_of(ours).run(stop))
        client = await asyncio.to_thread(open_client, ours, None)
        assert await asyncio.to_thread(
            wait_until,
            lambda: sink.done() or client.command("SELECT count() FROM spend.usage") == 2,
            timeout_seconds=WITHIN_SECONDS,
        )
        stop.set()
        await sink
        # What an opening balance is added up with.
        with connection.reader(ours) as reader:
            assert reader.command("SELECT sum(cost_nanousd) FROM usage FINAL") == 2_000
        refuses(
            client,
            "DROP TABLE spend.usage",
            "TRUNCATE TABLE spend.usage",
            "ALTER TABLE spend.usage DELETE WHERE 1",
            "ALTER TABLE spend.usage DROP PARTITION 202611",
            "CREATE TABLE spend.more (a UInt8) ENGINE = MergeTree ORDER BY a",
        )
        client.close()

    for user in READERS[:2]:  # the console has what people have: see below
        with engine_for(user, data) as url:
            ours = settings.model_copy(update={"clickhouse_url": url})
            monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", url)
            monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", "spend")
            assert "0.000002000" in spendmeter("query", "SELECT sum(cost_usd) FROM usage_once")
            assert "k1" in spendmeter("top", "--once")
            assert "nobody has been refused yet" in spendmeter("explain", exit_code=1)
            with connection.reader(ours) as client:
                for process, missing in ((Process.SINK, ["clickhouse-grants"]), (Process.PEOPLE, [])):
                    found = check_history(System(ours, frozenset({process})))
                    assert [one.code for one in found] == missing
                    assert all("GRANT SELECT, INSERT ON spend.*" in one.fix for one in found)
                history = RecountedHistory(client, settings.topic(Topic.USAGE))
                assert history.count({0: 1}) == (2, 2_000)
                assert (list(history.letters()), history.revisions()) == ([], [])
                assert (history.gaps(["p1"]), history.conflicts(["p1"])) == ({}, [])
                refuses(
                    client,
                    "INSERT INTO usage (key) VALUES ('k')",
                    "DROP TABLE usage",
                    "ALTER TABLE usage DELETE WHERE 1",
                    "SELECT 1 SETTINGS max_execution_time = 0",
                    "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
                )


def test_the_watcher_remembers_its_runs_and_writes_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with engine_for(EVERYTHING, data) as url:
        client = open_client(SinkSettings(clickhouse_url=url), database=None)
        migrate(client, "spend")
        client.close()
    with engine_for("spend_watch", data) as url:
        ours = WatchSettings(clickhouse_url=url)
        now = datetime.now(UTC)
        run_log.prepare(ours)
        run_log.note_run(ours, "drift", now, now, 1)
        assert run_log.last_run(ours, "drift") == now
        with reading(ours) as client:
            assert (run_log.published(client, [uuid4()]), read_activity(client, now)) == (set(), [])
        with writing(ours) as client:
            run = ReconcileRun(now, 1, ReconcileOutcome.EQUAL, "equal", "watch")
            note_reconcile(client, run)
            assert last_reconcile(client) == run._replace(found=[])
            assert differences_said(client, last_equal(client)) == frozenset()
            refuses(client, "INSERT INTO usage (key) VALUES ('k')", "DROP TABLE reconciles")


async def test_who_may_read_the_views_needs_no_right_to_the_tables(
    settings: SinkSettings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"clickhouse_database": "spend"})
    data = tmp_path / "data"
    with engine_for(EVERYTHING, data) as url:
        client = open_client(settings.model_copy(update={"clickhouse_url": url}), database=None)
        migrate(client, "spend")
        # As if that user had made them: the engine of the tests has one user, who is whoever asks.
        for view in VIEWS:
            client.command(f"ALTER TABLE {view} MODIFY SQL SECURITY DEFINER DEFINER = spend_migrate")
        client.command(
            "INSERT INTO usage (occurred_at, key, key_alias, cost_usd)"
            " VALUES ('2026-11-01', 'k1', 'laptop', 3)"
        )
        client.close()
    with (
        engine_for("spend_relay", data) as url,
        connection.reader(settings.model_copy(update={"clickhouse_url": url})) as client,
    ):
        ids = [(dimension, "x") for dimension in (*NAMED, EMAIL)]
        assert names_of_ids(client, [*ids, ("key", "k1")], date(2026, 11, 1)) == {("key", "k1"): "laptop"}
        refuses(client, "SELECT spent_usd FROM by_key_day", "SELECT key FROM events", "SELECT key FROM usage")
    with (
        engine_for("spend_grafana", data) as url,
        connection.reader(settings.model_copy(update={"clickhouse_url": url})) as client,
    ):
        for view in VIEWS:
            client.query(f"SELECT * FROM {view}{OF_DAYS.get(view, '')}")
        for view in ("by_team_day", f"by_key_between{OF_DAYS['by_key_between']}"):
            assert client.command(f"SELECT sum(spent_usd) FROM {view}") == 3
        refuses(client, "SELECT * FROM usage", "SELECT * FROM signals", "SELECT * FROM usage_hours")


def test_every_statement_of_the_file_is_one_that_clickhouse_understands(clickhouse: str) -> None:
    client = connection.client(SinkSettings(clickhouse_url=clickhouse), database=None)
    for statement in statements():
        try:
            client.command("SELECT formatQuerySingleLine({sql:String})", parameters={"sql": statement})
        except Error as error:
            pytest.fail(f"{statement}: {error}")
    client.close()
    users = {one.split()[5] for one in statements() if one.startswith("CREATE USER")}
    assert users == {
        "spend_migrate",
        "spend_sink",
        "spend_views",
        "spend_grafana",
        "spend_relay",
        "spend_watch",
        *READERS,
    }
    for user in ("spend_views", "spend_grafana"):
        assert grants_of(user) == [f"GRANT SELECT ON spend.{view}" for view in VIEWS]
    # The engine of the tests has no such constraints; ClickHouse's own configuration allows them.
    assert "max_execution_time = 60 MAX 120 CHANGEABLE_IN_READONLY" in FILE.read_text()
    assert profile_of("spend_grafana") == profile_of("spend_relay") == profile_of("spend_query")
    assert all(profile_of(user)["readonly"] == "1" for user in READERS)
    people, console = READERS[1:]
    assert (grants_of(people), profile_of(people)) == (grants_of(console), profile_of(console))
