"""Which alerts go where, and when."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from spendmeter.contract.alert import AlertKind
from spendmeter.contract.money import from_usd
from spendmeter_sinks.alerts.routes import (
    AlertMatch,
    Due,
    Quiet,
    Reminders,
    closes,
    due,
    next_reminder,
    routes_of,
    span,
)
from tests.alerts import NOW, alert, alert_about, webhook

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Quiet(time(22), time(7), BERLIN, frozenset({AlertKind.EXCEEDED}))


@pytest.mark.parametrize(
    ("match", "fields", "fits"),
    [
        (AlertMatch(), {}, True),
        (AlertMatch(), {"signal": False}, True),
        (AlertMatch(kinds=frozenset({AlertKind.EXCEEDED})), {}, True),
        (AlertMatch(kinds=frozenset({AlertKind.THRESHOLD})), {}, False),
        (AlertMatch(budgets=("team-*",)), {}, True),
        (AlertMatch(budgets=("key-*", "team-month")), {}, True),
        (AlertMatch(budgets=("team",)), {}, False),
        (AlertMatch(budgets=("team-*",)), {"signal": False}, False),
        (AlertMatch(subject={"team": ("research",)}), {}, True),
        (AlertMatch(subject={"team": ("re*",)}), {}, True),
        (AlertMatch(subject={"team": ("*",)}), {"user": "ann"}, False),
        (AlertMatch(subject={"team": ("a", "b")}), {}, False),
        (AlertMatch(share=0.8), {"spent": "40"}, True),
        (AlertMatch(share=0.8), {"spent": "39.999999999"}, False),
        # As floats 0.017 of $50 is a little more than $0.85.
        (AlertMatch(share=0.017), {"spent": "0.85"}, True),
        (AlertMatch(share=0.017), {"spent": "0.849999999"}, False),
        (AlertMatch(amount_nanousd=from_usd("40")), {"spent": "40"}, True),
        (AlertMatch(amount_nanousd=from_usd("40")), {"spent": "39.999999999"}, False),
    ],
)
def test_a_route_matches_by_all_that_it_asks_for(match: AlertMatch, fields: Any, fits: bool) -> None:
    assert match.fits(alert(at=NOW, **fields)) is fits


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (AlertMatch(kinds=frozenset({AlertKind.DIGEST}), subject={"team": ("re*",)}), True),
        (AlertMatch(kinds=frozenset({AlertKind.DIGEST}), subject={"team": ("other",)}), False),
        (AlertMatch(kinds=frozenset({AlertKind.ANOMALY}), subject={"team": ("research",)}), False),
        (AlertMatch(subject={"team": ("research",), "key": ("*",)}), False),
        (AlertMatch(subject={"team": ("research",)}, budgets=("*",)), False),
        (AlertMatch(subject={"team": ("research",)}, share=0.1), False),
        (AlertMatch(subject={"team": ("research",)}, amount_nanousd=from_usd("1")), False),
    ],
)
def test_an_alert_without_an_account_matches_by_whom_it_is_about(match: AlertMatch, fits: bool) -> None:
    assert match.fits(alert_about(AlertKind.DIGEST, "spent", team="research")) is fits


def test_the_first_that_matches_has_it_and_those_behind_only_where_it_goes_on() -> None:
    other = AlertMatch(budgets=("other",))
    first, second = webhook("", "first", match=other), webhook("", "second", goes_on=True)
    third, fourth = webhook("", "third"), webhook("", "fourth")

    assert routes_of([first, second, third, fourth], alert(at=NOW)) == [second, third]
    assert routes_of([first], alert(at=NOW)) == []


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-11-22T21:59:59+01:00", None),
        ("2026-11-22T22:00:00+01:00", "2026-11-23T07:00:00+01:00"),
        ("2026-11-23T06:59:59+01:00", "2026-11-23T07:00:00+01:00"),
        ("2026-11-23T07:00:00+01:00", None),
        # The clock goes back: the night is an hour longer, and ends when the clock says so.
        ("2026-10-24T22:30:00+02:00", "2026-10-25T07:00:00+01:00"),
    ],
)
def test_quiet_hours_pass_midnight_on_their_own_clock(at: str, end: str | None) -> None:
    found = NIGHT.end_after(datetime.fromisoformat(at).astimezone(UTC))

    assert found == (datetime.fromisoformat(end) if end else None)


def test_quiet_hours_within_a_day() -> None:
    noon = Quiet(time(12), time(13), ZoneInfo("UTC"))

    assert noon.end_after(NOW) == NOW + timedelta(hours=1)
    assert noon.end_after(NOW + timedelta(hours=1)) is None
    assert noon.end_after(NOW - timedelta(seconds=1)) is None


def test_nothing_holds_an_alert_unless_the_route_says_so() -> None:
    assert due(webhook(""), alert(at=NOW), NOW, None) is None


def test_a_digest_goes_out_a_span_after_its_first_alert() -> None:
    route = webhook("", digest=timedelta(hours=1))
    first = due(route, alert(at=NOW), NOW, None)

    assert first == Due(NOW + timedelta(hours=1), "waits for the digest of 1h")
    later = NOW + timedelta(minutes=20)
    assert due(route, alert(at=later), later, first.at) == first
    # As a relay has written it whose clock was a day ahead.
    assert due(route, alert(at=NOW), NOW, NOW + timedelta(days=1)) == first


def test_an_escalation_waits_from_the_crossing_on() -> None:
    route = webhook("", after=timedelta(minutes=30))

    held = due(route, alert(at=NOW), NOW + timedelta(minutes=10), None)

    assert held == Due(NOW + timedelta(minutes=30), "escalates after 30m")
    assert due(route, alert(at=NOW), NOW + timedelta(minutes=30), None) is None


def test_quiet_hours_hold_what_is_not_excepted_also_what_is_due_in_them() -> None:
    night = datetime(2026, 11, 22, 22, tzinfo=UTC)
    morning = Due(datetime(2026, 11, 23, 6, tzinfo=UTC), "quiet hours until 07:00 Europe/Berlin")

    assert due(webhook("", quiet=NIGHT), alert(AlertKind.THRESHOLD, at=night), night, None) == morning
    assert due(webhook("", quiet=NIGHT), alert(AlertKind.EXCEEDED, at=night), night, None) is None
    evening = night - timedelta(minutes=90)
    route = webhook("", quiet=NIGHT, digest=timedelta(hours=1))
    assert due(route, alert(AlertKind.THRESHOLD, at=evening), evening, None) == morning


def test_reminders_come_until_their_number_or_the_windows_end() -> None:
    route = webhook("", reminders=Reminders(timedelta(days=1), 2))
    exceeded = alert(at=NOW)

    assert next_reminder(route, exceeded, 0, NOW) == NOW + timedelta(days=1)
    assert next_reminder(route, exceeded, 1, NOW) == NOW + timedelta(days=1)
    assert next_reminder(route, exceeded, 2, NOW) is None
    assert exceeded.signal is not None
    assert exceeded.signal.window_end is not None
    assert next_reminder(route, exceeded, 0, exceeded.signal.window_end - timedelta(hours=23)) is None
    assert next_reminder(route, alert(AlertKind.THRESHOLD, at=NOW), 0, NOW) is None
    assert next_reminder(webhook(""), exceeded, 0, NOW) is None


def test_a_recovery_closes_what_its_account_has_open() -> None:
    exceeded, later = alert(at=NOW), NOW + timedelta(minutes=1)

    assert closes(alert(AlertKind.RECOVERED, at=later), exceeded)
    assert not closes(alert(AlertKind.RECOVERED, at=NOW - timedelta(minutes=1)), exceeded)
    assert not closes(alert(AlertKind.RECOVERED, at=later, team="other"), exceeded)
    assert not closes(alert(AlertKind.THRESHOLD, at=later), exceeded)


@pytest.mark.parametrize(
    ("seconds", "written"), [(90, "90s"), (1_800, "30m"), (7_200, "2h"), (86_400, "1d"), (90_000, "25h")]
)
def test_a_span_reads_as_it_is_written(seconds: int, written: str) -> None:
    assert span(timedelta(seconds=seconds)) == written
