"""Digests, quiet hours, escalations and reminders, on a clock of the test's own; they outlive the relay."""

import asyncio
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from spendmeter.contract.alert import Alert, AlertKind, DeliveryOutcome
from spendmeter_sinks.alerts.route_relay import Clock
from spendmeter_sinks.alerts.routes import AlertMatch, Quiet, Reminders, Service
from spendmeter_sinks.alerts.settings import AlertSettings
from tests.alerts import NOW, alert, webhook
from tests.integration.alerts.conftest import Put, Running
from tests.integration.alerts.receiver import HttpServer
from tests.integration.alerts.test_relay import deliveries


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = NOW
        self.clock = Clock(lambda: self.at, lambda: 1.0)

    def pass_by(self, **span: float) -> None:
        self.at += timedelta(**span)


@pytest.fixture
def hands() -> Hands:
    return Hands()


async def written(settings: AlertSettings, key: str, outcome: DeliveryOutcome) -> None:
    """Wait until that became of an alert."""
    async with asyncio.timeout(60):
        found = None
        while found is None or found.outcome is not outcome:
            await asyncio.sleep(0.02)
            found = (await deliveries(settings)).get(key)


def held(one: Alert) -> str:
    return f"hook|{one.alert_id}"


async def test_a_digest_is_one_message_and_outlives_the_relay(
    server: HttpServer, put: Put, running: Running, hands: Hands, settings: AlertSettings
) -> None:
    route = webhook(server.url, digest=timedelta(hours=1))
    first, second, third = (alert(at=NOW, team=f"t{n}") for n in range(3))
    async with running([route], hands.clock):
        await put([first])
        await written(settings, held(first), DeliveryOutcome.HELD)
    hands.pass_by(minutes=30)
    async with running([route], hands.clock):
        await put([second, third])
        await written(settings, held(third), DeliveryOutcome.HELD)
        assert server.requests == []
        hands.pass_by(minutes=30)
        await server.until_accepted(1)
        await written(settings, held(third), DeliveryOutcome.SENT)

    [received] = server.requests
    assert received.json["type"] == "spend.alerts"
    sent = [one["alert_id"] for one in received.json["data"]["alerts"]]
    assert sorted(sent) == sorted(str(one.alert_id) for one in (first, second, third))


async def test_what_litellm_has_no_digest_for_comes_one_by_one_after_the_night(
    server: HttpServer, put: Put, running: Running, hands: Hands, settings: AlertSettings
) -> None:
    hands.at = datetime(2026, 11, 22, 22, tzinfo=UTC)
    night = Quiet(time(22), time(7), ZoneInfo("Europe/Berlin"), frozenset({AlertKind.EXCEEDED}))
    route = webhook(server.url, service=Service.LITELLM, quiet=night)
    warned = [alert(AlertKind.THRESHOLD, at=hands.at, number=n) for n in range(2)]
    exceeded = alert(at=hands.at)
    async with running([route], hands.clock):
        await put([*warned, exceeded])
        await server.until_accepted(1)
        await written(settings, held(warned[1]), DeliveryOutcome.HELD)
        assert [one.id for one in server.requests] == [str(exceeded.alert_id)]
        hands.pass_by(hours=8)
        await server.until_accepted(3)

    assert [one.json["event"] for one in server.requests] == ["budget_crossed", *["threshold_crossed"] * 2]
    assert [one.id for one in server.requests[1:]] == [str(one.alert_id) for one in warned]


async def test_an_escalation_comes_unless_the_account_has_recovered(
    server: HttpServer, put: Put, running: Running, hands: Hands, settings: AlertSettings
) -> None:
    match = AlertMatch(frozenset({AlertKind.EXCEEDED}))
    route = webhook(server.url, after=timedelta(minutes=30), match=match)
    mended, lasting = alert(at=NOW, team="mended"), alert(at=NOW, team="lasting")
    recovery = alert(AlertKind.RECOVERED, at=NOW + timedelta(minutes=1), team="mended")
    async with running([route], hands.clock):
        await put([mended, lasting])
        await written(settings, held(lasting), DeliveryOutcome.HELD)
    # What comes while no relay is there is heeded before anything that is due.
    hands.pass_by(minutes=30)
    brief = alert(at=NOW, team="brief")
    await put([recovery, brief, alert(AlertKind.RECOVERED, at=NOW, team="brief")])
    async with running([route], hands.clock):
        await server.until_accepted(1)
        await written(settings, held(mended), DeliveryOutcome.SKIPPED)
        await written(settings, held(brief), DeliveryOutcome.SKIPPED)

    assert [one.id for one in server.requests] == [str(lasting.alert_id)]
    assert (await deliveries(settings))[held(mended)].reason == "it recovered before it was due"


async def test_reminders_come_until_the_account_recovers(
    server: HttpServer, put: Put, running: Running, hands: Hands, settings: AlertSettings
) -> None:
    route = webhook(server.url, reminders=Reminders(timedelta(hours=4)))
    exceeded = alert(at=NOW)
    async with running([route], hands.clock):
        await put([exceeded])
        await server.until_accepted(1)
        await written(settings, held(exceeded), DeliveryOutcome.SENT)
        hands.pass_by(hours=4)
        await server.until_accepted(2)
    hands.pass_by(hours=4)
    async with running([route], hands.clock):
        await server.until_accepted(3)
        recovered = alert(AlertKind.RECOVERED, at=hands.at)
        await put([recovered])
        await written(settings, held(recovered), DeliveryOutcome.SENT)
        hands.pass_by(hours=12)
        later = alert(at=hands.at, number=1, team="later")
        await put([later])
        await server.until_accepted(5)

    ids = [one.id for one in server.requests]
    reminders = [f"{exceeded.alert_id}.1", f"{exceeded.alert_id}.2"]
    assert ids == [str(exceeded.alert_id), *reminders, str(recovered.alert_id), str(later.alert_id)]


async def test_what_is_too_old_and_what_nobody_wants_is_skipped_with_the_reason(
    server: HttpServer, put: Put, running: Running, hands: Hands, settings: AlertSettings
) -> None:
    route = webhook(server.url, max_age=timedelta(hours=1), match=AlertMatch(budgets=("team-*",)))
    old, unwanted = alert(at=NOW - timedelta(hours=2)), alert(at=NOW, budget="other")
    async with running([route], hands.clock):
        await put([old, unwanted, alert(at=NOW, number=1)])
        await server.until_accepted(1)

    said = await deliveries(settings)
    assert said[held(old)].reason == "older than 1h"
    assert said[f"|{unwanted.alert_id}"].reason == "no route matches"
    assert len(server.requests) == 1


async def test_what_a_renamed_route_holds_is_said_and_is_sent_once_it_has_its_name_again(
    server: HttpServer,
    put: Put,
    running: Running,
    hands: Hands,
    settings: AlertSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    route = webhook(server.url, digest=timedelta(hours=1))
    one = alert(at=NOW)
    async with running([route], hands.clock):
        await put([one])
        await written(settings, held(one), DeliveryOutcome.HELD)
        assert "not in the file" not in caplog.text
    hands.pass_by(hours=2)
    async with running([route._replace(name="renamed")], hands.clock):
        assert "route hook holds 1 alerts and is not in the file of routes" in caplog.text
    assert server.requests == []
    async with running([route], hands.clock):
        await server.until_accepted(1)

    assert [found["alert_id"] for found in server.requests[0].json["data"]["alerts"]] == [str(one.alert_id)]
