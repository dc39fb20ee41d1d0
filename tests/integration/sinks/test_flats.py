"""For how many flat amounts an event counts: ClickHouse's word for it is the contract's."""

from itertools import product
from types import SimpleNamespace
from typing import Any, cast

from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind
from spendmeter.domain.charge import flats_of
from spendmeter.runtime.clickhouse import client
from spendmeter.settings import ClickHouseSettings
from spendmeter_sinks.history.usage_rows import FLATS_OF


def test_the_column_says_what_the_contract_says_of_every_kind_of_event(clickhouse: str) -> None:
    every = list(product(CostSource, Status, UsageKind))
    rows = ", ".join(f"('{source}', '{status}', '{kind}')" for source, status, kind in every)
    columns = "cost_source String, status String, kind String"
    with client(ClickHouseSettings(clickhouse_url=clickhouse), database=None) as history:
        found = history.query(
            f"SELECT cost_source, status, kind, {FLATS_OF} FROM values('{columns}', {rows})"
        ).result_rows

    def by_contract(source: CostSource, status: Status, kind: UsageKind) -> int:
        event: Any = SimpleNamespace(cost_source=source, status=status, kind=kind)
        return flats_of(cast(UsageEvent, event))

    assert sorted(found) == sorted((*one, by_contract(*one)) for one in every)
