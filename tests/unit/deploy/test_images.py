"""deploy/images: what hadolint does not see. Nothing is built here: there is no Docker engine."""

import http.server
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from spendmeter_local.ports import LOOPBACK, free_port
from tests.deployment import DEPLOY, ROOT, SETTINGS, load_settings, run_tool, shipped_images, unknown_settings

FOLDER = DEPLOY / "images"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()


def test_hadolint_finds_nothing() -> None:
    said = run_tool("hadolint", str(FOLDER / "Dockerfile"))

    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.parametrize("process", SETTINGS)
def test_an_image_runs_as_nobody_and_says_whether_it_is_well(process: str) -> None:
    image = shipped_images()[process]

    assert image.user == "10001:10001"
    assert image.entrypoint
    assert image.healthcheck[:2] == ([] if process == "tools" else ["probe", "/healthz"])


@pytest.mark.parametrize("process", SETTINGS)
def test_the_settings_of_an_image_are_those_of_its_process(
    process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = shipped_images()[process].env

    assert unknown_settings(process, [*env]) == set()
    assert load_settings(process, env, monkeypatch).metrics_port == 9464


def test_a_setting_of_another_process_is_found() -> None:
    names = ["SPENDMETER_DATA_DIR", "SPENDMETER_WEB_PORT", "SPENDMETER_DATADIR", "OTHER"]

    assert unknown_settings("stream", names) == {"SPENDMETER_WEB_PORT", "SPENDMETER_DATADIR"}


def test_each_extra_that_an_image_installs_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    asked = [name for found in re.findall(r'"\$1\[([\w,]+)\]"', DOCKERFILE) for name in found.split(",")]

    assert len(asked) >= len(SETTINGS)
    assert set(asked) <= set(project["optional-dependencies"])


def test_each_file_that_an_image_is_made_of_is_let_in() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    needed = [
        *wheel["targets"]["wheel"]["only-include"],
        *("pyproject.toml", "requirements.lock", "README.md", "LICENSE"),
        *re.findall(r"(?m)^COPY (?!--from)(deploy\S+)", DOCKERFILE),
        *re.findall(r"deploy/images/\w+\.lock", DOCKERFILE),
    ]
    let_in = [line[1:] for line in IGNORED if line.startswith("!")]

    assert [one for one in needed if not (ROOT / one).exists()] == []
    assert [one for one in needed if not any(fnmatch(one, pattern) for pattern in let_in)] == []


@pytest.mark.parametrize("name", ["build.lock", "prisma.lock"])
def test_a_lock_beside_the_projects_own_has_a_hash_for_each_package_and_the_same_releases(name: str) -> None:
    pins = dict(re.findall(r"(?m)^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text()))
    packages = re.split(r"(?m)^(?=\w)", (FOLDER / name).read_text())[1:]
    own = dict(re.findall(r"(?m)^([\w.-]+)==([\w.]+)", "".join(packages)))

    assert packages
    assert [one for one in packages if "--hash=sha256:" not in one] == []
    assert {one: own[one] for one in own if pins.get(one, own[one]) != own[one]} == {}


def test_the_images_and_the_checkout_install_with_the_same_tool() -> None:
    [of_make] = re.findall(r"uv==([\d.]+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    [of_images] = re.findall(r"(?m)^uv==([\d.]+)", (FOLDER / "build.lock").read_text(encoding="utf-8"))

    assert of_make == of_images


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.HTTPServer((LOOPBACK, 0), _Answers)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server.server_port
    server.shutdown()
    serving.join()
    server.server_close()


def probe(*asked: str, port: int) -> int:
    env = {"SPENDMETER_METRICS_PORT": str(port)}
    return subprocess.run([sys.executable, FOLDER / "probe.py", *asked], env=env, check=False).returncode


def test_a_probe_says_whether_all_that_it_asks_answer(port: int) -> None:
    well = f"http://{LOOPBACK}:{port}/healthz"

    assert probe("/healthz", port=port) == 0
    assert probe("/healthz", well, port=port) == 0
    assert probe("/healthz", f"http://{LOOPBACK}:{port}/readyz", port=port) == 1
    assert probe("/readyz", port=port) == 1
    assert probe("/healthz", port=free_port()) == 1
    assert probe(port=port) == 2


def test_a_probe_can_be_run() -> None:
    assert (FOLDER / "probe.py").stat().st_mode & 0o111 == 0o111
    assert Path(FOLDER / "probe.py").read_text().startswith("#!/usr/bin/env python3\n")
