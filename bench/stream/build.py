"""What the peers are made of, fetched from the public registries through their ordinary clients."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bench.output import OUTPUT
from bench.stream.contender import NotAvailable
from spendmeter_local.kafka.broker import find_java
from spendmeter_local.kafka.jars import KAFKA_VERSION

QUIX_VERSION = "3.28.1"
STREAMS_JARS = (
    f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}",
    "com.fasterxml.jackson.core:jackson-core:2.19.2",
    "org.slf4j:slf4j-nop:1.7.36",
)
# The compiler as a jar: the Java that spendmeter brings along has none.
COMPILER_JAR = "org.eclipse.jdt:ecj:3.42.0"
SOURCE = Path(__file__).parent / "kafka_streams" / "HourlyTotals.java"
CLASSES = OUTPUT / "classes"
CLASSPATH = OUTPUT / "classpath"
QUIX = OUTPUT / "quix"
TIMEOUT_SECONDS = 600


def kafka_streams() -> str:
    """Fetch the jars and compile the contender. Raises NotAvailable."""
    if not CLASSPATH.exists() or SOURCE.stat().st_mtime > CLASSPATH.stat().st_mtime:
        jars = os.pathsep.join(_resolved(STREAMS_JARS))
        (compiler,) = _resolved([COMPILER_JAR], transitive=False)
        _run([find_java(), "-jar", compiler, "-17", "-nowarn", "-cp", jars, "-d", CLASSES, SOURCE])
        CLASSPATH.write_text(os.pathsep.join([str(CLASSES), jars]))
    return f"Kafka Streams {KAFKA_VERSION}, exactly-once v2, one thread, commit every second"


def quix() -> str:
    """An environment of its own: it pins another librdkafka. Raises NotAvailable."""
    python = QUIX / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", QUIX])
    _run([python, "-m", "pip", "install", "--quiet", f"quixstreams=={QUIX_VERSION}"])
    return f"Quix Streams {QUIX_VERSION}, at least once, commit every second"


def _run(command: Iterable[str | Path]) -> None:
    arguments = [str(part) for part in command]
    try:
        subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as failed:
        told = getattr(failed, "stderr", None) or str(failed)
        raise NotAvailable(f"{' '.join(arguments[:4])}: {told[-1000:]}") from failed


def _resolved(coordinates: Iterable[str], *, transitive: bool = True) -> list[str]:
    from jgo.maven import MavenContext, PythonResolver

    maven = MavenContext(resolver=PythonResolver(), repo_cache=OUTPUT / "maven", local_repos=[], timeout=30)
    try:
        roots = [maven.create_dependency(coordinate) for coordinate in coordinates]
        if not transitive:
            return [str(root.artifact.resolve()) for root in roots]
        for root in roots:
            # Else jgo takes each for a bill of materials as well: see spendmeter_local.kafka.jars.
            root.raw = True
        found, below = maven.resolver.resolve(roots)
        return [str(dependency.artifact.resolve()) for dependency in (*found, *below)]
    except (OSError, RuntimeError) as failed:
        raise NotAvailable(f"Maven Central: {failed}") from failed
