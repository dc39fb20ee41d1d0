"""The pages for whoever has a task, executed: each command, on a real proxy, stream and sink."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import says_ready, wait_until
from tests.console_blocks import ShownCommand, commands, yaml_files
from tests.docs_blocks import blocks, stands_as_executed
from tests.receiver import receiver
from tests.terminal import Terminal

from .conftest import READY_WITHIN_SECONDS, Proxy, running_proxy

DOCS = Path(__file__).parents[2] / "docs"
BIN = str(Path(sys.executable).parent)
ASK = next(
    one.command for one in commands((DOCS / "cookbook/budgets.md").read_text()) if one.command[:3] == "ask"
)
"""The line of shell that sends a request."""
SPENDMETER = [sys.executable, "-c", "from spendmeter.cli.main import main; main()"]


@pytest.fixture(scope="module")
def system(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which commands find a running system of its own."""
    data = tmp_path_factory.mktemp("cookbooks")
    with ExitStack() as running:
        proxy = running.enter_context(running_proxy(kafka, data))
        env = _environment(proxy, clickhouse)
        for name in ("stream", "sink"):
            port = free_port()
            metrics = {"SPENDMETER_METRICS_PORT": str(port), "SPENDMETER_DATA_DIR": str(data / name)}
            if name == "sink":
                migrated = start_child([*SPENDMETER, "sink", "migrate"], log=data / "migrate.log", env=env)
                assert migrated.wait(READY_WITHIN_SECONDS) == 0, (data / "migrate.log").read_text()
            started = start_child([*SPENDMETER, name], log=data / f"{name}.log", env=env | metrics)
            running.callback(kill_child, started)
            page = f"http://{LOOPBACK}:{port}/metrics"
            ready = wait_until(partial(says_ready, page), timeout_seconds=READY_WITHIN_SECONDS)
            assert ready, (data / f"{name}.log").read_text()[-3000:]
        yield env


def _environment(proxy: Proxy, clickhouse: str) -> dict[str, str]:
    return {
        "SPENDMETER_KAFKA_BOOTSTRAP": proxy.settings.kafka_bootstrap,
        "SPENDMETER_TOPIC_PREFIX": proxy.settings.topic_prefix,
        "SPENDMETER_PARTITIONS": str(proxy.settings.partitions),
        "SPENDMETER_CLICKHOUSE_URL": clickhouse,
        "SPENDMETER_CLICKHOUSE_DATABASE": f"t{uuid4().hex[:12]}",
        "PROXY": proxy.url,
        "SPENDMETER_PROXY_URL": proxy.url,
        "SPENDMETER_MASTER_KEY": proxy.master_key,
    }


@pytest.fixture
def terminal(
    system: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    """A terminal of its own, and no budget left of the page before."""
    found = Terminal(
        tmp_path, {**system, "PATH": f"{BIN}:/usr/bin:/bin"}, monkeypatch, system["SPENDMETER_TOPIC_PREFIX"]
    )
    yield found
    found.end()
    (tmp_path / "none.yaml").write_text("budgets: []\n")
    assert found.run("spendmeter budget apply none.yaml --prune --yes").exit_code == 0


def follow(terminal: Terminal, page: str) -> None:
    """Run each command of the page, and want what the page shows."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, content in yaml_files(text).items():
        (terminal.folder / name).write_text(content)
    for one in commands(text):
        terminal.shows(one)


def test_the_quickstart(terminal: Terminal) -> None:
    follow(terminal, "quickstart.md")


def test_the_cookbook_of_budgets(terminal: Terminal) -> None:
    follow(terminal, "cookbook/budgets.md")


def test_the_cookbook_of_alerts_and_the_messages_arrive(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as (port, received):
        for name in ("SLACK_URL", "RESEARCH_SLACK", "FINANCE_MAIL", "PAGER"):
            monkeypatch.setenv(name, f"json://{LOOPBACK}:{port}/")
        for name in ("SPEND_HOOK", "ALERTMANAGER"):
            monkeypatch.setenv(name, f"http://{LOOPBACK}:{port}")
        follow(terminal, "cookbook/alerts.md")

    assert any("of $0.0001" in str(one) for one in received), received


def test_what_a_healthy_system_says_on_the_page_of_symptoms_and_in_operations(terminal: Terminal) -> None:
    for command in (
        "export ANN=$(spendmeter key create --alias ann-notebook --user ann)",
        "spendmeter budget create ann-day --for user=ann --as-id --limit-usd 0.0001 --period day",
    ):
        assert terminal.run(command).exit_code == 0
    terminal.run(ASK)
    terminal.shows(ShownCommand("ask $ANN", ["HTTP/1.1 422 …"]))
    follow(terminal, "troubleshooting.md")
    follow(terminal, "operations.md")


def test_the_blocks_without_output_run_as_they_stand(terminal: Terminal) -> None:
    (terminal.folder / "budgets.yaml").write_text(
        "budgets:\n  - {id: team-red, match: {team: red}, limit_usd: 500, period: month}\n"
    )
    terminal.run(ASK)
    terminal.run("export LAPTOP=$(spendmeter key create --alias laptop)")
    assert terminal.run("ask $LAPTOP").exit_code == 0
    for block in filter(stands_as_executed, blocks()):
        for line in block.text.splitlines():
            terminal.shows(ShownCommand(line, []))
