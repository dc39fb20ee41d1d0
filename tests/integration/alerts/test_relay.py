"""What the relay promises, on a real broker and real receivers."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from spendmeter.contract.alert import Alert, AlertDelivery, AlertKind, DeliveryOutcome
from spendmeter.contract.topics import Topic
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter_sinks.alerts.delivery_log import read_delivery
from spendmeter_sinks.alerts.routes import AlertMatch
from spendmeter_sinks.alerts.settings import AlertSettings
from tests.alerts import SECRET, alert, alert_about, webhook
from tests.integration.alerts.conftest import Put, Running
from tests.integration.alerts.receiver import HttpServer, Reply
from tests.integration.kafka.test_topic_state import make_anew


def some(count: int, first: int = 0) -> list[Alert]:
    return [alert(number=n, user=f"u{n % 7}") for n in range(first, first + count)]


def ids(alerts: list[Alert]) -> Counter[str]:
    return Counter(str(one.alert_id) for one in alerts)


async def deliveries(settings: AlertSettings) -> dict[str, AlertDelivery]:
    """The latest of each key of spend.deliveries."""
    found: dict[str, AlertDelivery] = {}

    def keep(record: object) -> None:
        delivery = read_delivery(record)  # type: ignore[arg-type]
        assert delivery is not None
        found[delivery.key()] = delivery

    await CompactedTopics(settings, [settings.topic(Topic.DELIVERIES)], keep).read_to_end()
    return found


async def test_an_alert_reaches_the_receiver_signed_and_whole(
    server: HttpServer, put: Put, running: Running
) -> None:
    [sent] = some(1)
    async with running([webhook(server.url)]):
        await put([sent])
        await server.until_accepted(1)

    [received] = server.requests
    assert received.id == str(sent.alert_id)
    verified = Webhook(SECRET).verify(received.body, received.headers)
    assert verified["type"] == "spend.alert.exceeded"
    assert [Alert.model_validate(one) for one in verified["data"]["alerts"]] == [sent]


async def test_a_teams_digest_goes_where_a_route_wants_it_and_says_which_lines_it_has(
    server: HttpServer, put: Put, running: Running
) -> None:
    match = AlertMatch(kinds=frozenset({AlertKind.DIGEST}), subject={"team": ("research",)})
    wanted = alert_about(AlertKind.DIGEST, "team research spent $5\n3 requests", team="research")
    others = [
        alert_about(AlertKind.DIGEST, "another", team="other"),
        alert_about(AlertKind.DIGEST, "all"),
        *some(1),
    ]
    async with running([webhook(server.url, match=match)]):
        await put([*others, wanted])
        await server.until_accepted(1)

    [received] = server.requests
    data = json.loads(received.body)["data"]
    assert (data["title"], data["text"]) == ("Spend: team research", wanted.message)
    assert [Alert.model_validate(one) for one in data["alerts"]] == [wanted]


async def test_a_new_route_begins_with_what_comes_from_now_on(
    server: HttpServer, put: Put, running: Running
) -> None:
    before, after = some(3), some(2, 3)
    await put(before)
    async with running([webhook(server.url)]):
        await put(after)
        await server.until_accepted(2)

    assert Counter(one.id for one in server.requests) == ids(after)


async def test_what_came_while_the_relay_was_away_is_sent_and_nothing_twice(
    server: HttpServer, put: Put, running: Running
) -> None:
    first, meanwhile = some(3), some(3, 3)
    async with running([webhook(server.url)]):
        await put(first)
        await server.until_accepted(3)
    await put([*first, *meanwhile])
    async with running([webhook(server.url)]):
        await server.until_accepted(6)

    assert Counter(one.id for one in server.requests) == ids([*first, *meanwhile])


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(lambda n: Reply(500 if n < 3 else 200), id="fails"),
        pytest.param(lambda n: Reply(hang=n == 0), id="hangs"),
        pytest.param(lambda n: Reply(404 if n < 2 else 200), id="is being set up"),
    ],
)
async def test_an_alert_is_offered_until_it_is_accepted(
    behave: Callable[[int], Reply], server: HttpServer, put: Put, running: Running, settings: AlertSettings
) -> None:
    server.behave = behave
    [sent] = some(1)
    async with running([webhook(server.url)]):
        await put([sent])
        await server.until_accepted(1)

    assert {one.id for one in server.requests} == {str(sent.alert_id)}
    outcome = (await deliveries(settings))[f"hook|{sent.alert_id}"]
    assert (outcome.outcome, outcome.attempts) == (DeliveryOutcome.SENT, len(server.requests))


async def test_nothing_is_lost_while_the_receiver_is_gone(
    server: HttpServer, put: Put, running: Running
) -> None:
    sent = some(20)
    await server.stop()
    async with running([webhook(server.url)]):
        await put(sent)
        await server.start()
        await server.until_accepted(20)

    assert Counter(one.id for one in server.accepted) == ids(sent)


async def test_a_limit_is_obeyed_for_as_long_as_it_says(
    server: HttpServer, put: Put, running: Running
) -> None:
    server.behave = lambda n: Reply(429, {"Retry-After": "1"}) if n == 0 else Reply()
    async with running([webhook(server.url)]):
        await put(some(1))
        await server.until_accepted(1)

    limited, accepted = server.requests
    assert accepted.at - limited.at >= 1.0


async def test_what_is_refused_is_skipped_with_the_reason_and_the_next_is_sent(
    server: HttpServer, put: Put, running: Running, settings: AlertSettings
) -> None:
    bad, good = some(2)
    server.behave = lambda n: Reply(400 if server.requests == [] or n < 3 else 200)
    async with running([webhook(server.url)]):
        await put([bad])
        await server.until(lambda: len(server.requests) == 3)
        await put([good])
        await server.until_accepted(1)

    said = await deliveries(settings)
    assert (said[f"hook|{bad.alert_id}"].outcome, said[f"hook|{bad.alert_id}"].reason) == (
        DeliveryOutcome.SKIPPED,
        "refused: HTTP 400",
    )
    assert said[f"hook|{good.alert_id}"].outcome is DeliveryOutcome.SENT


async def test_a_receiver_that_hangs_delays_no_other(server: HttpServer, put: Put, running: Running) -> None:
    sent = some(10)
    async with HttpServer.started() as hung:
        hung.behave = lambda n: Reply(hang=True)
        async with running([webhook(hung.url, "hung", goes_on=True), webhook(server.url)]):
            await put(sent)
            await server.until_accepted(10)
            assert hung.accepted == []

    assert Counter(one.id for one in server.accepted) == ids(sent)


async def test_alerts_of_an_account_arrive_in_their_order(
    server: HttpServer, put: Put, running: Running
) -> None:
    server.behave = lambda n: Reply(500 if n % 3 == 0 else 200)
    sent = [alert(AlertKind.THRESHOLD, number=n) for n in range(12)]
    async with running([webhook(server.url)]):
        await put(sent)
        await server.until_accepted(12)

    assert [one.id for one in server.accepted] == [str(one.alert_id) for one in sent]


async def test_two_relays_share_the_routes_and_one_goes_on_when_the_other_ends(
    server: HttpServer, put: Put, running: Running
) -> None:
    routes = [webhook(server.url)]
    first, then = some(3), some(3, 3)
    async with running(routes):
        async with running(routes) as stop:
            await put(first)
            await server.until_accepted(3)
            stop.set()
        await put(then)
        await server.until_accepted(6)

    assert set(ids([*first, *then])) == {one.id for one in server.accepted}


async def test_garbage_is_passed_over(
    server: HttpServer, put: Put, running: Running, settings: AlertSettings
) -> None:
    from spendmeter.kafka.client import producer

    kafka = producer(settings)
    await kafka.start()
    async with running([webhook(server.url)]):
        for garbage in (b"{", b"", None, b"\xff", b'{"alert_id": 1}'):
            await kafka.send_and_wait(settings.topic(Topic.ALERTS), garbage, key=b"k")
            await kafka.send_and_wait(settings.topic(Topic.DELIVERIES), garbage, key=b"hook|x")
        # Of the right shape, at the end of what a clock can show.
        await put([alert(number=9, at=datetime.max.replace(tzinfo=UTC))])
        await put(some(1))
        await server.until_accepted(1)
    await kafka.stop()

    async with running([webhook(server.url)]):
        await put(some(1, 1))
        await server.until_accepted(2)


async def test_a_stop_waits_for_no_receiver(server: HttpServer, put: Put, running: Running) -> None:
    sent = some(5)
    server.behave = lambda n: Reply(503)
    async with running([webhook(server.url)]):
        await put(sent)
        await server.until(lambda: len(server.requests) >= 3)
    server.behave = lambda n: Reply()
    async with asyncio.timeout(30), running([webhook(server.url)]):
        await server.until_accepted(5)

    assert Counter(one.id for one in server.accepted) == ids(sent)


async def test_a_topic_made_anew_under_a_running_relay_is_read_from_its_beginning(
    server: HttpServer, put: Put, running: Running, settings: AlertSettings
) -> None:
    before, after = some(2), some(4, 2)
    async with running([webhook(server.url)]):
        await put(before)
        await server.until_accepted(2)
        await make_anew(settings, settings.topic(Topic.ALERTS))
        await put(after)
        await server.until_accepted(6)

    assert Counter(one.id for one in server.accepted) == ids([*before, *after])
