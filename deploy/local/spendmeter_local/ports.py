"""Ports on loopback, picked once per stack and kept as long as they stay free."""

import json
import random
import socket
from collections.abc import Iterable
from pathlib import Path

from spendmeter.files.text import write_atomically

LOOPBACK = "127.0.0.1"
# Below the range of outgoing connections (Linux from 32768, others from 49152): a client's
# own connection must never occupy the port of a component that restarts.
CANDIDATES = range(20_000, 32_000)
MAX_TRIES = 500


class NoFreePortError(RuntimeError):
    """No free port was found in `MAX_TRIES` tries."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback now."""
    with socket.socket() as probe:
        # As servers do, so that a port in TIME_WAIT after a restart counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(in_use: Iterable[int] = ()) -> int:
    """A port nobody listens on, and none of `in_use`."""
    avoided = set(in_use)
    for _ in range(MAX_TRIES):
        port = random.choice(CANDIDATES)
        if port not in avoided and is_free(port):
            return port
    raise NoFreePortError(f"no free port on {LOOPBACK} in {MAX_TRIES} tries")


def keep_ports(path: Path, names: Iterable[str]) -> dict[str, int]:
    """A port for each name: the one stored in the file at `path` while free, else a new one, stored there."""
    kept = _read(path)
    ports: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        if port is None or port in ports.values() or not is_free(port):
            port = free_port({*ports.values(), *kept.values()})
        ports[name] = port
    write_atomically(path, json.dumps({**kept, **ports}, indent=2) + "\n")
    return ports


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {name: port for name, port in found.items() if isinstance(port, int)}
