"""Garbage: when the cycle collector looks for it.

Nearly all that a batch allocates is free of cycles and gone once it is inserted; by its own thresholds the
collector looks through it again and again. Not never: aiokafka leaves a cycle around each fetched block.
"""

import gc
from time import monotonic

COLLECT_EVERY_SECONDS = 1.0
# By itself it only bounds what a sink without inserts leaves behind.
_COLLECT_AFTER = (1_000_000, 20, 20)


def leave_to_the_sink() -> None:
    """From now on collect between inserts, and never what has been loaded until here."""
    gc.set_threshold(*_COLLECT_AFTER)
    gc.freeze()


class SinkCollector:
    """Collects between inserts, when what they needed is gone already without it."""

    def __init__(self) -> None:
        self._collected_at = monotonic()

    def between_inserts(self) -> None:
        if monotonic() - self._collected_at >= COLLECT_EVERY_SECONDS:
            gc.collect()
            self._collected_at = monotonic()
