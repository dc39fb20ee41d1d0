"""deploy/systemd: units that systemd accepts, for commands that exist, with our settings and no rights."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.deployment import DEPLOY, SETTINGS, load_settings, run_tool, unknown_settings

FOLDER = DEPLOY / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
MAX_EXPOSURE = 2.0
"""Of 10, as `systemd-analyze security` counts; a unit without any hardening has 9.6."""


def process(unit: Path) -> str:
    return unit.stem.removeprefix("spendmeter-")


def lines(unit: Path, name: str) -> list[str]:
    return re.findall(rf"(?m)^{name}=(.*)$", unit.read_text(encoding="utf-8"))


def environment(unit: Path) -> dict[str, str]:
    """What the unit tells its process, with the files of examples below it."""
    env: dict[str, str] = {}
    for example in ("spendmeter.env", f"{process(unit)}.env"):
        path = FOLDER / f"{example}.example"
        if path.exists():
            env |= dict(re.findall(r"(?m)^#?(SPENDMETER_\w+)=(.*)$", path.read_text(encoding="utf-8")))
    return env | dict(one.split("=", 1) for line in lines(unit, "Environment") for one in line.split())


def test_each_process_has_a_unit() -> None:
    assert {process(unit) for unit in UNITS} == {*SETTINGS} - {"tools"}


@pytest.mark.parametrize("unit", UNITS, ids=process)
def test_each_of_our_variables_is_a_setting_of_its_process_and_can_be_used(
    unit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = environment(unit)

    assert unknown_settings(process(unit), [*env]) == set()
    assert load_settings(process(unit), env, monkeypatch).metrics_port > 0


def test_no_two_units_of_a_host_want_the_same_port() -> None:
    ports = [environment(unit)["SPENDMETER_METRICS_PORT"] for unit in UNITS]

    assert len({*ports}) == len(UNITS)


@pytest.mark.parametrize("unit", UNITS, ids=process)
def test_systemd_accepts_a_unit_and_its_command_is_there(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(
        re.sub(r"(?m)^ExecStart=/opt/\w+/bin", f"ExecStart={Path(sys.executable).parent}", unit.read_text())
    )

    said = run_tool("systemd-analyze", "verify", "--recursive-errors=no", str(copy))

    # It may also speak of other units, which are the machine's.
    assert [line for line in said.stderr.splitlines() if unit.stem in line] == []
    assert said.returncode == 0


@pytest.mark.parametrize("unit", UNITS, ids=process)
def test_a_unit_has_nobodys_rights(unit: Path) -> None:
    said = run_tool("systemd-analyze", "security", "--offline=true", str(unit))

    [exposure] = re.findall(r"Overall exposure level for \S+: ([\d.]+)", said.stdout)
    assert float(exposure) < MAX_EXPOSURE


def test_a_wrong_line_is_found(tmp_path: Path) -> None:
    unit = tmp_path / "wrong.service"
    shutil.copy(UNITS[0], unit)
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=strictly"))

    assert "protect system value" in run_tool("systemd-analyze", "verify", str(unit)).stderr


@pytest.mark.parametrize("unit", UNITS, ids=process)
def test_what_a_process_writes_is_its_own_folder(unit: Path) -> None:
    data = environment(unit).get("SPENDMETER_DATA_DIR")

    assert [f"/var/lib/{folder}" for folder in lines(unit, "StateDirectory")] == ([data] if data else [])
    assert (process(unit) in ("gateway", "stream")) == (data is not None)
