"""How long it takes from an event's recording to the signal in the gateway's memory that includes it.

Three real Kafka hops: usage, totals, signals. The gateway is the product's own, in this process; the
broker and the stream worker are processes of their own. Every account is close to its limit, where each
change is told. Run: python -m bench.latency --rate 100 --rate 1000 --seconds 20
"""

import asyncio
import os
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from bench.broker import running_broker
from bench.machine import describe
from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import from_usd
from spendmeter.contract.signal import Signal
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter.values.ids import uuid7
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.model import UsageDraft
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_gateway.spend.window_balance import Acknowledgement
from spendmeter_local.children import start_child, stop_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import says_ready, wait_until

KEYS = 200
START_WITHIN_SECONDS = 120
LEFT_WITHIN_SECONDS = 30
WARM_UP_SECONDS = 3.0
LIMIT_USD = "1000"
# Beyond 80 % of the limit every change is sent.
CLOSE_NANOUSD = from_usd("900")


class Probe:
    """Notes when each event was recorded, stored and seen in a signal. One thread calls `record`."""

    def __init__(self, gateway: Gateway) -> None:
        self._recorded: dict[int, tuple[float, str]] = {}
        self._stored: dict[tuple[str, int], deque[tuple[int, float]]] = defaultdict(deque)
        self._seen: dict[str, dict[int, int]] = {}
        self._lock = threading.Lock()
        self.hop_ms: list[float] = []
        """From recording to Kafka's acknowledgement."""
        self.signal_ms: list[float] = []
        """From recording to the signal."""
        self._gateway = gateway
        spend = gateway.views.spend
        self._acknowledge, self._take = spend.acknowledge, spend.apply
        vars(spend).update(acknowledge=self._on_acknowledged, apply=self._on_signal)

    def record(self, key: str, cost_nanousd: int) -> None:
        """Record an event and note when."""
        # Under the views' lock, so that no acknowledgement can come before the note of it.
        with self._gateway.views.lock:
            at = time.perf_counter()
            event = record(self._gateway, key, cost_nanousd)
            with self._lock:
                self._recorded[event.seq] = (at, f"per-key|key={key}")

    def forget(self) -> None:
        """Drop what was measured; what is under way still is."""
        with self._lock:
            self.hop_ms, self.signal_ms = [], []

    @property
    def left(self) -> int:
        with self._lock:
            return len(self._recorded) + sum(map(len, self._stored.values()))

    def _on_acknowledged(self, seq: int, at: Acknowledgement) -> None:
        self._acknowledge(seq, at)
        now = time.perf_counter()
        with self._lock:
            began, account = self._recorded.pop(seq)
            self.hop_ms.append((now - began) * 1000)
            if self._seen.get(account, {}).get(at.partition, -1) >= at.offset:
                self.signal_ms.append((now - began) * 1000)
            else:
                self._stored[account, at.partition].append((at.offset, began))

    def _on_signal(self, signal: Signal, now: datetime) -> None:
        self._take(signal, now)
        at = time.perf_counter()
        with self._lock:
            self._seen[signal.account] = signal.watermark
            for partition, last in signal.watermark.items():
                waiting = self._stored[signal.account, partition]
                while waiting and waiting[0][0] <= last:
                    self.signal_ms.append((at - waiting.popleft()[1]) * 1000)


