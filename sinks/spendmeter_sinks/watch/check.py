"""What a check is: it searches history and returns what somebody should know."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Protocol

from spendmeter.contract.alert import Alert, AlertKind, alert_id
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.account import account_name


class CheckFailed(Exception):
    """A check cannot run now; the message says why and what to do. It is tried again."""


class Check(Protocol):
    """One thing to search for.

    A check remembers nothing. It returns all that is so as of `now`, and the watcher leaves out what was
    published before: so the same finding must have the same `alert_id` in each run, whatever `now` is.
    """

    @property
    def name(self) -> str:
        """As in `spendmeter watch --once NAME`; it is for ever, as its last run is remembered by it."""
        ...

    @property
    def every(self) -> timedelta:
        """How long after the begin of a run the next one is due."""
        ...

    def run(self, history: Client, now: datetime) -> Sequence[Alert]:
        """Search. Blocking: it is called in a thread of its own. `history` only reads.

        Raises:
            CheckFailed: see the message.
            clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
        """
        ...


def finding(
    kind: AlertKind,
    about: str,
    since: datetime,
    qualifier: str,
    message: str,
    now: datetime,
    subject: Mapping[str, str] = MappingProxyType({}),
) -> Alert:
    """An alert of no account. `about`, `since`, `kind` and `qualifier` make its id, as in `alert_id`.

    `subject`: whom it concerns, by which routes match it.
    """
    return Alert(
        alert_id=alert_id(about, since, kind, qualifier),
        kind=kind,
        subject={**subject},
        message=message,
        emitted_at=now,
    )


def finding_of(
    kind: AlertKind, subject: Mapping[str, str], since: datetime, qualifier: str, message: str, now: datetime
) -> Alert:
    """An alert of whom the subject names, or of everything."""
    about = account_name("", subject.items())
    return finding(kind, about, since, qualifier, message, now, subject)
