"""Python environments of their own, kept outside the repository and made anew when their pins change."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

from spendmeter_local.kafka.jars import cache_dir
from tests.matrix.versions import GATEWAY_REQUIREMENTS, Release

MADE_WITHIN_SECONDS = 900
UV = Path(sys.executable).with_name("uv")
_DONE = ".made"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def python_of(release: Release) -> Path:
    """The interpreter of the release's environment: LiteLLM, and what ours adds to it."""
    return environment(release.version, _pins(release))


def packages_of(python: Path) -> Path:
    """Where the packages of an environment are."""
    return python.parents[1] / "lib" / f"python{_PYTHON}" / "site-packages"


def environment(name: str, pins: list[str]) -> Path:
    """The interpreter of an environment with exactly these pins, made if it is not there."""
    wanted = f"{_PYTHON}\n" + "\n".join(pins)
    folder = cache_dir() / "matrix" / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _DONE).exists():
            _make(folder, pins)
    return folder / "bin" / "python"


def added(release: Release) -> list[str]:
    """The pins of what ours needs and that LiteLLM does not have; what LiteLLM has stays as it is."""
    theirs = {pin.name for pin in _requirements(release.requirements)}
    return [str(pin) for pin in _requirements(GATEWAY_REQUIREMENTS) if pin.name not in theirs]


def litellm_alone(release: Release, folder: Path) -> Path:
    """The interpreter of a new environment there with the release and nothing of ours."""
    _make(folder, [str(pin) for pin in _requirements(release.requirements)])
    return folder / "bin" / "python"


def install(python: Path, wheel: Path) -> None:
    """As `pip install spendmeter` would: with what it requires, resolved beside what is there."""
    _uv("pip", "install", "--quiet", "--python", str(python), str(wheel))


def installed(python: Path) -> frozenset[str]:
    """Every package of an environment, as `name==version`."""
    return frozenset(_uv("pip", "freeze", "--python", str(python)).stdout.splitlines())


def conflicts(python: Path) -> frozenset[str]:
    """What `pip check` says of an environment; empty where all is consistent."""
    said = _uv("pip", "check", "--python", str(python), check=False)
    return frozenset(line for line in said.stderr.splitlines() if line.startswith("The package"))


def _pins(release: Release) -> list[str]:
    return [str(pin) for pin in _requirements(release.requirements)] + added(release)


def _make(folder: Path, pins: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    python = str(folder / "bin" / "python")
    _uv("pip", "install", "--quiet", "--no-deps", "--python", python, "--requirements", "-", given=pins)
    (folder / _DONE).touch()


def _uv(
    *arguments: str, given: list[str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(UV), *arguments],
        input="\n".join(given or ()),
        text=True,
        check=check,
        capture_output=True,
        timeout=MADE_WITHIN_SECONDS,
        env={**os.environ, "VIRTUAL_ENV": ""},
    )


def _requirements(file: Path) -> list[Requirement]:
    """The pins of a file that this Python on this system needs."""
    lines = (line.strip() for line in file.read_text().splitlines())
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
