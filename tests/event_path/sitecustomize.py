"""Notes in a process which files' functions run between two moments. Python imports it as the process starts.

Of `TRACE` in the environment, a directory: while the file `begin` is in it, every function that runs is
noted; once `end` is there, the files are written, one a line, into `<pid>.files`. `<pid>.noting` says that it
has begun.
"""

import os
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

TRACE = "SPENDMETER_TEST_TRACE"
POLL_SECONDS = 0.02

_seen: set[str] = set()


def _note(frame: FrameType, event: str, arg: Any) -> None:
    # A module's own code runs when it is imported: that is not part of any event's path.
    if event == "call" and frame.f_code.co_name != "<module>":
        _seen.add(frame.f_code.co_filename)


def _follow(directory: Path) -> None:
    pause = threading.Event()
    for name, write in (("begin", "noting"), ("end", "files")):
        while not (directory / name).exists():
            pause.wait(POLL_SECONDS)
        lines = "" if write == "noting" else "\n".join(sorted(_seen.copy()))
        _seen.clear()
        written = directory / f"{os.getpid()}.part"
        written.write_text(lines, encoding="utf-8")
        written.rename(directory / f"{os.getpid()}.{write}")


if TRACE in os.environ:
    threading.Thread(target=_follow, args=(Path(os.environ[TRACE]),), daemon=True).start()
    threading.setprofile(_note)
    sys.setprofile(_note)
