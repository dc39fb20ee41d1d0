"""What a running system is seen to use, sample by sample: memory, processor time, lag, latency."""

from dataclasses import dataclass
from pathlib import Path

from bench.latency import Probe, share
from bench.processes import cpu_seconds
from spendmeter.contract.topics import Topic
from spendmeter.kafka.groups import SINK_GROUP, STREAM_GROUP
from spendmeter_sinks.reconcile.kafka_reader import KafkaReader


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at everything."""

    minutes: float
    """Since the load began."""
    recorded: int
    """Events, since the load began."""
    memory_mib: dict[str, float]
    """Resident, by component."""
    cpu_seconds: dict[str, float]
    """Since it started, by component."""
    lag: dict[str, int]
    """Records between the end of a component's source and what it has committed."""
    p50_ms: float
    p99_ms: float
    """From recording to the signal, of the events since the last sample."""


async def lag(positions: KafkaReader) -> dict[str, int]:
    """Of the stream over usage and totals, of the sink over usage."""
    usage, totals = await positions.ends(Topic.USAGE), await positions.ends(Topic.TOTALS)
    return {
        "stream": await positions.lag(STREAM_GROUP, {**usage, **totals}),
        "sink": await positions.lag(SINK_GROUP, usage),
    }


def memory(pids: dict[str, int]) -> dict[str, float]:
    """Resident MiB by component."""
    return {name: _resident_mib(pid) for name, pid in pids.items()}


def cpu(pids: dict[str, int]) -> dict[str, float]:
    """Processor seconds by component; each leads a session of its own."""
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


def latency(probe: Probe) -> tuple[float, float]:
    """Median and 99th percentile since the last call, in ms; not a number if there was no event."""
    taken = probe.signal_ms
    probe.forget()
    return (share(taken, 0.5), share(taken, 0.99)) if taken else (float("nan"), float("nan"))


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(f"process {pid} has ended")
