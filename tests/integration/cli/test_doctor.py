"""`spendmeter doctor` beside set-ups that are broken on purpose: it finds each, and nothing in one"
" that is whole."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.admin import CreateAclsRequest
from click.testing import CliRunner

from spendmeter.cli.main import main
from spendmeter.contract.topics import CONFIG, Topic
from spendmeter.kafka.client import connection
from spendmeter.kafka.described import Operation, describe_cluster
from spendmeter.runtime import clickhouse as clickhouse_client
from spendmeter.settings import ClickHouseSettings, Settings
from spendmeter.topics.create import create_topics
from spendmeter_doctor.checks import history
from spendmeter_doctor.checks.kafka import certificate_ends, of_certificate
from spendmeter_doctor.run import diagnose
from spendmeter_doctor.system import Process, System
from spendmeter_sinks.database.migrate import Migration, migrate, migrations
from spendmeter_sinks.database.owner import claim
from tests.certificates import Authority
from tests.patience import WITHIN_SECONDS

from .conftest import Secured

SECRET = "never-printed-5d1c"
CONFIG_TEXT = """\
# ours
model_list:
  - model_name: gpt-4o-mini
    litellm_params:
      model: openai/gpt-4o-mini
      api_key: os.environ/OPENAI_API_KEY
  - model_name: own
    litellm_params:
      model: hosted_vllm/own-7b
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002

litellm_settings:
  callbacks: [prometheus, spendmeter_gateway.callback]
  global_disable_no_log_param: true
