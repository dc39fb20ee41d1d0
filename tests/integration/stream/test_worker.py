"""One worker on the real broker: totals, signals, alerts, dead letters."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.request import urlopen

from spendmeter.contract.alert import AlertKind
from spendmeter.contract.dead_letter import Reason
from spendmeter.contract.money import from_usd
from spendmeter.contract.signal import State
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import CostSource
from spendmeter_local.ports import LOOPBACK
from spendmeter_local.probes import wait_until
from tests.builders import budget, usage
from tests.patience import WITHIN_SECONDS


def now_usage(seq: int, cost_nanousd: int = 100_000, **fields: Any) -> Any:
    now = datetime.now(UTC)
    return usage(seq, cost_nanousd, **{"occurred_at": now, "started_at": now, **fields})


async def test_events_become_totals_a_signal_and_alerts(stream: Any, workers: Any) -> None:
    await stream.client.apply([budget(warn_at=(0.5, 0.8))])
    workers().wait_ready()
    await stream.send([now_usage(seq) for seq in range(1, 11)])

    signals = await stream.until(Topic.SIGNALS, lambda found: found and found[-1].spent_nanousd == 1_000_000)
    signal = signals[-1]
    assert signal.account == "per-key|key=k1"
    assert signal.state is State.EXCEEDED
    assert signal.limit_nanousd == from_usd("0.001")
    assert sum(signal.watermark.values()) == 9

    alerts = await stream.until(Topic.ALERTS, lambda found: len(found) >= 3)
    assert [(a.kind, a.signal.threshold is not None) for a in alerts] == [
        (AlertKind.THRESHOLD, True),
        (AlertKind.THRESHOLD, True),
        (AlertKind.EXCEEDED, True),
    ]


async def test_a_budget_applied_before_an_event_meters_it(stream: Any, workers: Any) -> None:
    """The event follows the budget at once; the worker must not fold it under the book it had before."""
    workers().wait_ready()
    expected = {}
    for n in range(20):
        await stream.client.apply([budget(id=f"b{n}", match={"key": f"k{n}"})])
        await stream.send([now_usage(n + 1, 7, key=f"k{n}")])
        expected[f"b{n}|key=k{n}"] = 7
    await stream.until_spent(expected)


async def test_what_cannot_be_read_is_kept_and_the_rest_counts(stream: Any, workers: Any) -> None:
    await stream.client.apply([budget()])
    workers().wait_ready()
    good = now_usage(1, 500)
    negative = now_usage(2).model_dump_json().replace('"cost_nanousd":100000', '"cost_nanousd":-1').encode()
    future = now_usage(3, occurred_at=datetime.now(UTC) + timedelta(days=2)).model_dump_json().encode()
    await stream.send_raw(Topic.USAGE, b"\xff not json", key=b"\xfe")
    await stream.send_raw(
        Topic.USAGE, good.model_dump_json().encode(), headers=[("ce_type", b"dev.spendmeter.usage.v9")]
    )
    await stream.send_raw(Topic.USAGE, negative)
    await stream.send_raw(Topic.USAGE, future)
    await stream.send([good])

    letters = await stream.until(Topic.DEAD_LETTERS, lambda found: len(found) >= 4)
    assert {letter.reason for letter in letters} == {
        Reason.NOT_JSON,
        Reason.UNKNOWN_SCHEMA,
        Reason.INVALID,
        Reason.FROM_THE_FUTURE,
    }
    kept = {letter.reason: letter.record_bytes() for letter in letters}
    assert kept[Reason.NOT_JSON] == (b"\xfe", b"\xff not json")
    assert kept[Reason.INVALID] == (b"k1", negative)
    await stream.until_spent({"per-key|key=k1": 500})


async def test_an_unpriced_model_is_told_once_not_silently_free(stream: Any, workers: Any) -> None:
    workers().wait_ready()
    await stream.send(
        [now_usage(n, 0, model="homegrown", cost_source=CostSource.UNPRICED) for n in (1, 2, 3)]
    )
    await stream.send([now_usage(4, 0, model="other", cost_source=CostSource.UNPRICED)])

    alerts = await stream.until(Topic.ALERTS, lambda found: len(found) >= 2)
    assert [a.kind for a in alerts] == [AlertKind.UNPRICED] * 2
    assert ["homegrown" in a.message for a in alerts] == [True, False]


async def test_a_model_whose_cost_is_doubted_is_told_once_a_reason(stream: Any, workers: Any) -> None:
    workers().wait_ready()
    await stream.send(
        [now_usage(n, 9, model="m", cost_source="tokens", cost_doubt="zero") for n in (1, 2, 3)]
    )
    await stream.send([now_usage(4, 9, model="m", cost_source="tokens", cost_doubt="below_tokens")])

    alerts = await stream.until(Topic.ALERTS, lambda found: len(found) >= 2)
    assert [a.kind for a in alerts] == [AlertKind.DOUBTED] * 2
    assert [word in a.message for a, word in zip(alerts, ("zero", "below_tokens"), strict=True)] == [
        True,
        True,
    ]


async def test_a_raise_recovers_and_a_removal_withdraws_the_signal(stream: Any, workers: Any) -> None:
    await stream.client.apply([budget()])
    workers().wait_ready()
    await stream.send([now_usage(1, 1_000_000)])
    await stream.until(Topic.ALERTS, lambda found: any(a.kind is AlertKind.EXCEEDED for a in found))

    await stream.client.set_limit("per-key", from_usd("0.002"))
    alerts = await stream.until(Topic.ALERTS, lambda found: found[-1].kind is AlertKind.RECOVERED)
    assert alerts[-1].signal.state is State.OK
    assert alerts[-1].signal.limit_nanousd == from_usd("0.002")

    await stream.client.remove("per-key")
    await until_withdrawn(stream)


async def until_withdrawn(stream: Any) -> None:
    for _ in range(100):
        if not await stream.client.signals():
            return
    raise AssertionError("the signal of a removed budget is still there")


def gauges_of(worker: Any, prefix: str = "spendmeter_budget_") -> dict[str, float]:
    """Samples on its metrics page, with their labels, as they are written there."""
    with urlopen(f"http://{LOOPBACK}:{worker.port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if line.startswith(prefix))
    return {name: float(value) for name, _, value in samples if "{" in name}


async def test_the_metrics_page_has_the_accounts_closest_to_their_limit(stream: Any, workers: Any) -> None:
    await stream.client.apply([budget(period="year"), budget(id="per-tag", match={"tag": "*"})])
    worker = workers(SPENDMETER_BUDGET_GAUGES="1").wait_ready()
    await stream.send([now_usage(1, 250_000, tags=("t",)), now_usage(2, 100_000, key="k2")])

    async def until(holds: Callable[[], bool]) -> None:
        found = await asyncio.to_thread(wait_until, holds, timeout_seconds=WITHIN_SECONDS)
        assert found, gauges_of(worker)

    def says(key: str, spent_usd: float) -> bool:
        found = gauges_of(worker)
        resets = found.pop(f'spendmeter_budget_reset_seconds{{budget="per-key",key="{key}"}}', 0)
        return 0 < resets <= 366 * 86_400 and found == {
            f'spendmeter_budget_limit_usd{{budget="per-key",key="{key}"}}': 0.001,
            f'spendmeter_budget_spent_usd{{budget="per-key",key="{key}"}}': spent_usd,
            f'spendmeter_budget_remaining_usd{{budget="per-key",key="{key}"}}': round(0.001 - spent_usd, 9),
            f'spendmeter_budget_state{{budget="per-key",key="{key}"}}': 2.0 if spent_usd > 0.001 else 0.0,
        }

    await until(lambda: says("k1", 0.00025))
    await stream.send([now_usage(3, 1_000_000, key="k2")])
    await until(lambda: says("k2", 0.0011))

    await stream.client.remove("per-key")
    await until(lambda: not gauges_of(worker))
    # Everything is worked off.
    await until(lambda: set(gauges_of(worker, "spendmeter_stream_lag_seconds").values()) == {0.0})
