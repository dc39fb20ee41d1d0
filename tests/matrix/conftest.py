"""Each release in its own environment: two in every run of the tests, all with SPENDMETER_MATRIX=all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.matrix.environments import python_of
from tests.matrix.gateways import FILE_LINE, README_LINE, Gateway, running_gateway
from tests.matrix.table import PAGE, TARGET, Outcome, rendered
from tests.matrix.versions import IN_EVERY_TEST_RUN, RELEASES, Release
from tests.pages import rewritten

ROOT = Path(__file__).parents[2]
BUILT_WITHIN_SECONDS = 120

_IS_WHOLE = os.environ.get("SPENDMETER_MATRIX") == "all"


@pytest.fixture(scope="session")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel, as an index would have it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=BUILT_WITHIN_SECONDS)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def wheel(wheel_file: Path) -> Path:
    """Our wheel, unpacked: what an installation would have."""
    unpacked = wheel_file.with_name("unpacked")
    with ZipFile(wheel_file) as archive:
        archive.extractall(unpacked)
    return unpacked


@pytest.fixture(
    scope="session",
    params=[one for one in RELEASES if _IS_WHOLE or one.version in IN_EVERY_TEST_RUN],
    ids=lambda release: release.version,
)
def release(request: pytest.FixtureRequest) -> Release:
    found: Release = request.param
    return found


@pytest.fixture(scope="session")
def python(release: Release) -> Path:
    """The interpreter of the release's environment."""
    return python_of(release)


@pytest.fixture(scope="session")
def gateway(
    release: Release, python: Path, wheel: Path, kafka: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """The release's proxy, metered."""
    line = README_LINE if release.loads_by_name else FILE_LINE
    with running_gateway(python, wheel, kafka, tmp_path_factory.mktemp(release.version), line) as gateway:
        yield gateway


_outcomes: list[Outcome] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what each release does."""
    name, _, parameters = report.nodeid.rpartition("::")[2].partition("[")
    found = next((one.version for one in RELEASES if parameters.startswith(one.version)), None)
    if found is not None and (report.when == "call" or not report.passed):
        _outcomes.append(Outcome(found, name, report.passed, dict(report.user_properties)))


def pytest_sessionfinish() -> None:
    """After a run of the whole matrix, its table is in the page."""
    if _IS_WHOLE and {one.version for one in _outcomes} == {one.version for one in RELEASES}:
        table = rendered(RELEASES, _outcomes)
        PAGE.write_text(rewritten(PAGE.read_text(), TARGET, table))
