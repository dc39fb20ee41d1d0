"""The subscribers of examples/alerts, as their users run them: each alert once, and nothing stops them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.records import encode_alert, encode_signal
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import producer
from spendmeter.settings import Settings
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.probes import wait_until
from tests.alerts import alert, alert_about
from tests.builders import signal
from tests.patience import WITHIN_SECONDS

EXAMPLES = Path(__file__).parents[3] / "examples/alerts"
BUILT_WITHIN_SECONDS = 600


def python(_: Path) -> list[str]:
    return [sys.executable, str(EXAMPLES / "python/alerts.py")]


def typescript(folder: Path) -> list[str]:
    shutil.copytree(
        EXAMPLES / "typescript", folder / "typescript", ignore=shutil.ignore_patterns("node_modules", "dist")
    )
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    build(["npm", "ci", *quiet], folder / "typescript")
    build(["npm", "run", "build"], folder / "typescript")
    return ["node", str(folder / "typescript/dist/alerts.js")]


def go(folder: Path) -> list[str]:
    build(["go", "build", "-o", str(folder / "alerts"), "."], EXAMPLES / "go")
    return [str(folder / "alerts")]


def build(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=BUILT_WITHIN_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr


LANGUAGES = {"python": (python, sys.executable), "typescript": (typescript, "npm"), "go": (go, "go")}


@contextmanager
def running(command: list[str], settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **os.environ,
        "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
    }
    process = start_child(command, log=log, env=env)
    try:
        yield process
    finally:
        kill_child(process)


async def publish(settings: Settings, first: Alert, last: Alert) -> None:
    """The first alert twice, with what else may be on the topic around it, then the last one."""
    topic = settings.topic(Topic.ALERTS)
    record = encode_alert(first)
    async with producer(settings) as kafka:
        for key, value, headers in (
            (b"k", b"{not json", record.headers),
            (b"k", None, record.headers),
            record,
            encode_signal(signal()),
            (b"k", b"{not json", []),
            record,
            encode_alert(last),
        ):
            await kafka.send_and_wait(topic, key=key, value=value, headers=headers)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_subscriber_prints_each_alert_once(language: str, settings: Settings, tmp_path: Path) -> None:
    make, program = LANGUAGES[language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on this machine")
    command, log = make(tmp_path), tmp_path / "log"
    first = alert_about(AlertKind.DIGEST, "team research spent $5", team="research")
    last = alert(AlertKind.EXCEEDED, number=2)
    expected = [f"{one.alert_id} {one.kind} {one.message}" for one in (first, last)]
    await publish(settings, first, last)

    with running(command, settings, log) as process:
        wait_until(
            lambda: process.poll() is not None or expected[1] in log.read_text(),
            timeout_seconds=WITHIN_SECONDS,
        )
        assert process.poll() is None, log.read_text()

    ids = (str(first.alert_id), str(last.alert_id))
    assert [line for line in log.read_text().splitlines() if line.startswith(ids)] == expected
    assert log.read_text().count("offset 0 is no JSON") == 1
