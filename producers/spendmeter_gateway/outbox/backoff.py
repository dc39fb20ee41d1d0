"""What the sender does after a failure: it waits, longer each time, and says so now and then."""

import asyncio
import logging
import time

from prometheus_client import Counter

log = logging.getLogger(__name__)

FAILED = Counter("spendmeter_sender_failures_total", "Attempts to send that failed.")

_FIRST_BACKOFF_SECONDS = 0.05
_MAX_BACKOFF_SECONDS = 2.0
_SECONDS_BETWEEN_LOGS = 30.0


class Backoff:
    """Waits longer after each failure in a row, and says so at most once in thirty seconds."""

    def __init__(self) -> None:
        self._backoff_seconds = 0.0
        self._quiet_until = 0.0

    async def back_off(self, what: str) -> None:
        FAILED.inc()
        if time.monotonic() >= self._quiet_until:
            log.warning("%s; events stay in the outbox and are sent when it works again", what)
            self._quiet_until = time.monotonic() + _SECONDS_BETWEEN_LOGS
        self._backoff_seconds = min(
            max(2 * self._backoff_seconds, _FIRST_BACKOFF_SECONDS), _MAX_BACKOFF_SECONDS
        )
        await asyncio.sleep(self._backoff_seconds)

    def end(self) -> None:
        if self._backoff_seconds:
            log.warning("Kafka takes events again")
        self._backoff_seconds = self._quiet_until = 0.0