"""


class Whole(NamedTuple):
    """A set-up that works: its settings, and a configuration of LiteLLM."""

    env: dict[str, str]
    config: Path
    folder: Path
    undo: list[Callable[[], None]]

    @property
    def settings(self) -> ClickHouseSettings:
        given = {name.lower(): value for name, value in self.env.items()}
        return ClickHouseSettings(**given)  # type: ignore[arg-type]

    def with_config(self, old: str, new: str) -> None:
        """The configuration with something else in it; the old text must be there."""
        assert old in CONFIG_TEXT
        self.config.write_text(CONFIG_TEXT.replace(old, new))


@pytest.fixture(scope="module")
def system(kafka: str, clickhouse: str) -> dict[str, str]:
    """Topics and tables, made once; who breaks them makes their own."""
    name = f"t{uuid4().hex[:12]}"
    env = {
        "KAFKA_BOOTSTRAP": kafka,
        "CLICKHOUSE_URL": clickhouse,
        "CLICKHOUSE_DATABASE": name,
        "TOPIC_PREFIX": f"{name}.",
        "PARTITIONS": "2",
    }
    settings = ClickHouseSettings(**{key.lower(): value for key, value in env.items()})  # type: ignore[arg-type]
    asyncio.run(create_topics(settings))
    with clickhouse_client.client(settings, database=None) as client:
        migrate(client, name)
        claim(client, settings)
    return env


@pytest.fixture
def whole(system: dict[str, str], tmp_path: Path) -> Iterator[Whole]:
    config = tmp_path / "litellm" / "config.yaml"
    config.parent.mkdir()
    config.write_text(CONFIG_TEXT)
    undo: list[Callable[[], None]] = []
    yield Whole({**system, "DATA_DIR": str(tmp_path / "outbox")}, config, tmp_path, undo)
    for one in undo:
        one()


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[dict[str, str]]]]:
    """Run it on a set-up; returns the exit code and the findings, without what it could not check."""

    def run(whole: Whole, *options: str) -> tuple[int, list[dict[str, str]]]:
        for name, value in whole.env.items():
            monkeypatch.setenv(f"SPENDMETER_{name}", value)
        arguments = ["doctor", "--json", "--litellm-config", str(whole.config), *options]
        done = CliRunner().invoke(main, arguments)
        assert SECRET not in done.output
        said: dict[str, Any] = json.loads(done.stdout)
        assert done.exit_code == said["exit_code"], done.output
        return done.exit_code, [one for one in said["findings"] if one["severity"] != "not checked"]

    return run


def test_a_set_up_that_is_whole_has_no_finding(whole: Whole, doctor: Any) -> None:
    assert doctor(whole) == (0, [])


Break = Callable[[Whole], tuple[str, ...] | None]


def env(**settings: str) -> Break:
    """Other settings."""

    def change(whole: Whole) -> None:
        whole.env.update(settings)

    return change


def config(old: str, new: str) -> Break:
    """Another configuration of LiteLLM."""
    return lambda whole: whole.with_config(old, new)


def options(*given: str) -> Break:
    return lambda _: given


def topic_config(topic: Topic, **changed: str) -> Break:
    def change(whole: Whole) -> None:
        values = {name.replace("_", "."): value for name, value in changed.items()}
        asyncio.run(_configure(whole.settings, topic, {**CONFIG[topic], **values}))
        whole.undo.append(lambda: asyncio.run(_configure(whole.settings, topic, CONFIG[topic])))

    return change


async def _configure(settings: Settings, topic: Topic, values: Mapping[str, str]) -> None:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    resource = ConfigResource(ConfigResourceType.TOPIC, settings.topic(topic), dict(values))
    await admin.alter_configs([resource])
    await admin.close()


def a_version_with_one_more_table(whole: Whole) -> None:
    more = [*migrations(), Migration(9999, "9999_more.sql", "CREATE TABLE more")]
    patch = pytest.MonkeyPatch()
    patch.setattr(history, "migrations", lambda: more)
    whole.undo.append(patch.undo)


def tables_that_another_version_changed(whole: Whole) -> None:
    first, *others = migrations()
    patch = pytest.MonkeyPatch()
    patch.setattr(history, "migrations", lambda: [replace(first, sql="SELECT 1"), *others])
    whole.undo.append(patch.undo)


def a_file_where_the_outbox_should_be(whole: Whole) -> None:
    (whole.folder / "outbox").write_text("")


def an_outbox_in_memory(whole: Whole) -> None:
    whole.env["DATA_DIR"] = f"/dev/shm/{uuid4().hex}"


def another_callback_beside_it(whole: Whole) -> None:
    (whole.config.parent / "spendmeter_gateway").with_suffix(".py").write_text("callback = None\n")


MODELS = (
    "model: hosted_vllm/own-7b\n      input_cost_per_token: 0.000001\n      output_cost_per_token: 0.000002"
)
LINE = "  callbacks: [prometheus, spendmeter_gateway.callback]\n"
NO_LOG = "  global_disable_no_log_param: true\n"

BROKEN: Mapping[str, tuple[Break, str, str]] = {
    "kafka is down": (env(KAFKA_BOOTSTRAP="127.0.0.1:1"), "kafka-unreachable", "SPENDMETER_KAFKA_BOOTSTRAP"),
    "one of two servers is not there": (
        lambda whole: whole.env.update(KAFKA_BOOTSTRAP=f"{whole.env['KAFKA_BOOTSTRAP']},127.0.0.1:1"),
        "kafka-server-unreachable",
        "SPENDMETER_KAFKA_BOOTSTRAP",
    ),
    "no topics": (
        lambda whole: whole.env.update(TOPIC_PREFIX="none.") or ("--process", "gateway"),
        "topic-missing",
        "`spendmeter topics`",
    ),
    "other partitions than the topics have": (
        env(PARTITIONS="5"),
        "topic-partitions",
        "give every process the number",
    ),
    "usage is stamped by the gateways": (
        topic_config(Topic.USAGE, message_timestamp_type="CreateTime"),
        "topic-config",
        "--add-config message.timestamp.type=LogAppendTime",
    ),
    "totals are deleted with time": (
        topic_config(Topic.TOTALS, cleanup_policy="delete"),
        "topic-config",
        "--add-config cleanup.policy=compact",
    ),
    "more copies in sync than there are": (
        topic_config(Topic.USAGE, min_insync_replicas="2"),
        "topic-min-insync",
        "min.insync.replicas=1",
    ),
    "one copy where three are wanted": (
        env(REPLICATION="3"),
        "topic-replication",
        "SPENDMETER_REPLICATION=3",
    ),
    "clickhouse's password is wrong": (
        lambda whole: whole.env.update(
            CLICKHOUSE_URL=f"http://default:{SECRET}@{whole.env['CLICKHOUSE_URL'].rpartition('@')[2]}"
        ),
        "clickhouse-unusable",
        "SPENDMETER_CLICKHOUSE_PASSWORD",
    ),
    "clickhouse is down": (
        env(CLICKHOUSE_URL=f"http://default:{SECRET}@127.0.0.1:1"),
        "clickhouse-unusable",
        "SPENDMETER_CLICKHOUSE_URL",
    ),
    "no tables": (env(CLICKHOUSE_DATABASE="none"), "clickhouse-not-migrated", "`spendmeter sink migrate`"),
    "tables of an older version": (
        a_version_with_one_more_table,
        "clickhouse-schema-behind",
        "`spendmeter sink migrate`",
    ),
    "tables that another version made": (
        tables_that_another_version_changed,
        "clickhouse-schema-other",
        "upgrade every process",
    ),
    "tables of another system": (
        env(TOPIC_PREFIX="another."),
        "clickhouse-owned-by-another",
        "SPENDMETER_CLICKHOUSE_DATABASE",
    ),
    "the outbox cannot be written": (
        a_file_where_the_outbox_should_be,
        "outbox-unwritable",
        "set SPENDMETER_DATA_DIR",
    ),
    "the outbox is in memory": (
        an_outbox_in_memory,
        "outbox-not-kept",
        "mount a volume that outlives the pod",
    ),
    "the outbox may outgrow its disk": (
        env(OUTBOX_MAX_BYTES=str(10**16)),
        "outbox-space",
        "SPENDMETER_OUTBOX_MAX_BYTES",
    ),
    "the outbox moves with whoever starts the proxy": (
        env(DATA_DIR="outbox"),
        "outbox-relative",
        "SPENDMETER_DATA_DIR=/var/lib/spendmeter",
    ),
    "a setting has a wrong value": (env(ON_STALE="maybe"), "setting-invalid", "SPENDMETER_ON_STALE"),
    "a setting is misspelt": (env(TOPIC_PREFX="a."), "setting-unknown", "SPENDMETER_TOPIC_PREFIX"),
    "no callback": (
        config(LINE, "  callbacks: [prometheus]\n"),
        "callback-missing",
        "spendmeter attach config.yaml",
    ),
    "the callback only logs": (
        config(LINE, "  success_callback: [spendmeter_gateway.callback]\n"),
        "callback-missing",
        "callbacks: spendmeter_gateway.callback",
    ),
    "the callback by its old name": (
        config("spendmeter_gateway.callback", "producers.litellm_callback.spendmeter"),
        "callback-old-name",
        "callbacks: spendmeter_gateway.callback",
    ),
    "the callback in a file that is not there": (
        config("spendmeter_gateway.callback", "spendmeter_callback.callback"),
        "callback-not-loadable",
        "from spendmeter_gateway import callback",
    ),
    "another file is loaded instead": (
        another_callback_beside_it,
        "callback-shadowed",
        "a folder of its own",
    ),
    "clients may hide requests": (config(NO_LOG, ""), "no-log", "global_disable_no_log_param: true"),
    "texts are hidden from callbacks": (
        config(NO_LOG, f"{NO_LOG}  turn_off_message_logging: true\n"),
        "message-logging",
        "turn_off_message_logging",
    ),
    "litellm's own limit in the configuration": (
        config(NO_LOG, f"{NO_LOG}  max_budget: 100\n"),
        "native-limit-in-config",
        "docs/budgets.md",
    ),
    "a model without a price": (
        config(MODELS, "model: hosted_vllm/own-7b"),
        "model-without-price",
        '{provider: hosted_vllm, model: "own-7b"',
    ),
    "no YAML": (config("model_list:", "model_list: ["), "config-invalid", "correct"),
    "metrics of one worker in four": (
        lambda whole: whole.env.update(METRICS_PORT="9100") or ("--workers", "4"),
        "workers-metrics",
        "SPENDMETER_METRICS_PORT=0",
    ),
}


ALSO = {"tables of another system": ["topic-missing"]}
"""What goes with it."""


@pytest.mark.parametrize("name", BROKEN)
def test_each_set_up_that_is_broken_is_found_with_its_fix(name: str, whole: Whole, doctor: Any) -> None:
    change, code, fix = BROKEN[name]
    given = change(whole) or ()

    exit_code, found = doctor(whole, *given)

    [first, *_] = [one for one in found if one["code"] == code]
    assert {one["code"] for one in found} == {code, *ALSO.get(name, ())}, found
    assert fix in first["fix"], found
    assert exit_code == (2 if any(one["severity"] == "fault" for one in found) else 1)


@pytest.mark.parametrize(
    ("release", "code", "fix"),
    [
        ("1.82.7", "litellm-refused", "install another release"),
        ("1.84.10", "callback-not-loadable", "spendmeter_callback.py"),
        ("1.200.0", "litellm-untested", "litellm-versions.md"),
    ],
)
def test_releases_of_litellm_that_do_not_fit(
    release: str, code: str, fix: str, whole: Whole, doctor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = whole.folder / "site" / f"litellm-{release}.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text(f"Metadata-Version: 2.1\nName: litellm\nVersion: {release}\n")
    monkeypatch.syspath_prepend(whole.folder / "site")

    _, [found] = doctor(whole)

    assert (found["code"], fix in found["fix"]) == (code, True), found


GUS = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_USERNAME": "gus",
    "KAFKA_SASL_PASSWORD": "right",
    "KAFKA_SASL_MECHANISM": "PLAIN",
}


@pytest.mark.parametrize(
    ("listener", "more", "fix"),
    [
        ("tls", {}, "SPENDMETER_KAFKA_SECURITY_PROTOCOL=SSL"),
        ("sasl", {**GUS, "KAFKA_SASL_PASSWORD": SECRET}, "SPENDMETER_KAFKA_SASL_PASSWORD"),
    ],
)
def test_tls_and_passwords_are_told_in_plain_sentences(
    listener: str, more: dict[str, str], fix: str, secured: Secured, whole: Whole, doctor: Any
) -> None:
    whole.env.update(more, KAFKA_BOOTSTRAP=f"127.0.0.1:{getattr(secured, listener)}")

    _, [found] = doctor(whole)

    assert (found["code"], fix in found["fix"]) == ("kafka-unreachable", True), found


def test_rights_that_are_missing_are_found_without_a_record(
    secured: Secured, whole: Whole, doctor: Any
) -> None:
    whole.env.update(KAFKA_BOOTSTRAP=f"127.0.0.1:{secured.plain}", TOPIC_PREFIX="acl.")
    asyncio.run(create_topics(whole.settings))
    asyncio.run(_may_read_everything(whole.settings, "gus"))
    whole.env.update(GUS, KAFKA_BOOTSTRAP=f"127.0.0.1:{secured.sasl}")
    asyncio.run(_until_he_may_read(whole.settings))

    exit_code, found = doctor(whole, "--process", "gateway")

    assert exit_code == 2
    assert {one["code"] for one in found} == {"kafka-rights"}
    fixes = "\n".join(one["fix"] for one in found)
    for topic in ("usage", "decisions", "objects", "budgets"):
        assert f"--allow-principal User:gus --operation Write --topic acl.spend.{topic}`" in fixes
    assert "--operation Read" not in fixes

    whole.env["ADOPT"] = "off"
    assert len(doctor(whole, "--process", "gateway")[1]) == len(found) - 1, "then budgets are not written"


async def _may_read_everything(settings: Settings, user: str) -> None:
    topic, literal, allow = 2, 3, 3
    read, describe_configs = 3, 10
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    for operation in (read, describe_configs):
        acl = CreateAclsRequest(topic, "*", literal, f"User:{user}", "*", operation, allow)
        answer = await admin._client.send(admin._client.get_random_node(), acl)
        assert [code for code, *_ in answer.creation_responses] == [0]
    await admin.close()


async def _until_he_may_read(settings: Settings) -> None:
    """The broker answers before its own rules are in force."""
    name = settings.topic(Topic.BUDGETS)
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    async with asyncio.timeout(WITHIN_SECONDS):
        while not {Operation.READ, Operation.DESCRIBE_CONFIGS} <= (  # noqa: ASYNC110
            (await describe_cluster(admin, [name])).topics[name].allowed
        ):
            await asyncio.sleep(0.05)
    await admin.close()


def test_a_clock_that_is_wrong_is_found_beside_both(system: dict[str, str]) -> None:
    import time

    settings = ClickHouseSettings(**{key.lower(): value for key, value in system.items()})  # type: ignore[arg-type]
    ours = frozenset({Process.STREAM, Process.SINK})

    for shift, severity in ((-7_200.0, "fault"), (60.0, "warning")):
        found = diagnose(System(settings, ours, clock=lambda shift=shift: time.time() + shift))  # type: ignore[misc]
        assert [(one.code, one.severity) for one in found] == [
            ("clock-kafka", severity),
            ("clock-clickhouse", severity),
        ]
        assert all("NTP" in one.fix for one in found)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[int, Authority]]:
    """A port that shows a certificate of two days."""
    import ssl
    import threading

    authority = Authority(tmp_path / "ca")
    identity = authority.sign("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.certificate, identity.key)
    started: list[tuple[asyncio.AbstractEventLoop, int]] = []
    ready = threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        started.append((asyncio.get_running_loop(), server.sockets[0].getsockname()[1]))
        ready.set()
        async with server:
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    yield started[0][1], authority
    started[0][0].call_soon_threadsafe(stop.set)
    thread.join()


def test_a_certificate_that_ends_soon_is_found(tls_server: tuple[int, Authority]) -> None:
    import ssl

    port, authority = tls_server
    trusted = ssl.create_default_context(cafile=str(authority.cafile))

    ends = asyncio.run(certificate_ends("127.0.0.1", port, trusted))
    [found] = of_certificate("Kafka", ends)

    assert (found.code, "ends in 1 days" in found.what) == ("certificate-ends", True)
    assert of_certificate("Kafka", (ends or 0) + 30 * 86_400) == []


def test_a_check_that_hangs_delays_nobody(whole: Whole) -> None:
    import threading

    never = threading.Event()

    def hang(_: System) -> list[Any]:
        never.wait()
        return []

    def crash(_: System) -> list[Any]:
        raise RuntimeError("a bug")

    found = diagnose(System(whole.settings, frozenset()), 0.2, {"Kafka": hang, "prices": crash})
    never.set()

    assert {(one.code, one.severity) for one in found} == {
        ("check-timed-out", "warning"),
        ("check-failed", "warning"),
    }


def test_a_person_reads_what_is_wrong_and_the_fix(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**whole.env, "KAFKA_BOOTSTRAP": "127.0.0.1:1"}.items():
        monkeypatch.setenv(f"SPENDMETER_{name}", value)
    monkeypatch.delenv("SPENDMETER_CLICKHOUSE_URL")

    done = CliRunner().invoke(main, ["doctor"])

    assert done.exit_code == 2
    assert (
        "fault  kafka-unreachable\n  nothing answers at 127.0.0.1:1 (connection refused)\n  fix: start"
        in done.output
    )
    assert "not checked  clickhouse-not-named" in done.output
    assert done.output.splitlines()[-1].startswith("1 fault, 0 warnings; ")


def test_without_a_client_of_clickhouse_the_rest_is_checked(whole: Whole) -> None:
    """Beside LiteLLM the package is installed without one."""
    blocked = (
        "import sys; sys.modules['clickhouse_connect'] = None; from spendmeter.cli.entry import main; main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {blocked}", "doctor", "--json"],
        env=os.environ | {f"SPENDMETER_{name}": value for name, value in whole.env.items()},
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    [found] = [one for one in json.loads(done.stdout)["findings"] if one["code"] == "library-missing"]
    assert "pip install 'spendmeter[sink]'" in found["fix"]
