"""An insert of which ClickHouse says that it wrote less than it was sent."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from clickhouse_connect.driver.client import Client
from yarl import URL

from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import PartialInsert
from tests.builders import usage
from tests.integration.sinks.conftest import Put
from tests.integration.sinks.test_outages import sink_of
from tests.patience import WITHIN_SECONDS

SUMMARY = "X-ClickHouse-Summary"


@pytest.fixture
async def one_row_short(settings: SinkSettings) -> AsyncIterator[SinkSettings]:
    """The same engine behind a front that reports one row less of each insert."""
    port = free_port()
    engine = URL(settings.clickhouse_url).with_user(None)
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.Response:
            url = engine.join(request.rel_url)
            body = await request.read()
            # The body is sent on whole, whatever way it came.
            kept = {n: v for n, v in request.headers.items() if n not in ("Host", "Transfer-Encoding")}
            async with session.request(request.method, url, data=body, headers=kept) as answer:
                headers = {name: value for name, value in answer.headers.items() if name.startswith("X-")}
                summary = json.loads(headers.get(SUMMARY, "{}"))
                if int(summary.get("written_rows", 0)):
                    summary["written_rows"] = str(int(summary["written_rows"]) - 1)
                    headers[SUMMARY] = json.dumps(summary)
                return web.Response(status=answer.status, body=await answer.read(), headers=headers)

        app = web.Application(handler_args={"auto_decompress": False})
        app.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, port).start()
        behind = URL(settings.clickhouse_url).with_port(port)
        yield settings.model_copy(update={"clickhouse_url": str(behind)})
        await runner.cleanup()


async def test_the_sink_stops_and_says_which_batch_rather_than_pass_over_a_lost_row(
    one_row_short: SinkSettings, history: Client, put: Put
) -> None:

    await put(Topic.USAGE, [encode_usage(usage(n)) for n in (1, 2)])
    with pytest.raises(
        PartialInsert, match=r"spend\.usage/[^:]+:0:0-1@\d+: ClickHouse wrote 1 of 2 rows to usage"
    ):
        async with asyncio.timeout(WITHIN_SECONDS):
            await sink_of(one_row_short).run(asyncio.Event())
