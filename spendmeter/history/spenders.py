"""Who spent what in a span of time.

Money is exact, corrections and voids included. Requests are all that were made, also those that failed, as in
the views.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from spendmeter.history.names import NAMED
from spendmeter.history.sums import Condition, held_to, source_of_sums
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import TimeSpan

Filters = Mapping[Dimension, Collection[str]]
"""Dimension: ids and names of which a request must have one; an empty text: it has none."""
_AFTER_EVERYTHING: Final = datetime(2100, 1, 1, tzinfo=UTC)


class SpendSpan(NamedTuple):
    """`[start, end)`; without an end it is open."""

    start: datetime
    end: datetime | None = None


class SpentAmounts(NamedTuple):
    """What was spent, and on how many requests."""

    usd: Decimal
    requests: int
    failures: int
    """Requests that failed."""
    unpriced: int
    """Requests without a known price; no sum of money includes them."""
    input_tokens: int
    output_tokens: int


_SUMS: Final = ", ".join(
    f"sum({name})" for name in ("spent_usd", *(one for one in SpentAmounts._fields if one != "usd"))
)


class Spender(NamedTuple):
    """One value of each dimension of the question."""

    ids: tuple[str, ...]
    """Empty text: these requests have none."""
    names: tuple[str, ...]
    """The latest for people; empty if history has none."""
    spent: SpentAmounts


def spend_by(
    client: Client,
    by: Sequence[Dimension],
    within: SpendSpan,
    filters: Filters,
    rows: int,
    of_each: int | None = None,
) -> tuple[list[Spender], int]:
    """The biggest spenders first, and how many there are.

    Args:
        of_each: so many at most with the same first value, such as five keys of each team.
    """
    source, parameters = _source(by, within, filters)
    ids = ", ".join(f"v_{one}" for one in by)
    names = ", ".join(label_sql(one) for one in by)
    found = client.query(
        f"SELECT {ids}, {names}, {_SUMS}, count() OVER () FROM {source} GROUP BY {ids}"
        f" ORDER BY sum(spent_usd) DESC, sum(requests) DESC, {ids}"
        f"{f' LIMIT {of_each} BY v_{by[0]}' if of_each else ''} LIMIT {{rows:UInt32}}",
        parameters={**parameters, "rows": rows},
    ).result_rows
    count = len(by)
    spenders = [
        Spender(tuple(row[:count]), tuple(row[count : 2 * count]), SpentAmounts(*row[2 * count : -1]))
        for row in found
    ]
    return spenders, int(found[0][-1]) if found else 0


def total_spend(client: Client, within: SpendSpan, filters: Filters) -> SpentAmounts:
    """All of it, each request once, however many tags it has."""
    source, parameters = _source((), within, filters)
    return SpentAmounts(*client.query(f"SELECT {_SUMS} FROM {source}", parameters=parameters).result_rows[0])


def label_sql(dimension: Dimension) -> str:
    """What people call a value, the latest in a source of sums; empty where nobody has said so."""
    name = f"n_{dimension}"
    return f"argMaxIf({name}, at, {name} != '')" if dimension in NAMED else "''"


def _source(by: Sequence[Dimension], within: SpendSpan, filters: Filters) -> tuple[str, dict[str, Any]]:
    conditions, parameters = list[Condition](), dict[str, Any]()
    for dimension, values in filters.items():
        condition, given = held_to(dimension, values, by_name=True)
        conditions.append(condition)
        parameters |= given
    span = TimeSpan(*(min(time or _AFTER_EVERYTHING, _AFTER_EVERYTHING) for time in within))
    source, of_span = source_of_sums(span, (), by, conditions)
    return source, parameters | of_span
