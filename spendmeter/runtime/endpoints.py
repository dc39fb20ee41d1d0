"""A stack's directory: its files, whether a stack runs there, and the addresses of its components."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from spendmeter.files.text import write_atomically

DEFAULT_DIR = ".spendmeter"
LOCK_TIMEOUT_SECONDS = 1.0
SECRET_MODE = 0o600


class StackNotRunningError(RuntimeError):
    """No stack runs in the directory; the message names the command that starts one."""


class AlreadyRunningError(RuntimeError):
    """Another supervisor holds the directory."""


class Endpoints(BaseModel):
    """`endpoints.json`: what other programs need to know of a running stack."""

    model_config = ConfigDict(frozen=True)

    kafka_bootstrap: str
    clickhouse_url: str
    clickhouse_password: SecretStr = Field(exclude=True)
    """Of the user "default". Only in the file: commands that print endpoints leave it out."""
    proxy_url: str
    proxy_master_key: str
    upstream_url: str
    web_url: str = ""
    """Of the page; a stack of before has none."""
    metrics: dict[str, str]
    """Prometheus page of each component that has one."""
    pids: dict[str, int]
    """Of each component and of the `supervisor`, current after each restart."""

    @property
    def clickhouse_dsn(self) -> str:
        """The URL with user and password in it, for clients."""
        scheme, _, address = self.clickhouse_url.partition("//")
        return f"{scheme}//default:{self.clickhouse_password.get_secret_value()}@{address}"


@dataclass(frozen=True, slots=True)
class StackDir:
    """The paths of one stack. Absolute, since its processes may be started from anywhere."""

    path: Path

    @property
    def endpoints(self) -> Path:
        return self.path / "endpoints.json"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def ports(self) -> Path:
        return self.path / "ports.json"

    @property
    def lock(self) -> Path:
        return self.path / "supervisor.pid"

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def data(self, component: str) -> Path:
        return self.path / component

    def master_key(self) -> str:
        """The proxy's master key: random, made at first use, then the same."""
        return self._secret("master.key", "sk-")

    def clickhouse_password(self) -> str:
        """The password of the stack's ClickHouse: random, made at first use, then the same."""
        return self._secret("clickhouse.password")

    def _secret(self, name: str, prefix: str = "") -> str:
        path = self.path / name
        if not path.exists():
            write_atomically(path, f"{prefix}{secrets.token_urlsafe(24)}\n", mode=SECRET_MODE)
        return path.read_text().strip()

    @property
    def signing_keys(self) -> Path:
        return self.path / "signing.keys"

    def made_signing_keys(self) -> Path:
        """The file of the stack's signing key: random, made at first use, then the same."""
        self._secret(self.signing_keys.name)
        return self.signing_keys

    def supervisor_pid(self) -> int | None:
        """The pid of the supervisor that holds this directory, None if none does."""
        try:
            with self.lock.open() as file:
                # Shared, so that two may check at once; `hold` retries for longer than a check lasts.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return self._written_pid()
        return None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one supervisor of this directory. Released by the system however the process ends.

        So a pid file left by a crash means nothing; only the lock does. Raises AlreadyRunningError.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock.open("a+") as file:
            _lock(file.fileno(), self.path)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def _written_pid(self) -> int | None:
        # The holder writes just after it locks; in between, a reader finds nothing.
        with contextlib.suppress(ValueError):
            return int(self.lock.read_text())
        return None


def resolve_dir(option: Path | None = None) -> StackDir:
    """`--dir`, else `SPENDMETER_DIR`, else `.spendmeter` where the command runs."""
    return StackDir((option or Path(os.environ.get("SPENDMETER_DIR") or DEFAULT_DIR)).absolute())


def find_stack(dir: Path | None = None) -> Endpoints:  # noqa: A002
    """Where the stack of this directory listens. Raises StackNotRunningError."""
    stack = resolve_dir(dir)
    if stack.supervisor_pid() is None:
        raise StackNotRunningError(f"no stack runs in {stack.path}; start one: {_up(stack)}")
    try:
        return Endpoints.model_validate_json(stack.endpoints.read_text())
    except (FileNotFoundError, ValidationError):
        raise StackNotRunningError(
            f"the stack in {stack.path} is not ready yet; wait for it: {_up(stack)}"
        ) from None


def write_endpoints(stack: StackDir, endpoints: Endpoints) -> None:
    """Publish, readable by the owner only: it holds the master key and ClickHouse's password."""
    secret = {"clickhouse_password": endpoints.clickhouse_password.get_secret_value()}
    published = json.dumps({**endpoints.model_dump(mode="json"), **secret}, indent=2)
    write_atomically(stack.endpoints, published + "\n", mode=SECRET_MODE)


def _up(stack: StackDir) -> str:
    return (
        "spendmeter up" if stack.path == Path(DEFAULT_DIR).absolute() else f"spendmeter up --dir {stack.path}"
    )


def _lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise AlreadyRunningError(f"a stack runs in {path}") from None
            time.sleep(0.05)
