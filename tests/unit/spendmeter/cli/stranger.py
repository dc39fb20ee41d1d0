"""Runs many commands as people do: `python stranger.py < cases > results`.

The libraries are imported once. Only a case that is a `process` costs a fork: it has signals, a user and
streams of its own. One that is `whole`, too, goes on until the interpreter has ended, which takes long.
"""

import io
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60.0
MAX_CAPTURED_BYTES = 1_000_000
NOBODY = 54_321
"""A user that no machine has: without a name, without a home."""


def main() -> None:
    from spendmeter.cli.entry import main as entry
    from spendmeter.cli.main import main as commands

    # Whoever starts tests in the background has them ignore it, and what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in commands.list_commands(None):  # type: ignore[arg-type]
        commands.get_command(None, name)  # type: ignore[arg-type]
    # Nobody may not be allowed to read this Python's libraries, from which these would be loaded later.
    "".encode("idna")
    import_module("spendmeter_stream.faust.app")
    import_module("spendmeter_sinks.alerts.receivers")
    import_module("spendmeter_sinks.alerts.relay")
    for line in sys.stdin:
        case = json.loads(line)
        if not case.get("process"):
            print(json.dumps(_inside(entry, case)), flush=True)
            continue
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _silent_server() as server:
            port = str(server.getsockname()[1])
            child = os.fork()
            if child == 0:
                _become(case, out.fileno(), err.fileno(), port)
                server.close()
                if case.get("whole"):
                    return entry()
                exit_code = _code_of(entry)
                sys.stdout.flush()
                os._exit(exit_code)
            code = _ended(child, server if case.get("interrupt") else None)
            print(
                json.dumps({"code": code, "out": _read(out), "err": _read(err)}),
                flush=True,
            )
    return None


def _inside(entry: Callable[[], None], case: dict[str, Any]) -> dict[str, Any]:
    """A command within this process, as far as such a one can be told from one of its own."""
    before = sys.argv, sys.stdin, sys.stdout, sys.stderr
    out, err = io.BytesIO(), io.BytesIO()
    _call(case, "1")
    encoding = case.get("encoding", "utf-8")
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    sys.stdout = io.TextIOWrapper(out, encoding=encoding)
    sys.stderr = io.TextIOWrapper(err, encoding=encoding, errors="backslashreplace")
    code = _code_of(entry)
    sys.stdout.flush()
    sys.stderr.flush()
    said = {"code": code, "out": _text(out), "err": _text(err)}
    sys.argv, sys.stdin, sys.stdout, sys.stderr = before
    return said


def _text(written: io.BytesIO) -> str:
    return written.getvalue().decode(errors="backslashreplace")


def _code_of(entry: Callable[[], None]) -> int:
    try:
        entry()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _call(case: dict[str, Any], port: str) -> None:
    os.environ.clear()
    os.environ.update({name: text.replace("{port}", port) for name, text in case["env"].items()})
    arguments = (
        text.encode(errors="surrogatepass").decode(errors="surrogateescape") for text in case["args"]
    )
    sys.argv = ["spendmeter", *arguments]
    os.chdir(case["cwd"])


def _become(case: dict[str, Any], out: int, err: int, port: str) -> None:
    os.setsid()
    _call(case, port)
    os.dup2(os.open(case.get("stdin", os.devnull), os.O_RDONLY), 0)
    if case.get("closed_pipe"):
        read, out = os.pipe()
        os.close(read)
    os.dup2(out, 1)
    os.dup2(err, 2)
    # As at the start of an interpreter, whose streams know their encoding from the locale.
    encoding = case.get("encoding", "utf-8")
    sys.stdin = _stream(0, encoding)
    sys.stdout = _stream(1, encoding)
    sys.stderr = _stream(2, encoding, errors="backslashreplace")
    if case.get("nobody") and os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _stream(descriptor: int, encoding: str, errors: str = "strict") -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "rb" if descriptor == 0 else "wb", closefd=False)
    buffer: Any = io.BufferedReader(raw) if descriptor == 0 else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, encoding=encoding, errors=errors, line_buffering=descriptor == 2)


def _silent_server() -> socket.socket:
    """Takes connections and says nothing; whoever waits for it can be interrupted."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(64)
    return server


def _ended(child: int, interrupted_at: socket.socket | None) -> int | str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    ending = os.pidfd_open(child)
    kept = []
    try:
        while (left := deadline - time.monotonic()) > 0:
            waited: list[int | socket.socket] = [
                ending,
                *([interrupted_at] if interrupted_at is not None else []),
            ]
            ready, _, _ = select.select(waited, [], [], left)
            if ending in ready:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if interrupted_at is not None and interrupted_at in ready:
                kept.append(interrupted_at.accept())
                os.kill(child, signal.SIGINT)
                interrupted_at = None
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return f"still running after {PATIENCE_SECONDS:g} s"
    finally:
        os.close(ending)
        for connection, _ in kept:
            connection.close()


def _read(file: Any) -> str:
    file.seek(0)
    return bytes(file.read(MAX_CAPTURED_BYTES)).decode(errors="backslashreplace")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[4]))
    main()
