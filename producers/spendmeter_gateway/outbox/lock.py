"""The owner of an outbox: a lock that the kernel holds as long as the owner's process lives."""

import fcntl
import os
import weakref
from pathlib import Path

_LOCK_SUFFIX = ".lock"


class Lock:
    """A lock on one outbox, held until released or until the process ends, however it ends.

    Its file is beside the outbox and is locked before the outbox's directory exists, so a
    directory with a free lock belongs to nobody. It needs a file system on which flock works.
    """

    def __init__(self, fd: int, directory: Path) -> None:
        self._directory = directory
        # Also if it is dropped unreleased: otherwise nobody could finish the outbox while this process lives.
        self._close = weakref.finalize(self, os.close, fd)

    def release(self) -> None:
        """Leave the outbox to the next process."""
        self._close()

    def remove(self) -> None:
        """Remove the outbox's directory, which must hold nothing of value any more. Raises OSError."""
        try:
            for path in self._directory.iterdir():
                path.unlink()
            self._directory.rmdir()
            _lock_path(self._directory).unlink(missing_ok=True)
        finally:
            self.release()


def found(directory: Path) -> Lock:
    """Make a new outbox's directory, locked. Raises OSError."""
    directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(_lock_path(directory), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        directory.mkdir(mode=0o700)
    except OSError:
        _lock_path(directory).unlink(missing_ok=True)
        os.close(fd)
        raise
    return Lock(fd, directory)


def take_over(directory: Path) -> Lock | None:
    """Lock an outbox whose process is gone; None if it lives, or another has the lock. Raises OSError."""
    try:
        fd = os.open(_lock_path(directory), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if not directory.exists():
        # It was finished and removed between listing and locking.
        os.close(fd)
        return None
    return Lock(fd, directory)


def _lock_path(directory: Path) -> Path:
    return directory.with_name(directory.name + _LOCK_SUFFIX)
