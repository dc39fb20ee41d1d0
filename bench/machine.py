"""The machine and the versions that a figure was measured with."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from spendmeter_local.kafka.broker import find_java
from spendmeter_local.kafka.jars import KAFKA_VERSION

PACKAGES = ("spendmeter", "faust-streaming", "aiokafka", "pydantic", "litellm")


def describe() -> list[str]:
    """What a reader needs to judge the figures, one fact per line."""
    return [
        f"{_cpu_model()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, {platform.system()}",
        f"Python {platform.python_version()}, {_java()}, Apache Kafka {KAFKA_VERSION} on the same machine",
        ", ".join(f"{package} {_version(package)}" for package in PACKAGES),
        f"load average at the start: {load()}",
    ]


def load() -> str:
    """The machine's load of the last one, five and fifteen minutes."""
    return " ".join(f"{part:.1f}" for part in os.getloadavg())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _java() -> str:
    said = subprocess.run([find_java(), "-version"], capture_output=True, text=True, check=False)
    return (said.stderr or said.stdout).splitlines()[0].replace('"', "")
