"""docs/attach.md, executed: LiteLLM with Postgres, Kafka, ClickHouse, to a refusal and a message."""

import os
import shlex
import subprocess
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, wait_until
from tests.console_blocks import commands, missing, yaml_files
from tests.litellm_postgres.conftest import READY_WITHIN_SECONDS, ROOT, _in_shell, _start_postgres
from tests.litellm_postgres.real import MASTER_KEY
from tests.patience import WITHIN_SECONDS
from tests.receiver import receiver

PAGE = (ROOT / "docs/attach.md").read_text(encoding="utf-8")
READS_ONLY = ("spendmeter explain", "spendmeter alerts log", "curl --retry")
"""What may be said again until it has come."""


def test_the_page_leads_to_a_refusal_and_a_message(
    set_up: Path, kafka: str, clickhouse: str, topic_prefix: str, database: str, tmp_path: Path
) -> None:
    if not (set_up / "venv/bin/faust").exists():
        pytest.skip("the environment lacks spendmeter[stream,sink,alerts]")
    for name, text in yaml_files(PAGE).items():
        (tmp_path / name).write_text(text)
    with ExitStack() as running, receiver() as (slack, received):
        pg_port, port = free_port(), free_port()
        _start_postgres(running, set_up, pg_port)
        env = {
            "DATABASE_URL": f"postgresql://litellm@{LOOPBACK}:{pg_port}/litellm",
            "HOME": str(set_up / "home"),
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "SPENDMETER_MASTER_KEY": MASTER_KEY,
            "SPENDMETER_PROXY_URL": f"http://{LOOPBACK}:{port}",
            "SPENDMETER_KAFKA_BOOTSTRAP": kafka,
            "SPENDMETER_CLICKHOUSE_URL": clickhouse,
            "SPENDMETER_CLICKHOUSE_DATABASE": database,
            "SPENDMETER_TOPIC_PREFIX": topic_prefix,
            "SPENDMETER_DATA_DIR": str(tmp_path / "data"),
            "SLACK_URL": f"json://{LOOPBACK}:{slack}/",
        }
        before = start_child(
            _in_shell(set_up, f"cd {tmp_path}; exec litellm --config config.yaml --port {port}"),
            log=tmp_path / "before.log",
            env=env,
        )
        running.callback(kill_child, before)
        assert wait_until(
            lambda: before.poll() is not None or http_answers(f"http://{LOOPBACK}:{port}/health/liveliness"),
            timeout_seconds=READY_WITHIN_SECONDS,
        ), (tmp_path / "before.log").read_text()[-3000:]
        made = httpx.post(
            f"http://{LOOPBACK}:{port}/key/generate",
            json={"key_alias": "ann", "max_budget": 0.002},
            headers={"Authorization": f"Bearer {MASTER_KEY}"},
            timeout=WITHIN_SECONDS,
        )
        env["ANN"] = made.json()["key"]

        for command, shown in commands(PAGE):
            command = command.replace("--port 4000", f"--port {port}")
            if command.endswith("&"):
                if command.startswith("litellm"):
                    kill_child(before)
                started = _in_shell(set_up, f"cd {tmp_path}; exec {command.removesuffix('&')}")
                running.callback(kill_child, start_child(started, log=tmp_path / "unused.log", env=env))
                continue
            said = [""]

            def is_shown(command: str = command, shown: list[str] = shown, said: list[str] = said) -> bool:
                said[0] = _run(set_up, tmp_path, command, env)
                plain = said[0].replace(topic_prefix, "").replace(database, "spend")
                return not missing(shown, plain)

            if command.startswith(READS_ONLY):
                assert wait_until(is_shown, timeout_seconds=READY_WITHIN_SECONDS), (command, said)
            else:
                assert is_shown(), (command, shown, said)

        assert wait_until(lambda: len(received) >= 2, timeout_seconds=WITHIN_SECONDS)
        [message] = [one["message"] for one in received if one["title"].startswith("Budget spent: key ")]
        assert message.startswith("$0.0021 of $0.002 (105 %) since its beginning\nRequests are refused until")
        assert "nothing is wrong" in _run(
            set_up, tmp_path, "spendmeter doctor --litellm-config config.yaml", env
        )


def _run(set_up: Path, folder: Path, command: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        _in_shell(set_up, f"cd {shlex.quote(str(folder))}; {command}"),
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=READY_WITHIN_SECONDS,
        check=False,
    )
    return done.stdout + done.stderr
