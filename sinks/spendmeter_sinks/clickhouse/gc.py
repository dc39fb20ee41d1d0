"""When the cycle collector runs.

Nearly everything that a batch allocates has no cycles and is freed once it is inserted. With its default
thresholds the collector traverses it again and again. It must run sometimes, because aiokafka leaves a cycle
around each fetched block.
"""

import gc
from time import monotonic

COLLECT_EVERY_SECONDS = 1.0
# This only bounds the garbage of a sink without inserts.
_COLLECT_AFTER = (1_000_000, 20, 20)


def leave_to_the_sink() -> None:
    """From now on collect only between inserts, and never what has been loaded so far."""
    gc.set_threshold(*_COLLECT_AFTER)
    gc.freeze()


class SinkCollector:
    """Collects between inserts, when reference counting has already freed what they needed."""

    def __init__(self) -> None:
        self._collected_at = monotonic()

    def between_inserts(self) -> None:
        if monotonic() - self._collected_at >= COLLECT_EVERY_SECONDS:
            gc.collect()
            self._collected_at = monotonic()
