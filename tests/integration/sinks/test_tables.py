"""Each topic's records as a person finds them in ClickHouse."""

from decimal import Decimal

from clickhouse_connect.driver.client import Client

from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from tests.builders import usage
from tests.integration.sinks.conftest import Eventually, Put, Running


async def test_usage_is_there_within_a_second_and_exact(
    running: Running, put: Put, eventually: Eventually, history: Client
) -> None:
    async with running():
        await put(Topic.USAGE, [encode_usage(usage(seq, cost_nanousd=seq)) for seq in range(1, 1001)])
        await eventually("SELECT count() FROM usage", [(1000,)])
    assert history.query("SELECT sum(cost_usd) FROM usage FINAL").result_rows == [(Decimal("0.0005005"),)]
