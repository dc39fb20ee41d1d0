"""The releases of Kafka and of ClickHouse's engine that are supported, and which of them a test run is on.

The oldest and the newest of each are here; in between is what the local stack and the rest of the tests run.
`python -m tests.versions.releases` resolves the brokers' jars anew.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from spendmeter_local.kafka.jars import LOCAL, KafkaRelease
from tests.matrix.environments import environment, packages_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True, slots=True)
class EngineRelease:
    """A release of ClickHouse, as the engine in a release of chDB."""

    version: str
    chdb: str | None = None
    """The release of chDB that has it; None is the one that is installed."""

    def command(self, data: Path, port: int) -> list[str]:
        """Serves the engine over HTTP as the local stack does, in the foreground."""
        module = "spendmeter_local.clickhouse" if self.chdb is None else "tests.versions.earlier_engine"
        return [sys.executable, "-m", module, "--path", str(data), "--port", str(port)]

    def env(self, password: str) -> dict[str, str]:
        """What the command needs in its environment; makes a folder with that chDB if there is none."""
        env = {"SPENDMETER_CLICKHOUSE_PASSWORD": password}
        if self.chdb is None:
            return env
        python = environment(f"chdb-{self.chdb}", [f"chdb=={self.chdb}"])
        return {**env, "PYTHONPATH": os.pathsep.join([str(packages_of(python)), str(ROOT)])}


OLDEST_KAFKA = KafkaRelease("3.9.2", HERE / "kafka-jars-3.9.2.lock")
NEWEST_KAFKA = KafkaRelease("4.4.0", HERE / "kafka-jars-4.4.0.lock")
KAFKAS = (OLDEST_KAFKA, LOCAL, NEWEST_KAFKA)
TOO_OLD_KAFKA = KafkaRelease("3.8.1", HERE / "kafka-jars-3.8.1.lock")
"""Of which a worker is to say so."""
NEWEST_KAFKA_TOOLS = KafkaRelease("4.4.0", HERE / "kafka-tools-4.4.0.lock")
"""The jar of its command lines, beside the broker's own; not resolved: what else it names serves Connect."""

OLDEST_ENGINE = EngineRelease("24.8", chdb="3.1.2")
NEWEST_ENGINE = EngineRelease("26.9")
ENGINES = (OLDEST_ENGINE, NEWEST_ENGINE)

KAFKA_VARIABLE, ENGINE_VARIABLE = "SPENDMETER_TEST_KAFKA", "SPENDMETER_TEST_CLICKHOUSE"


def kafka_under_test() -> KafkaRelease:
    """The release that `SPENDMETER_TEST_KAFKA` names, else the local stack's."""
    return _named(KAFKA_VARIABLE, KAFKAS, LOCAL)


def engine_under_test() -> EngineRelease:
    """The release that `SPENDMETER_TEST_CLICKHOUSE` names, else the one that is installed."""
    return _named(ENGINE_VARIABLE, ENGINES, NEWEST_ENGINE)


R = TypeVar("R", KafkaRelease, EngineRelease)


def _named(variable: str, releases: Sequence[R], default: R) -> R:
    wanted = os.environ.get(variable) or default.version
    named = {"oldest": releases[0], "newest": releases[-1], **{one.version: one for one in releases}}
    if wanted not in named:
        raise ValueError(f"{variable}={wanted}: give one of {', '.join(named)}")
    return named[wanted]


if __name__ == "__main__":
    from spendmeter_local.kafka.jars import locked_jars, write_lock

    for release in (TOO_OLD_KAFKA, OLDEST_KAFKA, NEWEST_KAFKA):
        write_lock(release)
        print(f"{release.lock.name}: {len(locked_jars(release))} jars")
