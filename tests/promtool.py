"""Prometheus' promtool for tests of rules: one that is installed, else Debian's, unpacked into the cache."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

WITHIN_SECONDS = 600
CACHE = Path(os.environ.get("SPENDMETER_CACHE_DIR") or Path.home() / ".cache/spendmeter")


class NoPromtool(RuntimeError):
    """None is installed, and Debian's package cannot be had; the message says why."""


@cache
def find_promtool() -> Path:
    """The program. Raises NoPromtool."""
    installed, unpacked = shutil.which("promtool"), CACHE / "promtool"
    if installed:
        return Path(installed)
    if not unpacked.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=CACHE) as directory:
            # Another process may do the same: whoever is last has put the same file there.
            _unpack(Path(directory)).rename(unpacked)
    return unpacked


def _unpack(directory: Path) -> Path:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoPromtool("no promtool is installed, and no Debian package can be had here")
    download = ["apt-get", "download", "-qq", "prometheus"]
    if not _runs(download, directory) and not (
        _runs(["apt-get", "update", "-qq"], directory) and _runs(download, directory)
    ):
        raise NoPromtool("no promtool is installed, and Debian's package prometheus cannot be downloaded")
    package = next(directory.glob("*.deb"))
    if not _runs(["dpkg-deb", "-x", package.name, "."], directory):
        raise NoPromtool("Debian's package prometheus cannot be unpacked")
    return directory / "usr/bin/promtool"


def _runs(command: list[str], directory: Path) -> bool:
    try:
        ended = subprocess.run(
            command, cwd=directory, check=False, timeout=WITHIN_SECONDS, capture_output=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0
