"""How many of our files one event passes, from LiteLLM's callback to the refusal of a later request.

Not what is imported, but what runs: in a real proxy and a real stream worker, between a request that spends a
budget and the answer that refuses the next one. `make event-path` prints the list.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.signal import Signal, State
from spendmeter_local.probes import wait_until
from tests.e2e.conftest import Proxy, running_proxy
from tests.e2e.test_proxy import RECORDED, chat, post, wait_recorded
from tests.event_path.sitecustomize import TRACE
from tests.integration.stream.conftest import Worker

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "spendmeter": ROOT / "spendmeter",
    "spendmeter_gateway": ROOT / "producers/spendmeter_gateway",
    "spendmeter_stream": ROOT / "stream/spendmeter_stream",
}
MOST_FILES = 112
"""A ratchet: it only falls. The aim was 55; a run meets 109 (docs/decisions/0031).

What is done by time (settlement, prices that are read again) runs meanwhile in one run and not in
another: hence the few on top.
"""
WITHIN_SECONDS = 60
COST_NANOUSD = 210_000
"""Of one request of `chat`."""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    directory = tmp_path / "trace"
    directory.mkdir()
    return directory


@pytest.fixture
def proxy(kafka: str, tmp_path: Path, trace: Path) -> Iterator[Proxy]:
    with running_proxy(kafka, tmp_path, **environment(trace)) as proxy:
        yield proxy


@pytest.fixture
def worker(proxy: Proxy, tmp_path: Path, trace: Path) -> Iterator[Worker]:
    partitions = {"SPENDMETER_PARTITIONS": str(proxy.settings.partitions)}
    worker = Worker(proxy.settings, tmp_path, "stream", **partitions, **environment(trace))
    try:
        yield worker.wait_ready()
    finally:
        worker.kill()


def environment(trace: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).parent), TRACE: str(trace)}


@contextmanager
def noting(trace: Path, into: set[str], processes: int) -> Iterator[None]:
    """Note the product's files that run in the processes while the context lasts."""

    def wait_for(ending: str) -> list[Path]:
        found = wait_until(
            lambda: len(list(trace.glob(f"*.{ending}"))) >= processes, timeout_seconds=WITHIN_SECONDS
        )
        assert found, f"{processes} processes do not trace: {sorted(one.name for one in trace.iterdir())}"
        return list(trace.glob(f"*.{ending}"))

    (trace / "begin").touch()
    wait_for("noting")
    yield
    (trace / "end").touch()
    for written in wait_for("files"):
        into.update(written.read_text(encoding="utf-8").splitlines())


async def spent(proxy: Proxy, budget: Budget) -> Signal:
    """The signal that says so."""
    async with (
        asyncio.timeout(WITHIN_SECONDS),
        connect(proxy.settings) as client,
        aclosing(client.subscribe(budget.id)) as signals,
    ):
        async for signal in signals:
            if signal.state is State.EXCEEDED:
                return signal
    raise AssertionError("signals ended")


async def apply(proxy: Proxy, budget: Budget) -> None:
    async with connect(proxy.settings) as client:
        await client.apply([budget])


def by_package(files: set[str]) -> dict[str, list[str]]:
    return {
        package: sorted(
            str(Path(file).relative_to(folder)) for file in files if Path(file).is_relative_to(folder)
        )
        for package, folder in PACKAGES.items()
    }


def test_one_event_passes_few_files_from_the_callback_to_the_refusal(
    proxy: Proxy, worker: Worker, trace: Path
) -> None:
    key, user = proxy.key(max_budget=1)["key"], f"u-{uuid4().hex[:8]}"
    given = {"period": "day", "updated_at": datetime.now(UTC), "limit_nanousd": COST_NANOUSD}
    budget = Budget.model_validate({"id": f"of-{user}", "match": {"end_user": user}, **given})
    asyncio.run(apply(proxy, budget))
    # What happens once, such as a key's first request, is over before the event begins.
    before = proxy.metric(RECORDED)
    assert post(proxy, key, "/v1/chat/completions", chat("another")).status_code == 200
    wait_recorded(proxy, before)

    files: set[str] = set()
    with noting(trace, files, processes=2):
        answered = post(proxy, key, "/v1/chat/completions", chat(user))
        asyncio.run(spent(proxy, budget))
        refused = post(proxy, key, "/v1/chat/completions", chat(user))

    assert (answered.status_code, refused.status_code) == (200, 422), (answered.text, refused.text)
    found = by_package(files)
    for package, paths in found.items():
        rooms = Counter(path.partition("/")[0] for path in paths)
        print(f"\n{package}: {len(paths)} files", dict(rooms), *paths, sep="\n  ")
    for passed in ("litellm/callback.py", "outbox/sender.py", "spend/believed_signals.py"):
        assert passed in found["spendmeter_gateway"]
    assert {"processor.py", "judge/judge.py", "meter/meter.py"} <= set(found["spendmeter_stream"])
    assert sum(map(len, found.values())) <= MOST_FILES