@contextmanager
def running(directory: Path, workers: int) -> Iterator[Settings]:
    """A broker with the topics, and stream workers that are ready."""
    with running_broker("latency") as broker:
        settings = Settings(kafka_bootstrap=broker.bootstrap)
        asyncio.run(create_topics(settings))
        children = []
        try:
            for number in range(workers):
                port = free_port()
                env = {
                    **os.environ,
                    "SPENDMETER_KAFKA_BOOTSTRAP": broker.bootstrap,
                    "SPENDMETER_METRICS_PORT": str(port),
                    "SPENDMETER_INSTANCE_ID": f"stream-{number}",
                    "SPENDMETER_DATA_DIR": str(directory / f"stream-{number}"),
                }
                log = directory / f"stream-{number}.log"
                children.append(start_child([sys.executable, "-m", "spendmeter_stream"], log=log, env=env))
                wait_for("the stream", partial(says_ready, f"http://{LOOPBACK}:{port}/metrics"))
            yield settings
        finally:
            for child in reversed(children):
                stop_child(child, grace_seconds=20)


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Wait for something to start. Raises ClickException."""
    if not wait_until(condition, timeout_seconds=START_WITHIN_SECONDS):
        raise click.ClickException(f"{what} did not start within {START_WITHIN_SECONDS} s")


async def apply_budget(settings: Settings) -> None:
    """One lifetime budget for each key."""
    fields = {
        "id": "per-key",
        "match": {"key": "*"},
        "period": "lifetime",
        "limit_nanousd": from_usd(LIMIT_USD),
        "updated_at": datetime.now(UTC),
    }
    async with connect(settings) as client:
        await client.apply([Budget.model_validate(fields)])


def record(gateway: Gateway, key: str, cost_nanousd: int) -> UsageEvent:
    """One event, as the callback records it."""
    now = datetime.now(UTC)
    fields = {
        "event_id": uuid7(time.time_ns() // 1_000_000),
        "occurred_at": now,
        "started_at": now,
        "key": key,
        "model": "gpt-4o-mini",
        "model_group": "gpt-4o-mini",
        "cost_nanousd": cost_nanousd,
        "cost_source": CostSource.LITELLM,
    }
    event = gateway.record(UsageDraft(fields))
    assert event is not None, "every id is new"
    return event


def drive(probe: Probe, rate: float, seconds: float, chance: random.Random) -> None:
    """Record at a steady rate; a stall is not made up for by a burst."""
    due = time.perf_counter()
    until = due + seconds
    while due < until:
        probe.record(f"k{chance.randrange(KEYS)}", 1_000)
        due = max(due + 1 / rate, time.perf_counter() - 0.005)
        time.sleep(max(0.0, due - time.perf_counter()))


def share(values: list[float], fraction: float) -> float:
    """The value that this fraction of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def drain(probe: Probe) -> None:
    """Wait until each recorded event is in a signal."""
    if not wait_until(lambda: probe.left == 0, timeout_seconds=LEFT_WITHIN_SECONDS):
        raise click.ClickException(f"{probe.left} events are in no signal after {LEFT_WITHIN_SECONDS} s")


@click.command()
@click.option("--rate", "rates", type=float, multiple=True, default=(100, 1_000, 5_000), show_default=True)
@click.option("--seconds", type=float, default=20.0, show_default=True)
@click.option("--workers", type=int, default=1, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(rates: tuple[float, ...], seconds: float, workers: int, seed: int) -> None:
    """Print, per rate, how long events took."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="spendmeter-latency-") as name:
        directory = Path(name)
        with running(directory, workers) as settings:
            asyncio.run(apply_budget(settings))
            gateway = Gateway(
                GatewaySettings(kafka_bootstrap=settings.kafka_bootstrap, data_dir=directory / "gateway")
            )
            gateway.start()
            try:
                wait_for("the gateway", lambda: gateway.views.are_read)
                probe = Probe(gateway)
                for key in range(KEYS):
                    probe.record(f"k{key}", int(CLOSE_NANOUSD))
                drain(probe)
                click.echo("\n".join(f"- {fact}" for fact in describe()) + "\n")
                click.echo("| events/s | reached | hop 1 p50 | p99 | signal p50 | p99 | max (ms) |")
                click.echo("|---|---|---|---|---|---|---|")
                for rate in rates:
                    # Broker and worker have only just started: what is still cold is not what is asked.
                    drive(probe, rate, WARM_UP_SECONDS, chance)
                    drain(probe)
                    probe.forget()
                    drive(probe, rate, seconds, chance)
                    drain(probe)
                    hop, signal = probe.hop_ms, probe.signal_ms
                    shares = [share(of, fraction) for of in (hop, signal) for fraction in (0.5, 0.99)]
                    told = " | ".join(f"{ms:.1f}" for ms in (*shares, max(signal)))
                    click.echo(f"| {rate:g} | {len(signal) / seconds:.0f} | {told} |")
            finally:
                gateway.stop()


if __name__ == "__main__":
    main()
