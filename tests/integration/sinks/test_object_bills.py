"""A thing that a provider bills once, read at several gateways: one event in totals, history, `reconcile`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spendmeter.contract.provider_object import ObjectKind, ProviderObject, object_name
from spendmeter.contract.usage import CostSource
from spendmeter.values.ids import uuid7
from spendmeter.values.times import EPOCH
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.litellm.payload.provider_objects import Sighting, bill_of
from spendmeter_gateway.model import UsageDraft
from spendmeter_gateway.settings import GatewaySettings
from tests.builders import budget
from tests.integration.producers.conftest import until

from .test_reconcile import System, running_system

COST_NANOUSD = 3_500_000


@pytest.fixture
def live(kafka: str, clickhouse: str, tmp_path: Path) -> Iterator[System]:
    with running_system(kafka, clickhouse, tmp_path) as running:
        yield running


@asynccontextmanager
async def gateway(system: System, name: str, directory: Path) -> AsyncIterator[Gateway]:
    settings = GatewaySettings(
        kafka_bootstrap=system.settings.kafka_bootstrap,
        topic_prefix=system.settings.topic_prefix,
        data_dir=directory / name,
        gateway=name,
    )
    running = Gateway(settings)
    running.start()
    try:
        await until(lambda: running.views.are_read, "budgets and signals are read")
        await running.budgets_read()
        yield running
    finally:
        await asyncio.to_thread(running.stop)


def sighting(number: int) -> Sighting:
    own = f"resp_{number}"
    now = datetime.now(UTC).replace(microsecond=0)
    name = object_name("openai", own)
    return Sighting(name, own, ObjectKind.RESPONSE, False, True, True, now, None, (), 0)


async def reads(at: Gateway, seen: Sighting, reader: str) -> None:
    """A read of the finished object, as LiteLLM logs it."""
    now = datetime.now(UTC)
    fields = {
        "event_id": uuid7(int(now.timestamp() * 1000)),
        "occurred_at": now,
        "started_at": now,
        "key": reader,
        "model": "gpt-4o",
        "model_group": "smart",
        "total_tokens": 1100,
        "cost_nanousd": COST_NANOUSD,
        "cost_source": CostSource.LITELLM,
    }
    bill = bill_of(UsageDraft(fields), seen, at.objects.maker(seen.object_id), now)
    assert bill is not None
    at.record(bill)


async def test_what_two_gateways_bill_counts_once_everywhere(live: System, tmp_path: Path) -> None:
    known, unknown = sighting(1), sighting(2)
    maker = ProviderObject(
        object_id=known.object_id,
        kind=ObjectKind.RESPONSE,
        created_at=datetime.now(UTC),
        key="maker",
        model_group="smart",
    )
    async with live.stream() as stream:
        of = [budget(period="lifetime"), budget(id="all", match={}, period="lifetime")]
        await stream.client.apply(of)
        async with gateway(live, "g1", tmp_path) as g1, gateway(live, "g2", tmp_path) as g2:
            g1.objects.made(maker)
            await until(lambda: g2.objects.maker(known.object_id) == maker, "g2 hears who made it")
            for at, reader in ((g2, "bob"), (g1, "ann"), (g2, "ann"), (g1, "maker")):
                await reads(at, known, reader)
            # Nobody knows who made it: whoever's bill is stored first pays, and nobody else.
            await reads(g1, unknown, "ann")
            await reads(g2, unknown, "bob")
            await until(
                lambda: all(
                    g.views.spend.known("all|", EPOCH).certain_nanousd == 2 * COST_NANOUSD for g in (g1, g2)
                ),
                "both know what was spent, each bill once",
            )
        async with gateway(live, "g1", tmp_path) as again:
            await until(lambda: again.objects.maker(known.object_id) == maker, "it is known after a restart")
            await reads(again, known, "bob")
            await reads(again, unknown, "bob")

        report = await live.compare()
        spent = await stream.spent()

    assert report.equal, report.model_dump_json(indent=2)
    assert (report.compared.events, report.nanousd.recorded) == (2, 2 * COST_NANOUSD)
    assert spent["all|"] == 2 * COST_NANOUSD
    assert spent["per-key|key=maker"] == COST_NANOUSD
    assert sorted([spent.get("per-key|key=ann", 0), spent.get("per-key|key=bob", 0)]) == [0, COST_NANOUSD]
    rows = live.history.query(
        "SELECT object_id, count() FROM usage GROUP BY object_id ORDER BY 1"
    ).result_rows
    assert rows == [(known.object_id, 1), (unknown.object_id, 1)]
