"""The real LiteLLM proxy with Postgres, Redis and virtual keys, our callback attached, on the real broker.

It runs where SPENDMETER_LITELLM_POSTGRES names a directory in which it has been set up: `env.sh` with its
paths, `venv` with LiteLLM, Prisma and this package, and an initialised Postgres in `pg/data` with the
migrated template database `litellm_template`. Elsewhere these tests are skipped. One run at a time
may use a directory.
"""

import asyncio
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from spendmeter.topics.create import create_topics
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, wait_until
from tests.litellm_postgres.real import MASTER_KEY, Real

SET_UP = "SPENDMETER_LITELLM_POSTGRES"
CONFIG = Path(__file__).with_name("litellm.yaml")
ROOT = Path(__file__).parents[2]
READY_WITHIN_SECONDS = 400


@pytest.fixture(scope="session")
def set_up() -> Path:
    """The directory; or the tests are skipped, and the reason is printed."""
    named = os.environ.get(SET_UP)
    if not named:
        pytest.skip(f"{SET_UP} names no directory with LiteLLM, Postgres and Redis set up")
    found = Path(named)
    missing = [part for part in ("env.sh", "venv/bin/litellm", "pg/data") if not (found / part).exists()]
    if missing or shutil.which("redis-server") is None:
        pytest.skip(f"{named} lacks {', '.join(missing) or 'redis-server in PATH'}")
    return found


@pytest.fixture(scope="session")
def real(set_up: Path, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """The running proxy, with an empty database."""
    data = tmp_path_factory.mktemp("litellm-postgres")
    settings = GatewaySettings(
        kafka_bootstrap=kafka, topic_prefix=f"t{uuid4().hex[:12]}.", partitions=2, data_dir=data
    )
    asyncio.run(create_topics(settings))
    with ExitStack() as running:
        pg_port, redis_port, port = free_port(), free_port(), free_port()
        _start_postgres(running, set_up, pg_port)
        redis = ["redis-server", "--bind", LOOPBACK, "--port", str(redis_port), "--save", ""]
        running.callback(kill_child, start_child([*redis, "--dir", str(data)], log=data / "redis.log"))
        env = {
            "DATABASE_URL": f"postgresql://litellm@{LOOPBACK}:{pg_port}/litellm",
            "REDIS_HOST": LOOPBACK,
            "REDIS_PORT": str(redis_port),
            "HOME": str(set_up / "home"),
            "PYTHONPATH": str(ROOT),
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "SPENDMETER_KAFKA_BOOTSTRAP": kafka,
            "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
            "SPENDMETER_DATA_DIR": str(data / "gateway"),
            "SPENDMETER_METRICS_PORT": "0",
        }
        command = _in_shell(
            set_up, f"exec litellm --config {shlex.quote(str(CONFIG))} --host {LOOPBACK} --port {port}"
        )
        log = data / "proxy.log"
        proxy = start_child(command, log=log, env=env)
        running.callback(kill_child, proxy)
        url = f"http://{LOOPBACK}:{port}"
        ready = wait_until(
            lambda: proxy.poll() is not None or http_answers(f"{url}/health/liveliness"),
            timeout_seconds=READY_WITHIN_SECONDS,
        )
        assert ready, log.read_text()[-4000:]
        assert proxy.poll() is None, log.read_text()[-4000:]
        yield Real(url, settings, log)


def _start_postgres(running: ExitStack, set_up: Path, port: int) -> None:
    data = shlex.quote(str(set_up / "pg/data"))
    log = shlex.quote(str(set_up / "pg/log"))
    _run(set_up, f'as_pg "$PGBIN/pg_ctl" -D {data} -o "-p {port}" -l {log} -w start')
    running.callback(_run, set_up, f'as_pg "$PGBIN/pg_ctl" -D {data} -m fast -w stop')
    sql = "psql -q -v ON_ERROR_STOP=1 -h " + LOOPBACK + f" -p {port} -U litellm -d postgres"
    fresh = (
        "DROP DATABASE IF EXISTS litellm WITH (FORCE)",
        "CREATE DATABASE litellm TEMPLATE litellm_template",
    )
    _run(set_up, sql + "".join(f" -c {shlex.quote(one)}" for one in fresh))


def _run(set_up: Path, command: str) -> None:
    done = subprocess.run(
        _in_shell(set_up, command),
        cwd=set_up / "pg",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()


def _in_shell(set_up: Path, command: str) -> list[str]:
    return ["bash", "-c", f". {shlex.quote(str(set_up / 'env.sh'))}; {command}"]
