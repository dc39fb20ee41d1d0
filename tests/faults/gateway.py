"""`python -m tests.faults.gateway --port N`: a gateway without LiteLLM, told over a socket what to record.

One JSON object a line, answered in order. What to record, and the count of what was recorded, are the
driver's: this process adds nothing to the product's own gateway but a clock that can be wrong and a
limit on the size of files, which fails its outbox as a full disk does.
"""

import asyncio
import json
import resource
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import click
from prometheus_client import REGISTRY

from spendmeter.contract.usage import CostSource
from spendmeter.runtime import logs
from spendmeter.settings import load
from spendmeter.values.times import to_unix_us
from spendmeter_gateway import gateway as gateway_module
from spendmeter_gateway.admission import state as views_module
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.model import UsageDraft
from spendmeter_gateway.outbox import writer as outbox_module
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.ports import LOOPBACK

LOST_METRIC = "spendmeter_outbox_lost_total"


class Clock:
    """The wall clock of this process, which the driver may set wrong."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self, zone: tzinfo = UTC) -> datetime:
        return datetime.now(zone) + self.ahead

    def time_ns(self) -> int:
        return time.time_ns() + int(self.ahead.total_seconds()) * 1_000_000_000

    def install(self) -> None:
        """Be the clock of everything in `producers` that looks at one."""
        stand_in = SimpleNamespace(now=self.now)
        for module in (gateway_module, views_module):
            vars(module)["datetime"] = stand_in
        vars(outbox_module)["time"] = SimpleNamespace(time_ns=self.time_ns, monotonic=time.monotonic)


class Shell:
    """Answers the driver's commands with the gateway's own answers."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self._gateway, self._clock = gateway, clock
        self._do: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "record": self._record,
            "clock": self._set_clock,
            "disk": self._limit_files,
            "spent": self._spent,
            "lost": self._lost,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        try:
            while line := await reader.readline():
                asked = json.loads(line)
                writer.write(json.dumps({"n": asked["n"], **self._do[asked["do"]](asked)}).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _record(self, asked: dict[str, Any]) -> dict[str, Any]:
        now = self._clock.now()
        fields = {
            "event_id": UUID(asked["id"]),
            "occurred_at": now,
            "started_at": now,
            "key": asked["key"],
            "model": asked["model"],
            "model_group": asked["model"],
            "cost_nanousd": asked["cost_nanousd"],
            "cost_source": CostSource.LITELLM,
        }
        event = self._gateway.record(UsageDraft(fields))
        assert event is not None, "the driver never repeats an id"
        return {
            "producer": event.producer_id,
            "seq": event.seq,
            "occurred_us": to_unix_us(event.occurred_at),
            "lost": event.producer_id == "lost",
        }

    def _set_clock(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._clock.ahead = timedelta(seconds=asked["seconds"])
        return {}

    def _limit_files(self, asked: dict[str, Any]) -> dict[str, Any]:
        """No file may grow beyond so many bytes; None lifts it. Needs neither root nor a small disk."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        limit = resource.RLIM_INFINITY if asked["bytes"] is None else asked["bytes"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        return {}

    def _spent(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"spent": {account: self._gateway.views.spent(account) for account in asked["accounts"]}}

    def _lost(self, asked: dict[str, Any]) -> dict[str, Any]:
        reasons = ("full", "unwritable")
        return {"lost": sum(REGISTRY.get_sample_value(LOST_METRIC, {"reason": r}) or 0 for r in reasons)}


async def run(gateway: Gateway, clock: Clock, port: int) -> None:
    """Serve until SIGTERM, then stop as a proxy's worker does."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    server = await asyncio.start_server(Shell(gateway, clock).serve, LOOPBACK, port)
    await stopping.wait()
    server.close()
    await asyncio.to_thread(gateway.stop)


@click.command()
@click.option("--port", type=int, required=True, help=f"Port on {LOOPBACK}.")
def main(port: int) -> None:
    """Serve the driver."""
    settings = load(GatewaySettings)
    logs.configure(settings)
    clock = Clock()
    clock.install()
    gateway = Gateway(settings)
    gateway.start()
    asyncio.run(run(gateway, clock, port))


if __name__ == "__main__":
    main()
