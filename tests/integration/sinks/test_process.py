"""`spendmeter sink` as an operator meets it."""

import subprocess
import sys
import urllib.request
from pathlib import Path

from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from tests.patience import WITHIN_SECONDS

COMMAND = [sys.executable, "-m", "spendmeter_sinks"]


def environment(settings: SinkSettings) -> dict[str, str]:
    return {
        "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SPENDMETER_CLICKHOUSE_URL": settings.clickhouse_url,
        "SPENDMETER_CLICKHOUSE_DATABASE": settings.clickhouse_database,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
    }


def test_migrate_then_run_until_sigterm(settings: SinkSettings, tmp_path: Path) -> None:
    log, metrics_port = tmp_path / "log", free_port()
    for _ in range(2):
        migrating = start_child([*COMMAND, "migrate"], log=log, env=environment(settings))
        assert migrating.wait(WITHIN_SECONDS) == 0, log.read_text()
    env = {**environment(settings), "SPENDMETER_METRICS_PORT": str(metrics_port)}
    sink = start_child(COMMAND, log=log, env=env)
    try:
        ready = wait_until(lambda: _is_ready(metrics_port), timeout_seconds=WITHIN_SECONDS)
        assert ready, log.read_text()
        sink.terminate()
        assert sink.wait(WITHIN_SECONDS) == 0, log.read_text()
    finally:
        kill_child(sink)
    assert "Traceback" not in log.read_text()


def test_every_wrong_setting_is_said_at_once_before_anything_starts() -> None:
    wrong = {"SPENDMETER_SINK_LINGER_MS": "-1", "SPENDMETER_SINK_MAX_BATCH_ROWS": "65536"}
    ended = subprocess.run(
        COMMAND, env=wrong, capture_output=True, text=True, timeout=WITHIN_SECONDS, check=False
    )
    assert ended.returncode == 2
    assert all(name in ended.stderr for name in wrong)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=WITHIN_SECONDS) as page:
            return b"\nspendmeter_ready 1.0\n" in page.read()
    except OSError:
        return False
