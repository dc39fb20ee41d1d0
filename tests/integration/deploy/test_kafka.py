"""The broker of compose.yaml: its environment, read by what Kafka's own image starts with."""

import json
import os
import subprocess
from pathlib import Path

from spendmeter_local.kafka.broker import find_java
from spendmeter_local.kafka.jars import LOCAL, classpath, fetch_jars
from tests.deployment import compose, initialised
from tests.patience import WITHIN_SECONDS


def test_kafkas_image_makes_a_node_of_its_environment(tmp_path: Path) -> None:
    folder = initialised(tmp_path)
    services = json.loads(compose("config", "--format", "json", cwd=folder).stdout)["services"]
    broker = services["kafka"]
    [data] = [one["target"] for one in broker["volumes"]]
    assert broker["environment"]["KAFKA_LOG_DIRS"] == data
    env = {**broker["environment"], "KAFKA_LOG_DIRS": str(tmp_path / "data")}

    properties = set_up(env, tmp_path)

    assert (
        properties.items()
        >= {
            "auto.create.topics.enable": "false",
            "advertised.listeners": "PLAINTEXT://kafka:9092",
            "controller.quorum.voters": "1@kafka:9093",
            "log.dirs": str(tmp_path / "data"),
        }.items()
    )
    formatted = (tmp_path / "data/meta.properties").read_text()
    assert f"cluster.id={env['CLUSTER_ID']}\n" in formatted


def set_up(env: dict[str, str], folder: Path) -> dict[str, str]:
    """What the image does before it starts the broker; the configuration that it comes to."""
    fetch_jars(release=LOCAL)
    for name in ("defaults", "mounted", "final"):
        (folder / name).mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (folder / "defaults" / name).touch()
    done = subprocess.run(
        [
            *(
                str(find_java()),
                "-Xmx256m",
                "-cp",
                classpath(LOCAL),
                "kafka.docker.KafkaDockerWrapper",
                "setup",
            ),
            *("--default-configs-dir", str(folder / "defaults")),
            *("--mounted-configs-dir", str(folder / "mounted")),
            *("--final-configs-dir", str(folder / "final")),
        ],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (folder / "final/server.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)
