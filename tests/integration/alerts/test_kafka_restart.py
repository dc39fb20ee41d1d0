"""A broker that is killed and comes back: the relay goes on, and what was sent is not sent again."""

import asyncio
import subprocess
from pathlib import Path

from spendmeter.contract.records import encode_alert
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import producer
from spendmeter.topics.create import create_topics
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.ports import free_port
from spendmeter_local.probes import kafka_answers, wait_until
from spendmeter_sinks.alerts.receivers import receiver_of
from spendmeter_sinks.alerts.relay import relay
from spendmeter_sinks.alerts.settings import AlertSettings
from tests.alerts import alert, webhook
from tests.integration.alerts.receiver import HttpServer

WITHIN_SECONDS = 120


async def put(settings: AlertSettings, number: int) -> str:
    sent = alert(number=number)
    async with producer(settings) as kafka:
        await kafka.send_and_wait(settings.topic(Topic.ALERTS), **encode_alert(sent)._asdict())
    return str(sent.alert_id)


async def test_a_broker_that_comes_back_finds_the_relay_at_work(server: HttpServer, tmp_path: Path) -> None:
    first = free_port()
    broker = Broker(tmp_path, first, free_port([first]))
    broker.prepare()
    settings = AlertSettings(kafka_bootstrap=broker.bootstrap, alerts_timeout_seconds=2)

    async def started() -> subprocess.Popen[bytes]:
        process = start_child(broker.command(), log=tmp_path / "kafka.log")

        def answers() -> bool:
            return kafka_answers(broker.bootstrap)

        assert await asyncio.to_thread(wait_until, answers, timeout_seconds=WITHIN_SECONDS)
        return process

    process = await started()
    stop, ready = asyncio.Event(), asyncio.Event()
    try:
        await create_topics(settings)
        route = webhook(server.url)
        working = asyncio.create_task(
            relay(settings, [route], [receiver_of(route.target, 2)], stop, ready=ready)
        )
        await asyncio.wait_for(ready.wait(), WITHIN_SECONDS)
        ids = [await put(settings, 0)]
        await server.until_accepted(1)
        kill_child(process)
        process = await started()
        ids.append(await put(settings, 1))
        await server.until(lambda: len(server.accepted) >= 2, WITHIN_SECONDS)
        stop.set()
        await working
    finally:
        kill_child(process)

    assert [one.id for one in server.accepted] == ids
