"""The scheduled `spendmeter reconcile`: each is remembered; an alert says what no alert has said before."""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.history.reconciles import (
    ReconcileOutcome,
    ReconcileRun,
    differences_said,
    last_equal,
    note_reconcile,
)
from spendmeter.kafka.client import KafkaError
from spendmeter.kafka.errors import explained
from spendmeter.runtime.clickhouse import Client, Unusable
from spendmeter.runtime.process import pause
from spendmeter.runtime.threads import in_thread
from spendmeter.values.times import EPOCH
from spendmeter_sinks.reconcile.connection import reading, writing
from spendmeter_sinks.reconcile.kafka_reader import CannotCompare
from spendmeter_sinks.reconcile.remember import remembered
from spendmeter_sinks.reconcile.report import Report
from spendmeter_sinks.reconcile.run import reconcile
from spendmeter_sinks.reconcile.scope import WindowFilter
from spendmeter_sinks.watch.check import CheckFailed, finding
from spendmeter_sinks.watch.metrics import DIFFERENCES, SINCE_EQUAL
from spendmeter_sinks.watch.settings import WatchSettings

RUN_BY = "watch"
SHOW_EVERY_SECONDS = 600.0
_STARTED_AT = datetime.now(UTC)


@dataclass(frozen=True)
class Drift:
    """Compares all windows; one alert for all that is new in what differs."""

    settings: WatchSettings
    name: str = "drift"

    @property
    def every(self) -> timedelta:
        return timedelta(hours=self.settings.watch_reconcile_every_hours)

    def run(self, history: Client, now: datetime) -> Sequence[Alert]:
        began = monotonic()
        try:
            report = asyncio.run(self._compare(history, now))
        except (CannotCompare, KafkaError) as error:
            why = asyncio.run(self._why(error))
            ran_ms = round(1_000 * (monotonic() - began))
            self._note(ReconcileRun(now, ran_ms, ReconcileOutcome.NOT_COMPARABLE, why, RUN_BY))
            raise CheckFailed(f"cannot compare: {why}") from error
        run, equal_at = remembered(report, RUN_BY), last_equal(history)
        alert = drift_alert(run, equal_at, differences_said(history, equal_at), now)
        self._note(run._replace(alert_id=alert.alert_id if alert else None))
        DIFFERENCES.set(run.differences)
        show_equal_at(now if report.equal else equal_at)
        return [alert] if alert else []

    async def _compare(self, history: Client, now: datetime) -> Report:
        wait_seconds = self.settings.watch_reconcile_wait_seconds
        return await reconcile(self.settings, history, WindowFilter(), now, wait_seconds)

    async def _why(self, error: CannotCompare | KafkaError) -> str:
        return await explained(error, self.settings) if isinstance(error, KafkaError) else str(error)

    def _note(self, run: ReconcileRun) -> None:
        with writing(self.settings) as client:
            note_reconcile(client, run)


def drift_alert(
    run: ReconcileRun, equal_at: datetime | None, said: frozenset[str], now: datetime
) -> Alert | None:
    """The alert for what differs and was not `said` since all was equal; None if there is nothing. Pure."""
    new = [line for line in run.found if line not in said]
    if not new:
        return None
    digest = hashlib.sha256("\n".join(new).encode()).hexdigest()
    are = "is" if len(new) == 1 else "are"
    earlier = f" {len(new):,} of them {are} new." if len(new) < len(run.found) else ""
    message = f"{run.summary}.{earlier} `spendmeter reconcile` shows each difference"
    return finding(AlertKind.DRIFT, "reconcile", equal_at or EPOCH, digest, message, now)


async def show_since_equal(settings: WatchSettings, stop: asyncio.Event) -> None:
    """Keep the metric up to date until `stop`: another watcher, or a person, may have compared, too."""
    while not stop.is_set():
        with suppress(Unusable):
            show_equal_at(await in_thread(partial(_read_last_equal, settings), "watch"))
        await pause(stop, SHOW_EVERY_SECONDS)


def show_equal_at(equal_at: datetime | None) -> None:
    """The metric counts from when all was last equal; where it never was, from the start of this process."""
    since = equal_at or _STARTED_AT
    SINCE_EQUAL.set_function(lambda: (datetime.now(UTC) - since).total_seconds())


def _read_last_equal(settings: WatchSettings) -> datetime | None:
    with reading(settings) as client:
        return last_equal(client)
