"""The services of compose.yaml as processes of this machine: their own commands, environments and mounts.

A container is imitated by rewriting what is its alone: `kafka:9092` and the other hosts to what listens for
them here, ports to free ones, paths to where their mounts are. Nothing else is changed.
"""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spendmeter_local.children import kill_child, start_child, stop_child
from spendmeter_local.ports import LOOPBACK, free_port
from tests.deployment import DEPLOY, Image, compose, shipped_images
from tests.patience import WITHIN_SECONDS

BIN = Path(sys.executable).parent
PORTS_OF_OURS = (4000, 8180, 9464)


@dataclass
class Containers:
    """The services of a folder in which init.sh was run."""

    folder: Path
    data: Path
    servers: Mapping[str, str]
    """`kafka:9092` to what is there for it here."""
    instead: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """What a test has to set otherwise, by service. None: not set."""
    services: dict[str, dict[str, Any]] = field(init=False)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _images: dict[str, Image] = field(default_factory=shipped_images)
    _ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        said = compose("--profile", "*", "config", "--format", "json", cwd=self.folder)
        assert said.returncode == 0, said.stderr
        self.services = json.loads(said.stdout)["services"]

    @property
    def processes(self) -> list[str]:
        """Services of ours that go on."""
        return [name for name, one in self.services.items() if "build" in one and "healthcheck" in one]

    def port(self, service: str, port: int | str) -> int:
        """Where the port of this container is."""
        known = (service, str(port))
        if known not in self._ports:
            self._ports[known] = free_port(self._ports.values())
        return self._ports[known]

    def start(self, service: str) -> None:
        """As `docker compose up SERVICE` would, without what it depends on."""
        command = self._command(service, self.services[service].get("command") or [])
        self.running[service] = start_child(command, log=self.log(service), cwd=self._workdir(service))

    def run(self, service: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """As `docker compose run --rm -T SERVICE ARGUMENTS` would."""
        command = self._command(service, arguments or self.services[service]["command"])
        return subprocess.run(
            command,
            cwd=self._workdir(service),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=WITHIN_SECONDS,
            check=False,
        )

    def has_ended(self, service: str) -> bool:
        """Whether the process is no more, by itself."""
        return self.running[service].poll() is not None

    def is_healthy(self, service: str) -> bool:
        """What the healthcheck of the service says now."""
        kind, *test = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        command = self._command(service, test, entrypoint=[])
        return (
            subprocess.run(command, capture_output=True, timeout=WITHIN_SECONDS, check=False).returncode == 0
        )

    def stop(self, service: str) -> bool:
        """SIGTERM; whether it ended by itself, well, within its grace.

        uvicorn, which serves the page and LiteLLM, ends in order and then by the signal.
        """
        grace = float(self.services[service]["stop_grace_period"].removesuffix("s"))
        process = self.running.pop(service)
        return stop_child(process, grace_seconds=grace) and process.returncode in (0, -signal.SIGTERM)

    def kill(self) -> None:
        """End all that runs."""
        for process in self.running.values():
            kill_child(process)

    def log(self, service: str) -> Path:
        return self.data / f"{service}.log"

    def _image(self, service: str) -> Image:
        return self._images[self.services[service]["build"]["target"]]

    def _workdir(self, service: str) -> Path:
        folder = self.data / service
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _command(
        self, service: str, arguments: Sequence[str], entrypoint: Sequence[str] | None = None
    ) -> list[str]:
        image = self._image(service)
        program, *rest = [
            *(image.entrypoint if entrypoint is None else entrypoint),
            *(arguments or image.command),
        ]
        found = (
            [sys.executable, str(DEPLOY / "images/probe.py")] if program == "probe" else [str(BIN / program)]
        )
        # Nothing of this process's own environment, as in a container.
        env = [f"{name}={value}" for name, value in self.environment(service).items()]
        return ["env", "-i", *env, *found, *(self._here(service, one) for one in rest)]

    def environment(self, service: str) -> dict[str, str]:
        """The settings of the process."""
        set_ = {**self._image(service).env, **self.services[service].get("environment", {})}
        set_ |= {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(self._workdir(service))}
        here: dict[str, str | None] = {name: self._here(service, value) for name, value in set_.items()}
        here |= self.instead.get(service, {})
        return {name: value for name, value in here.items() if value is not None}

    def _here(self, service: str, text: str) -> str:
        if text == "0.0.0.0":
            return LOOPBACK
        if text.isdigit() and int(text) in PORTS_OF_OURS:
            return str(self.port(service, text))
        text = re.sub(
            r"\b([a-z]+|127\.0\.0\.1):(\d{4})\b", lambda found: self._server(service, *found.groups()), text
        )
        mounts = self._mounts(service)
        inside = "|".join(map(re.escape, mounts))
        return re.sub(rf"(?<![\w/])({inside})(?=/|$)", lambda found: str(mounts[found[1]]), text)

    def _server(self, service: str, host: str, port: str) -> str:
        if f"{host}:{port}" in self.servers:
            return self.servers[f"{host}:{port}"]
        if host == LOOPBACK:
            published = [
                name
                for name, one in self.services.items()
                for found in one.get("ports", ())
                if found["published"] == port
            ]
            host = published[0] if published else service
        if host not in self.services:
            return f"{host}:{port}"
        return f"{LOOPBACK}:{self.port(host, port)}"

    def _mounts(self, service: str) -> dict[str, Path]:
        volumes = self.services[service].get("volumes", ())
        mounts = {
            one["target"]: Path(one["source"])
            if one["type"] == "bind"
            else self.data / "volumes" / one["source"]
            for one in volumes
        }
        mounts["/tmp"] = self._workdir(service) / "tmp"
        for one, folder in mounts.items():
            if not folder.suffix:
                folder.mkdir(parents=True, exist_ok=True)
            assert folder.exists(), f"{one} of {service} is mounted from {folder}, which is not there"
        return mounts
