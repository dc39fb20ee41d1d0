"""What each team spent in a day or week, beside the one before: when it is said, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.money import NanoUsd
from spendmeter.history.names import name_of
from spendmeter.runtime.clickhouse import Client
from spendmeter.visible import one_line
from spendmeter_sinks.alerts.message import share_text, usd
from spendmeter_sinks.watch.check import finding_of
from spendmeter_sinks.watch.freshness import wait_for_history
from spendmeter_sinks.watch.run_log import published
from spendmeter_sinks.watch.settings import WatchSettings
from spendmeter_sinks.watch.spend_reports import DigestPeriod, SpendReport, read_reports

EVERY = timedelta(minutes=10)
WEEKLY_CAUGHT_UP = timedelta(days=3)
"""So long after it was due a weekly digest is sent, and a daily one until the next: the watcher may have been
down."""


def periods_due(which: str, now: datetime, zone: ZoneInfo, hour: int) -> list[DigestPeriod]:
    """Those that are over and whose hour has come; `which` are `daily`, `weekly` or `both`, else none."""
    today, found = now.astimezone(zone).date(), list[DigestPeriod]()
    if which in ("daily", "both"):
        # Before the hour it is still that of the day before.
        end = today if now >= _at(today, hour, zone) else today - timedelta(days=1)
        found.append(_period("daily", end, 1, zone))
    if which in ("weekly", "both"):
        monday = today - timedelta(days=today.weekday())
        due_at = _at(monday, hour, zone)
        if due_at <= now < due_at + WEEKLY_CAUGHT_UP:
            found.append(_period("weekly", monday, 7, zone))
    return found


def digest_text(of: SpendReport, period: DigestPeriod, zone: ZoneInfo) -> str:
    """In lines, the first of which stands for all."""
    who = f"team {name_of('team', of.team, {('team', of.team): of.name})}" if of.team else "everything"
    begins = period.start.astimezone(zone)
    day = f"{begins:%a} {begins.day} {begins:%b}"
    when = f"on {day} ({zone.key})" if period.name == "daily" else f"in the week from {day} ({zone.key})"
    requests = f"{of.requests:,} request{'s' if of.requests != 1 else ''}"
    lines = [
        f"{who} spent {usd(of.spent_nanousd)} {when}, {_beside(of, period)}",
        f"{requests}, {f'{of.refused:,}' if of.refused else 'none'} refused",
    ]
    for what, some in of.largest.items():
        if some:
            shown = [f"{one.name} {usd(one.spent_nanousd)}" for one in some]
            rest = NanoUsd(of.spent_nanousd - sum(one.spent_nanousd for one in some))
            lines.append(f"{what}s: {', '.join(shown)}" + (f"; others {usd(rest)}" if rest > 0 else ""))
    if of.closest:
        shown = [
            f"{one.budget_id}{f' of {one.whose}' if one.whose else ''}"
            f" {share_text(one.spent_nanousd, one.limit_nanousd)}"
            f" ({usd(one.spent_nanousd)} of {usd(one.limit_nanousd)})"
            for one in of.closest
        ]
        lines.append(f"budgets closest to their limit now: {', '.join(shown)}")
    return "\n".join(map(one_line, lines))


def _beside(of: SpendReport, period: DigestPeriod) -> str:
    before = "the day before" if period.name == "daily" else "the week before"
    if of.before_nanousd <= 0:
        return f"and {usd(of.before_nanousd) if of.before_nanousd else 'nothing'} {before}"
    more = of.spent_nanousd - of.before_nanousd
    per_cent = 100 * abs(more) // of.before_nanousd
    how = f"{per_cent:,} % {'more' if more > 0 else 'less'} than" if per_cent else "about as much as"
    return f"{how} {before} ({usd(of.before_nanousd)})"


@dataclass(frozen=True)
class Digests:
    """Once per team and period, and once of everything."""

    settings: WatchSettings
    name: str = "digests"

    @property
    def every(self) -> timedelta:
        return EVERY if self.settings.watch_digests != "off" else timedelta()

    def run(self, history: Client, now: datetime) -> Sequence[Alert]:
        settings, zone = self.settings, self.settings.watch_zone
        alerts = list[Alert]()
        for period in periods_due(settings.watch_digests, now, zone, settings.watch_digest_hour):
            # That of everything is the last: if it was published, all were.
            if published(history, [_alert({}, "", period, now).alert_id]):
                continue
            wait_for_history(settings, "a digest would lack some of it")
            for one in read_reports(history, period):
                subject = {"team": one.team} if one.team else {}
                alerts.append(_alert(subject, digest_text(one, period, zone), period, now))
        return alerts


def _alert(subject: Mapping[str, str], text: str, period: DigestPeriod, now: datetime) -> Alert:
    return finding_of(AlertKind.DIGEST, subject, period.start, period.name, text, now)


def _period(name: str, end: date, days: int, zone: ZoneInfo) -> DigestPeriod:
    before, start = end - timedelta(days=2 * days), end - timedelta(days=days)
    return DigestPeriod(name, _at(before, 0, zone), _at(start, 0, zone), _at(end, 0, zone))


def _at(day: date, hour: int, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(hour), zone).astimezone(UTC)
