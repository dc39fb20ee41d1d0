"""Routes: which alerts go where, and when. Pure; the clock is passed in.

Routes are tried in their order, as Alertmanager's are: the first that matches has the alert, and those behind
it only where it says `continue`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.budget import ANY
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.globs import fits
from spendmeter.domain.thresholds import share_of

MAX_ROUTES = 50
MAX_AGE = timedelta(days=35)
"""As long as spend.alerts keeps an alert."""
MAX_REMINDERS = 10


class Service(StrEnum):
    """What a receiver speaks."""

    WEBHOOK = "webhook"
    LITELLM = "litellm"
    """A webhook with the fields of LiteLLM's own."""
    ALERTMANAGER = "alertmanager"
    APPRISE = "apprise"


class Target(NamedTuple):
    """A receiver, as it is reached."""

    service: Service
    url: SecretStr
    """Apprise's, and many a webhook's, is a password."""
    secret: SecretStr | None = None
    """Signs a webhook; Alertmanager's bearer token."""
    named_by: str = ""
    """What stands in the file, to be shown: the setting that has the URL, or a URL without a secret."""


class AlertMatch(NamedTuple):
    """What an alert must be for a route to have it; what is not given does not matter."""

    kinds: frozenset[AlertKind] = frozenset()
    budgets: tuple[str, ...] = ()
    """Ids, in which `*` stands for any characters."""
    subject: Mapping[str, tuple[str, ...]] = {}
    """Dimension to the values that are meant, with `*` as above."""
    share: float = 0.0
    """Of the limit, spent at least."""
    amount_nanousd: NanoUsd = NanoUsd(0)
    """Spent at least."""

    def fits(self, alert: Alert) -> bool:
        """Whether all that is given is true of the alert."""
        if self.kinds and alert.kind not in self.kinds:
            return False
        signal, subject = alert.signal, alert.concerns
        if not all(
            dimension in subject and _any_fits(values, subject[dimension])
            for dimension, values in self.subject.items()
        ):
            return False
        if signal is None:
            return not (self.budgets or self.share or self.amount_nanousd)
        return (
            (not self.budgets or _any_fits(self.budgets, signal.budget_id))
            and signal.spent_nanousd >= share_of(signal.limit_nanousd, self.share)
            and signal.spent_nanousd >= self.amount_nanousd
        )


class Quiet(NamedTuple):
    """Hours in which nothing is sent, on a zone's clock; they may pass midnight."""

    begins: time
    ends: time
    zone: ZoneInfo
    except_kinds: frozenset[AlertKind] = frozenset()

    def end_after(self, at: datetime) -> datetime | None:
        """When the quiet hours end that this moment lies in; None outside of them."""
        local = at.astimezone(self.zone)
        clock = local.time()
        passes_midnight = self.begins >= self.ends
        within = (
            clock >= self.begins or clock < self.ends if passes_midnight else self.begins <= clock < self.ends
        )
        if not within:
            return None
        day = local.date() + timedelta(days=passes_midnight and clock >= self.begins)
        return datetime.combine(day, self.ends, self.zone).astimezone(at.tzinfo)


class Reminders(NamedTuple):
    """Said again for as long as an account is over its limit."""

    every: timedelta
    at_most: int = MAX_REMINDERS


class Route(NamedTuple):
    """One receiver, and what is sent to it."""

    name: str
    target: Target
    match: AlertMatch = AlertMatch()
    goes_on: bool = False
    """`continue`: routes behind this one may have the alert, too."""
    title: str = ""
    """A template; empty is our own."""
    template: str = ""
    after: timedelta | None = None
    """An escalation: only what has not recovered for so long."""
    digest: timedelta | None = None
    """Alerts of so long go out as one message."""
    quiet: Quiet | None = None
    reminders: Reminders | None = None
    max_age: timedelta = MAX_AGE
    """An alert that is older is not sent any more."""


class Due(NamedTuple):
    """When a held alert is sent, and why then."""

    at: datetime
    why: str


def routes_of(routes: Sequence[Route], alert: Alert) -> list[Route]:
    """The routes that have the alert, in their order."""
    found = []
    for route in routes:
        if route.match.fits(alert):
            found.append(route)
            if not route.goes_on:
                break
    return found


def due(route: Route, alert: Alert, now: datetime, digest_at: datetime | None) -> Due | None:
    """When to send an alert that has come now; None is at once.

    `digest_at`: when the route's next digest goes out, where alerts wait for one already.
    """
    at, why = now, ""
    if route.after is not None and alert.emitted_at + route.after > at:
        at, why = alert.emitted_at + route.after, f"escalates after {span(route.after)}"
    elif route.digest is not None:
        # A relay whose clock was ahead may have put the next one off for too long.
        at = min(digest_at or now + route.digest, now + route.digest)
        why = f"waits for the digest of {span(route.digest)}"
    quiet = route.quiet
    if quiet is not None and alert.kind not in quiet.except_kinds and (ends := quiet.end_after(at)):
        at, why = ends, f"quiet hours until {quiet.ends:%H:%M} {quiet.zone.key}"
    return Due(at, why) if at > now else None


def next_reminder(route: Route, alert: Alert, sent: int, now: datetime) -> datetime | None:
    """When to say an exceeded budget again, after so many reminders; None is never."""
    reminders, signal = route.reminders, alert.signal
    if reminders is None or alert.kind is not AlertKind.EXCEEDED or signal is None:
        return None
    at = now + reminders.every
    if route.quiet is not None and alert.kind not in route.quiet.except_kinds:
        at = route.quiet.end_after(at) or at
    is_over = signal.window_end is not None and at >= signal.window_end
    return None if sent >= reminders.at_most or is_over else at


def closes(alert: Alert, opened: Alert) -> bool:
    """Whether this alert ends what the other said: the account is below its limit again."""
    return (
        alert.kind is AlertKind.RECOVERED
        and opened.kind is not AlertKind.RECOVERED
        and alert.signal is not None
        and opened.signal is not None
        and alert.signal.account == opened.signal.account
        and alert.emitted_at >= opened.emitted_at
    )


def span(length: timedelta) -> str:
    """`90m`, `2h`, `3d`: as it is written in the file."""
    seconds = int(length.total_seconds())
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds and seconds % unit == 0:
            return f"{seconds // unit}{name}"
    return f"{seconds}s"


def _any_fits(wanted: tuple[str, ...], value: str) -> bool:
    return any(fits(one, value) if ANY in one else one == value for one in wanted)
