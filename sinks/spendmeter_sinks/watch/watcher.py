"""The watcher: runs each check when it is due, publishes what is new, and then remembers the run.

    1. run        in a thread of its own: no check waits for another
    2. leave out  what history says was published before
    3. publish    until every in-sync replica has it
    4. remember   the run, in history: a restart goes on from there

A crash before 4 repeats the run. What it finds again has the same `alert_id`, and readers know it.
So do several watchers: each of them runs a check only if none has run it since it was due.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

from spendmeter.contract.alert import Alert
from spendmeter.contract.records import encode_alert
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import KafkaError, producer, start
from spendmeter.kafka.errors import explained
from spendmeter.runtime.clickhouse import Unusable
from spendmeter.runtime.metrics import READY
from spendmeter.runtime.process import pause
from spendmeter.runtime.threads import in_thread
from spendmeter.visible import one_line
from spendmeter_sinks.reconcile.connection import reading
from spendmeter_sinks.watch import run_log
from spendmeter_sinks.watch.check import Check, CheckFailed
from spendmeter_sinks.watch.metrics import OVERDUE, PUBLISHED, RUNS, SECONDS
from spendmeter_sinks.watch.settings import WatchSettings

log = logging.getLogger(__name__)

FIRST_AFTER = timedelta(minutes=1)
"""Of a check that never ran: the rest of the system may be about to start."""
RETRY_FIRST, RETRY_MAX = timedelta(seconds=30), timedelta(minutes=15)
WAKE_EVERY_SECONDS = 60.0
"""The clock may have been set, or the machine been asleep."""
MAX_REMEMBERED = 10_000
"""Alerts that this process has published; history may not have them yet."""

Now = Callable[[], datetime]


class FoundAlert(NamedTuple):
    """What a check returned, and whether it was published now."""

    alert: Alert
    is_new: bool


class Watcher:
    """Some checks, at work in one process."""

    def __init__(
        self,
        settings: WatchSettings,
        checks: Sequence[Check],
        now: Now = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._checks, self._now = settings, checks, now
        self._began_at = now()
        self._due: dict[str, datetime] = {}
        self._ran: dict[str, datetime] = {}
        self._published: OrderedDict[UUID, None] = OrderedDict()
        for check in checks:
            for outcome in ("done", "failed"):
                RUNS.labels(check.name, outcome)
            OVERDUE.labels(check.name).set_function(partial(self._overdue_seconds, check.name))

    def _overdue_seconds(self, name: str) -> float:
        due_at = self._due.get(name)
        return max(0.0, (self._now() - due_at).total_seconds()) if due_at is not None else 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Run each check whenever it is due, until `stop`."""
        works = [asyncio.create_task(self._keep(check, stop)) for check in self._checks]
        ending = asyncio.create_task(stop.wait())
        try:
            # Only a bug ends a check's work before `stop`.
            done, _ = await asyncio.wait([*works, ending], return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for task in (*works, ending):
                task.cancel()
            await asyncio.gather(*works, ending, return_exceptions=True)

    async def _keep(self, check: Check, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            wait_until = await self._run_if_due(check)
            if wait_until is None:
                failures += 1
                wait_until = self._now() + min(RETRY_FIRST * 2 ** min(failures - 1, 10), RETRY_MAX)
            else:
                failures = 0
            while not stop.is_set() and (left := (wait_until - self._now()).total_seconds()) > 0:
                await pause(stop, min(left, WAKE_EVERY_SECONDS))

    async def _run_if_due(self, check: Check) -> datetime | None:
        """When the check is due next; None where it failed."""
        try:
            last = await in_thread(partial(run_log.last_run, self._settings, check.name), "watch")
        except Unusable as error:
            await self._failed(check, error)
            return None
        if last is not None and last > self._now():
            # Noted by a clock that was ahead, and history keeps the latest.
            last = self._ran.get(check.name)
        due_at = self._due[check.name] = last + check.every if last else self._began_at + FIRST_AFTER
        if due_at > self._now():
            READY.set(1)
        elif await self.run_now(check) is None:
            return None
        return self._due[check.name]

    async def run_now(self, check: Check) -> list[FoundAlert] | None:
        """Run it once, publish what is new, remember it. None: it failed, which the log says."""
        began_at = self._now()
        try:
            found = await in_thread(partial(self._search, check, began_at), f"watch {check.name}")
            await self._publish(check, [one.alert for one in found if one.is_new])
            note = partial(run_log.note_run, self._settings, check.name, began_at, self._now(), len(found))
            await in_thread(note, "watch")
        except Exception as error:
            # A bug, too: one check stops no other.
            await self._failed(check, error)
            return None
        RUNS.labels(check.name, "done").inc()
        SECONDS.labels(check.name).set((self._now() - began_at).total_seconds())
        self._ran[check.name] = began_at
        self._due[check.name] = began_at + check.every
        READY.set(1)
        return found

    async def _failed(self, check: Check, error: Exception) -> None:
        RUNS.labels(check.name, "failed").inc()
        if isinstance(error, (Unusable, KafkaError)):
            READY.set(0)
        if isinstance(error, (Unusable, CheckFailed)):
            why = str(error)
        elif isinstance(error, KafkaError):
            why = await explained(error, self._settings)
        else:
            why = "a bug of ours, please report it"
            log.exception("check %s", check.name, exc_info=error)
        log.warning("check %s failed and is tried again: %s", check.name, why)

    def _search(self, check: Check, now: datetime) -> list[FoundAlert]:
        """Blocking."""
        with reading(self._settings) as history:
            alerts = list({alert.alert_id: alert for alert in check.run(history, now)}.values())
            before = run_log.published(history, [alert.alert_id for alert in alerts])
        return [
            FoundAlert(one, one.alert_id not in before and one.alert_id not in self._published)
            for one in alerts
        ]

    async def _publish(self, check: Check, alerts: Sequence[Alert]) -> None:
        """Return once every in-sync replica has them. Raises KafkaError."""
        if not alerts:
            return
        topic = self._settings.topic(Topic.ALERTS)
        kafka = producer(self._settings)
        try:
            await start(kafka)
            for alert in alerts:
                key, value, headers = encode_alert(alert, "watch")
                await kafka.send_and_wait(topic, value, key=key, headers=headers, partition=0)
                self._remember(alert.alert_id)
                PUBLISHED.labels(check.name, alert.kind).inc()
                log.info("%s: %s", alert.kind, one_line(alert.message))
        finally:
            await kafka.stop()

    def _remember(self, alert_id: UUID) -> None:
        self._published[alert_id] = None
        while len(self._published) > MAX_REMEMBERED:
            self._published.popitem(last=False)
