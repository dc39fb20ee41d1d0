"""Spend by a dimension over the last hours or days, as history has it: the query behind `spendmeter top`."""

from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

from spendmeter.runtime.clickhouse import Client
from spendmeter.values.dimensions import DIMENSIONS as ALL_DIMENSIONS
from spendmeter.values.dimensions import Dimension, field_of

WINDOWS = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
}
# A dimension as history keeps it; a tag counts for each event that carries it, and a model that an earlier
# version recorded with its provider in front for the one of its name.
_AS_KEPT: dict[Dimension, str] = {
    "tag": "arrayJoin(tags)",
    "model": "if(startsWith(model, concat(provider, '/')), substring(model, length(provider) + 2), model)",
}
DIMENSIONS: dict[str, str] = {d: _AS_KEPT.get(d, field_of(d)) for d in ALL_DIMENSIONS}


class Spender(NamedTuple):
    """One value of the dimension, and what it spent in the window."""

    name: str
    alias: str
    """Of a key; empty otherwise."""
    spent_usd: Decimal
    requests: int
    input_tokens: int
    output_tokens: int
    unpriced: int
    """Requests whose price nobody knows; they are in no sum of money."""


def spend_by(client: Client, dimension: str, window: str, rows: int) -> list[Spender]:
    """The biggest spenders first. `client` is connected to the database that holds `usage`."""
    answer = client.query(
        f"""
        SELECT
            ifNull({DIMENSIONS[dimension]}, '') AS name,
            {"ifNull(argMax(key_alias, occurred_at), '')" if dimension == "key" else "''"} AS alias,
            sum(cost_usd) AS spent_usd,
            countIf(kind = 'usage') AS requests,
            sum(input_tokens),
            sum(output_tokens),
            countIf(kind = 'usage' AND cost_source = 'unpriced')
        FROM usage FINAL
        WHERE occurred_at >= now64(6) - INTERVAL {{seconds:UInt32}} SECOND
            AND (status = 'success' OR cost_usd != 0)
        GROUP BY name
        ORDER BY spent_usd DESC, requests DESC, name
        LIMIT {{rows:UInt32}}
        """,
        parameters={"seconds": int(WINDOWS[window].total_seconds()), "rows": rows},
    )
    return [Spender(*row) for row in answer.result_rows]
