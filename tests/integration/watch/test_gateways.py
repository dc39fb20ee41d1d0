"""The query behind silent gateways, on the real engine."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from spendmeter.contract.alert import AlertKind
from spendmeter.runtime.clickhouse import Client
from spendmeter_sinks.watch.gateways import (
    AT_LEAST,
    GatewayActivity,
    Pause,
    SilentGateways,
    read_activity,
)
from spendmeter_sinks.watch.settings import WatchSettings

START = datetime(2026, 11, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def insert(history: Client, gateway: str, *at: datetime, kind: str = "usage", late: timedelta = DAY) -> None:
    history.insert(
        "usage",
        [[str(uuid4()), gateway, kind, one, one + late] for one in at],
        column_names=["event_id", "gateway", "kind", "occurred_at", "appended_at"],
    )


def test_a_silence_is_said_once_and_its_end_once(settings: WatchSettings, history: Client) -> None:
    last = START + 10 * DAY
    insert(history, "g1", *(START + n * HOUR / 4 for n in range(961)))
    # None of these is a sign of life of g1.
    insert(history, "g1", last + DAY, kind="correction")
    insert(history, "", last + DAY)
    insert(history, "g2", last, last + 30 * MINUTE + timedelta(seconds=59))
    # A clock that is ahead: Kafka had it earlier.
    insert(history, "g3", last + DAY, late=-DAY)
    now = last + 30 * MINUTE + MINUTE

    active = {one.gateway: one for one in read_activity(history, now)}
    assert active["g1"]._replace(pauses=()) == GatewayActivity("g1", START, last, ())
    assert {pause.length for pause in active["g1"].pauses} == {AT_LEAST}
    assert active["g2"].pauses == [Pause(last, last + 30 * MINUTE)]
    assert active["g3"].last == last

    check = SilentGateways(settings)
    [silent] = check.run(history, now)
    [again] = check.run(history, now + HOUR)
    assert silent.kind is AlertKind.GATEWAY_SILENT
    assert silent.alert_id == again.alert_id
    assert silent.message.startswith(
        "gateway g1 has sent no usage since 2026-11-11 00:00 UTC, for 31 minutes; its longest pause in the"
        " two weeks before was 15 minutes."
    )

    back = last + 3 * HOUR
    insert(history, "g1", back)
    # Nobody has said the silence, so nobody says its end.
    assert check.run(history, back + MINUTE) == []
    history.insert("alerts", [[str(silent.alert_id)]], column_names=["alert_id"])
    [over] = check.run(history, back + MINUTE)
    assert over.kind is AlertKind.GATEWAY_BACK
    assert over.message == "gateway g1 sends usage again since 2026-11-11 03:00 UTC, after 3 hours"
