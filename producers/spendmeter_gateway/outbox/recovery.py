"""Recovers outboxes that dead processes left behind."""

import logging
from pathlib import Path

from spendmeter.domain.writers import SIGNED
from spendmeter_gateway.outbox.lock import Lock, take_over
from spendmeter_gateway.outbox.reader import OutboxReader

log = logging.getLogger(__name__)


class OrphanedOutbox:
    """The outbox of a process that is gone. Nothing is appended to it; its events keep their order."""

    def __init__(self, unsent: OutboxReader, lock: Lock) -> None:
        self.unsent = unsent
        self._lock = lock

    def remove(self) -> None:
        """Remove it: all of its events are acknowledged. Raises OSError."""
        self.unsent.close()
        self._lock.remove()

    def release(self) -> None:
        """Leave it to the next process."""
        self.unsent.close()
        self._lock.release()


def predecessors(root: Path, *, can_sign: bool) -> list[OrphanedOutbox]:
    """Every outbox under `root` whose process is gone, oldest first; now locked by this process.

    An outbox of a gateway that signs stays where it is unless this one signs, too: unsigned, its events would
    not count. Raises OSError if `root` cannot be read.
    """
    if not root.exists():
        return []
    taken = []
    for directory in sorted(path for path in root.iterdir() if path.is_dir()):
        if directory.name.endswith(SIGNED) and not can_sign:
            log.error(
                "outbox %s stays: it was begun with a signing key, and this gateway has none; set"
                " SPENDMETER_SIGNING_KEYS as before and start again",
                directory.name,
            )
            continue
        lock = take_over(directory)
        if lock is None:
            continue
        try:
            taken.append(OrphanedOutbox(OutboxReader(directory, directory.name, is_live=False), lock))
        except OSError as error:
            log.error("outbox %s was left behind and cannot be opened, it stays: %s", directory.name, error)
            lock.release()
        else:
            log.info("outbox %s was left behind and will be finished", directory.name)
    return taken
