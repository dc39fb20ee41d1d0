"""How our processes pause, and end with one sentence and no traceback when they cannot go on."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from aiokafka.errors import KafkaError

from spendmeter.kafka.errors import explained
from spendmeter.runtime.metrics import READY, NotServed, serve
from spendmeter.settings import Settings
from spendmeter.visible import visible

log = logging.getLogger(__name__)

EXIT_STOPPED = 70


@contextmanager
def exiting_with_message(settings: Settings, *others: type[Exception]) -> Iterator[None]:
    """A context for the whole work of a process: ends it with a sentence on Kafka's errors and on
    `others`.
    """
    known: tuple[type[Exception], ...] = (NotServed, *others)
    try:
        yield
    except KafkaError as error:
        said = asyncio.run(explained(error, settings))
    except known as error:
        said = str(error)
    else:
        return
    sys.exit(f"spendmeter {settings.component}: {visible(said)}")


def stop_on_signals() -> asyncio.Event:
    """The event that SIGTERM and SIGINT set. Call it in the loop of the process."""
    stop = asyncio.Event()
    for sent in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sent, stop.set)
    return stop


def begin(settings: Settings) -> asyncio.Event:
    """The same of a process that stays: its metrics are served, and it is not ready yet.

    Raises:
        NotServed: nothing can be served on its port.
    """
    stop = stop_on_signals()
    READY.set(0)
    READY.watch(asyncio.get_running_loop())
    serve(settings)
    return stop


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait that long, or until the process is to `stop`."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def run_until(stop: asyncio.Event, work: "asyncio.Task[None]", *, finish_within_seconds: float) -> None:
    """Return once the work ends; when the process is to `stop`, it is cancelled after that long.

    What it raises is in the task.
    """
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({work}, timeout=finish_within_seconds)
    finally:
        stopped.cancel()
        work.cancel()


def stop_at_once(why: str) -> NoReturn:
    """End the process without another write: Kafka's log is the truth, and a restart reads it."""
    log.critical("stopping at once: %s", why)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(EXIT_STOPPED)
