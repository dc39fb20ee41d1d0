"""A real Apache Kafka node for one benchmark, started on a free port and gone with it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.output import OUTPUT
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.kafka.jars import fetch_jars
from spendmeter_local.ports import free_port
from spendmeter_local.probes import kafka_answers, wait_until

READY_WITHIN_SECONDS = 120


class NotReadyError(RuntimeError):
    """Something that the benchmark started did not come up; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class RunningBroker:
    bootstrap: str
    pid: int


@contextmanager
def running_broker(name: str) -> Iterator[RunningBroker]:
    """Start a broker of its own under the output directory; its data goes with it.

    Raises NotReadyError.
    """
    fetch_jars()
    directory = OUTPUT / f"kafka-{name}"
    shutil.rmtree(directory, ignore_errors=True)
    controller_port = free_port()
    broker = Broker(directory, free_port([controller_port]), controller_port)
    directory.mkdir(parents=True)
    broker.prepare()
    log = directory / "kafka.log"
    process = start_child(broker.command(), log=log)
    try:
        if not wait_until(lambda: kafka_answers(broker.bootstrap), timeout_seconds=READY_WITHIN_SECONDS):
            raise NotReadyError(f"Kafka: {log.read_text()[-2000:]}")
        yield RunningBroker(broker.bootstrap, process.pid)
    finally:
        kill_child(process)
        shutil.rmtree(directory, ignore_errors=True)
