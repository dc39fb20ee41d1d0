"""Where the proxy runs: LiteLLM's release, the outbox's folder and disk, worker processes."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from spendmeter_doctor.diagnosis import Diagnosis, FindingSeverity, fault, of_sentence, unchecked, warning
from spendmeter_doctor.system import Process, System
from spendmeter_gateway.checks import nearest_existing, outbox_faults
from spendmeter_gateway.litellm.releases import NEWEST, OLDEST, why_refused
from spendmeter_gateway.settings import GatewaySettings

LEAST_FREE_BYTES = 64 * 1024**2
MOUNTS = Path("/proc/self/mountinfo")
_OF_A_CONTAINER = ("overlay", "aufs", "tmpfs", "ramfs")
_OF_A_NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "glusterfs",
    "ceph",
    "lustre",
    "fuse.sshfs",
    "fuse.s3fs",
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


def check_gateway(system: System) -> list[Diagnosis]:
    """All of it; nothing where no gateway would run."""
    if Process.GATEWAY not in system.processes:
        return []
    if system.litellm_release is None:
        return [
            unchecked(
                "litellm-not-here",
                "LiteLLM is not installed here, so neither its release nor the outbox was checked",
                "run the doctor with the proxy's Python, where the proxy runs",
            )
        ]
    found = list(_of_release(system.litellm_release))
    if system.gateway is not None:
        found += _of_outbox(system.gateway, system.is_data_dir_set)
        found += _of_workers(system.gateway, system.workers)
    return found


def _of_release(release: str) -> Iterator[Diagnosis]:
    if (why := why_refused(release)) is not None:
        yield of_sentence(FindingSeverity.FAULT, "litellm-refused", f"the gateway {why}")
    elif not release_of(OLDEST) <= release_of(release) <= release_of(NEWEST):
        yield warning(
            "litellm-untested",
            f"LiteLLM is {release}; the callback is tested with {OLDEST} to {NEWEST}",
            "install one of docs/reference/litellm-versions.md, or try this one before it serves people",
        )


def release_of(version: str) -> tuple[int, int]:
    """Its first two numbers, to compare; what is no number counts as 0."""
    major, minor, *_ = [*re.findall(r"\d+", version), "0", "0"]
    return int(major), int(minor)


def _of_outbox(settings: GatewaySettings, is_set: bool) -> Iterator[Diagnosis]:
    folder = settings.data_dir
    faults = list(outbox_faults(folder, is_made=False))
    for said in faults:
        yield of_sentence(FindingSeverity.FAULT, "outbox-unwritable", said)
    if not is_set or not folder.is_absolute():
        yield warning(
            "outbox-relative",
            f"the outbox is in {folder}, relative to wherever the proxy is started: from another"
            " folder, or after"
            " an upgrade, what was not yet sent stays behind",
            "SPENDMETER_DATA_DIR=/var/lib/spendmeter, on a disk that outlives the container",
        )
    kind = filesystem_of(nearest_existing(folder), MOUNTS)
    if kind in _OF_A_CONTAINER:
        yield warning(
            "outbox-not-kept",
            f"the outbox {folder} is on {kind}: what Kafka has not yet acknowledged is gone with the"
            " container or"
            " at the next boot",
            "mount a volume that outlives the pod, and name it in SPENDMETER_DATA_DIR",
        )
    elif kind in _OF_A_NETWORK:
        yield fault(
            "outbox-network",
            f"the outbox {folder} is on {kind}: locks of a network's file system do not keep two"
            " gateways apart",
            "name a local disk in SPENDMETER_DATA_DIR",
        )
    if not faults:
        yield from _of_space(settings)


def _of_space(settings: GatewaySettings) -> Iterator[Diagnosis]:
    free = shutil.disk_usage(nearest_existing(settings.data_dir)).free
    if free < LEAST_FREE_BYTES:
        yield fault(
            "outbox-space",
            f"the outbox {settings.data_dir} has {free / 1024**2:,.0f} MiB left: when it is full,"
            " events are lost",
            "free some disk, or name another in SPENDMETER_DATA_DIR",
        )
    elif free < settings.outbox_max_bytes:
        yield warning(
            "outbox-space",
            f"the outbox may grow to {settings.outbox_max_bytes:,} bytes while Kafka is away, and"
            " its disk has"
            f" {free:,} left",
            "free some disk, name another in SPENDMETER_DATA_DIR, or lower SPENDMETER_OUTBOX_MAX_BYTES",
        )


def _of_workers(settings: GatewaySettings, workers: int) -> Iterator[Diagnosis]:
    if workers > 1 and settings.metrics_port:
        yield warning(
            "workers-metrics",
            f"the proxy runs {workers} worker processes, and only one of them gets port"
            f" {settings.metrics_port}:"
            " the metrics are of that one",
            "run one worker a container, or SPENDMETER_METRICS_PORT=0 and sum up Kafka and history",
        )


def filesystem_of(folder: Path, mounts: Path) -> str | None:
    """The kind of file system that the folder is on; None where the machine does not list its mounts."""
    try:
        listed = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    at, kind = Path(), None
    resolved = folder.resolve()
    for line in listed:
        before, _, after = line.partition(" - ")
        mounted = Path(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), before.split(" ")[4]))
        # Of two that are mounted at one folder the later one is seen.
        if resolved.is_relative_to(mounted) and len(mounted.parts) >= len(at.parts):
            at, kind = mounted, after.split(" ")[0]
    return kind
