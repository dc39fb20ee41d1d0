"""Gateways that sent usage regularly and no longer do. The rule is pure; one query finds what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.runtime.clickhouse import Client
from spendmeter.visible import one_line
from spendmeter_sinks.watch.check import finding
from spendmeter_sinks.watch.freshness import wait_for_history
from spendmeter_sinks.watch.run_log import published
from spendmeter_sinks.watch.settings import WatchSettings

KNOWN_AFTER = timedelta(days=7)
"""A gateway's first week shows how long its nights and its weekend are; before, no silence is one."""
PAUSES_OF = timedelta(days=14)
AT_LEAST = timedelta(minutes=15)
BACK_FOR = timedelta(days=1)
"""So long it is said that a gateway is back."""
SEARCHED = 2 * PAUSES_OF
SHORT_SECONDS = 300
"""Twice a pause of this length is no silence yet, so shorter ones do not matter."""

_ACTIVITY = """
SELECT gateway, minutes[1], minutes[-1], arrayFilter(
    pause -> pause.2 - pause.1 > {short:UInt32}, arrayZip(arrayPopBack(minutes), arrayPopFront(minutes)))
FROM
(
    SELECT gateway, arraySort(groupUniqArray(toUnixTimestamp(toStartOfMinute(
        -- A gateway's clock may be ahead.
        least(occurred_at, toDateTime64(appended_at, 6, 'UTC')))))) AS minutes
    FROM usage
    WHERE kind = 'usage' AND gateway != '' AND occurred_at >= {since:DateTime64(6, 'UTC')}
    GROUP BY gateway
)
ORDER BY gateway
"""


class Pause(NamedTuple):
    """From one event to the next, in whole minutes."""

    begin: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        return self.end - self.begin


class GatewayActivity(NamedTuple):
    """When a gateway sent usage lately, in whole minutes."""

    gateway: str
    first: datetime
    last: datetime
    pauses: Sequence[Pause]
    """Those that are not short, in their order."""


class Silence(NamedTuple):
    """A gateway that sends nothing for longer than it ever did."""

    gateway: str
    since: datetime
    longest: timedelta
    """Of its pauses before."""
    back_at: datetime | None = None
    """None: it is still silent."""


def longest_pause(activity: GatewayActivity, at: datetime) -> timedelta | None:
    """Of the pauses that ended in the 14 days before its event `at`; None: it was not known for long."""
    if activity.first > at - KNOWN_AFTER:
        return None
    ended = (pause.length for pause in activity.pauses if at - PAUSES_OF < pause.end <= at)
    return max(ended, default=timedelta())


def silences(activity: GatewayActivity, now: datetime) -> list[Silence]:
    """That it is silent, or was until lately."""
    over = [(pause, pause.end) for pause in activity.pauses if pause.end > now - BACK_FOR]
    found = []
    for pause, back_at in (*over, (Pause(activity.last, now), None)):
        longest = longest_pause(activity, pause.begin)
        if longest is not None and pause.length > max(AT_LEAST, 2 * longest):
            found.append(Silence(activity.gateway, pause.begin, longest, back_at))
    return found


@dataclass(frozen=True)
class SilentGateways:
    """Once per silence, and once when it is over."""

    settings: WatchSettings
    name: str = "gateways"

    @property
    def every(self) -> timedelta:
        return timedelta(minutes=self.settings.watch_gateways_every_minutes)

    def run(self, history: Client, now: datetime) -> Sequence[Alert]:
        found = _find(history, now)
        if any(one.back_at is None for one in found):
            # What is still on its way to history would seem to be a silence.
            wait_for_history(self.settings, "a gateway may only seem silent")
            found = _find(history, now)
        said = published(history, [silent_id(one, now) for one in found if one.back_at is not None])
        return [
            _silent(one, now) if one.back_at is None else _back(one, one.back_at, now)
            for one in found
            if one.back_at is None or silent_id(one, now) in said
        ]


def silent_id(silence: Silence, now: datetime) -> UUID:
    """Of the alert that says it."""
    return _silent(silence, now).alert_id


def read_activity(history: Client, now: datetime) -> list[GatewayActivity]:
    """Of each gateway that has sent usage in the last weeks. Blocking."""
    rows = history.query(_ACTIVITY, parameters={"since": now - SEARCHED, "short": SHORT_SECONDS}).result_rows
    return [
        GatewayActivity(str(gateway), _at(first), _at(last), [Pause(_at(a), _at(b)) for a, b in pauses])
        for gateway, first, last, pauses in rows
    ]


def _find(history: Client, now: datetime) -> list[Silence]:
    return [one for activity in read_activity(history, now) for one in silences(activity, now)]


def _silent(one: Silence, now: datetime) -> Alert:
    longest = f" was {_length(one.longest)}" if one.longest else " was of minutes"
    message = (
        f"gateway {one_line(one.gateway)} has sent no usage since {_clock(one.since)}, for"
        f" {_length(now - one.since)}; its longest pause in the two weeks before{longest}. If it should be"
        " working: is it running, is our callback in its LiteLLM configuration, and does it reach Kafka?"
        " `spendmeter doctor --litellm-config FILE` says"
    )
    return finding(AlertKind.GATEWAY_SILENT, f"gateway={one.gateway}", one.since, "since", message, now)


def _back(one: Silence, back_at: datetime, now: datetime) -> Alert:
    message = (
        f"gateway {one_line(one.gateway)} sends usage again since {_clock(back_at)}, after"
        f" {_length(back_at - one.since)}"
    )
    return finding(AlertKind.GATEWAY_BACK, f"gateway={one.gateway}", one.since, "since", message, now)


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _length(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def _at(unix_seconds: int) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)
