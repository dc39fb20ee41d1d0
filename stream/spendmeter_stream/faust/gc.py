"""Garbage: when the cycle collector looks for it.

By itself it does so after 700 allocations, in the middle of batches that are anything but garbage, and now
and then through every account: a third of the processor time, and stalls that grow with the state.
"""

import gc
from time import monotonic

YOUNG_EVERY_SECONDS = 1.0


class StreamCollector:
    """Collects between rounds, when what they needed is gone already without it."""

    def __init__(self) -> None:
        self._collected_at = monotonic()

    def take_over(self) -> None:
        """From now on nothing is collected but by the calls below."""
        gc.disable()

    def between_rounds(self) -> None:
        """Look through what came since the last call, however many accounts there are."""
        if monotonic() - self._collected_at >= YOUNG_EVERY_SECONDS:
            self._collected_at = monotonic()
            gc.collect(1)

    def between_assignments(self) -> None:
        """Look through everything, when the accounts have just been dropped."""
        gc.collect()
