"""Laws of usage as columns: what is written is what was recorded, in ClickHouse's own format."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.driver.insert import InsertContext
from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.records import encode_usage
from spendmeter.contract.usage import CostSource, UsageEvent, UsageKind
from spendmeter.domain.writers import MAX_SEQ
from spendmeter.values.times import EPOCH, to_unix_us
from spendmeter_sinks.clickhouse.column_types import Names, type_of
from spendmeter_sinks.clickhouse.tables import USAGE
from spendmeter_sinks.clickhouse.usage_columns import EVENTS_AT_ONCE, NAMES, read_usage_columns
from tests.builders import NOON, usage

STAMP_MS = to_unix_us(NOON) // 1000


class Stored(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def stored(offset: int, value: bytes | None) -> Stored:
    return Stored("spend.usage", 3, offset, STAMP_MS + offset, b"", value, [])


names = st.sampled_from(["", "a", "b", "né"]) | st.text(max_size=3)
events = st.builds(
    usage,
    seq=st.integers(1, MAX_SEQ),
    event_id=st.uuids(),
    cost_nanousd=st.integers(0, 10**18 - 1),
    cost_source=st.sampled_from(CostSource),
    occurred_at=st.datetimes(EPOCH.replace(tzinfo=None), NOON.replace(tzinfo=None)).map(
        lambda at: f"{at.isoformat()}Z"
    ),
    key=names,
    key_alias=st.none() | names,
    user=st.none() | names,
    tags=st.lists(names, max_size=3),
    model=names,
    prices=st.dictionaries(names, names, max_size=2),
    total_tokens=st.integers(0, 2**63 - 1),
    streamed=st.booleans(),
)


@given(st.lists(events, max_size=8))
def test_each_row_is_its_event_and_where_it_stands(recorded: list[UsageEvent]) -> None:
    reading = read_usage_columns([stored(n, encode_usage(event).value) for n, event in enumerate(recorded)])

    assert not reading.unreadable
    assert reading.rows == len(recorded)
    assert list(zip(*reading.columns, strict=True)) == [row(event, n) for n, event in enumerate(recorded)]


def row(event: UsageEvent, offset: int) -> tuple[Any, ...]:
    """The event's fields, as they must stand in the row."""
    values: dict[str, Any] = {name: getattr(event, name) for name in UsageEvent.model_fields}
    values["event_id"] = event.event_id.int
    values["occurred_at"] = to_unix_us(event.occurred_at)
    values["started_at"] = to_unix_us(event.started_at)
    for name in ("kind", "cost_source", "status"):
        values[name] = values[name].value
    return (*values.values(), "", "spend.usage", 3, offset, STAMP_MS + offset)


def test_there_is_a_column_for_each_field_in_the_order_of_the_table() -> None:
    fields = ["cost_usd" if name == "cost_nanousd" else name for name in UsageEvent.model_fields]

    of_the_record = ["signed_by", "topic", "partition", "offset", "appended_at"]
    assert list(USAGE.columns) == [*fields, *of_the_record, "incarnation"]


def test_unreadable_records_are_set_apart_and_their_neighbours_keep_their_place() -> None:
    count = EVENTS_AT_ONCE * 2 + 1
    bad = {0, EVENTS_AT_ONCE - 1, EVENTS_AT_ONCE, count - 1}
    good = encode_usage(usage()).value
    reading = read_usage_columns([stored(n, b"{" if n in bad else good) for n in range(count)])

    assert {record.offset for record, _ in reading.unreadable} == bad
    assert list(reading.columns[-2]) == [n for n in range(count) if n not in bad]
    assert {len(column) for column in reading.columns} == {reading.rows} == {count - len(bad)}


def test_a_correction_is_read_with_what_it_corrects() -> None:
    corrected = UUID(int=7)
    event = usage(kind=UsageKind.CORRECTION, corrects=corrected, cost_nanousd=-5)
    reading = read_usage_columns([stored(0, encode_usage(event).value)])

    assert dict(zip(USAGE.columns, reading.columns, strict=False))["corrects"] == [corrected]
    assert dict(zip(USAGE.columns, reading.columns, strict=False))["cost_usd"] == [-5]


@given(st.lists(st.integers(1 - 10**18, 10**18 - 1), min_size=1))
def test_nano_usd_are_written_as_the_driver_writes_their_decimals(amounts: list[int]) -> None:
    decimals = [Decimal(amount).scaleb(-9) for amount in amounts]

    assert written("Decimal(18, 9)", amounts, whole=True) == by_the_driver("Decimal(18, 9)", decimals)


@given(st.lists(st.uuids(), min_size=1))
def test_numbers_of_uuids_are_written_as_the_driver_writes_the_uuids(ids: list[UUID]) -> None:
    assert written("UUID", [each.int for each in ids], whole=True) == by_the_driver("UUID", ids)


@given(st.lists(names, min_size=1), st.lists(st.none() | names, min_size=1))
def test_names_are_written_as_the_driver_writes_them(some: list[str], or_none: list[str | None]) -> None:
    for kind, column in (
        ("LowCardinality(String)", some),
        ("LowCardinality(Nullable(String))", or_none),
        # More names than one byte counts.
        ("LowCardinality(String)", [*some, *map(str, range(300))]),
    ):
        assert written(kind, column) == by_the_driver(kind, column)


@given(st.lists(st.lists(st.none() | names, max_size=4)), st.booleans())
def test_names_kept_once_are_written_as_the_driver_writes_them(
    blocks: list[list[str | None]], nullable: bool
) -> None:
    if not nullable:
        blocks = [[name or "" for name in block] for block in blocks]
    column, kind = Names(nullable=nullable), "Nullable(String)" if nullable else "String"
    for block in blocks:
        column.extend(block)
    plain = [name for block in blocks for name in block]

    assert list(column) == plain
    assert [column[n] for n in range(len(column))] == column[:] == plain
    assert written(f"LowCardinality({kind})", column) == by_the_driver(f"LowCardinality({kind})", plain)


def test_the_names_of_an_event_are_those_that_the_table_has_as_such() -> None:
    """Any other column has no place for a dictionary."""
    of_the_record = {"topic", "signed_by", "incarnation"}
    low = {name for name, kind in USAGE.columns.items() if kind.startswith("LowCardinality")}

    assert low == NAMES | of_the_record


@given(st.lists(st.sampled_from([(), ("a",), ("a", "b"), ("b", "a")]), max_size=6))
def test_prices_that_are_kept_once_keep_their_order(orders: list[tuple[str, ...]]) -> None:
    recorded = [usage(prices=dict.fromkeys(order, "1")) for order in orders]
    reading = read_usage_columns([stored(n, encode_usage(event).value) for n, event in enumerate(recorded)])
    prices = dict(zip(USAGE.columns, reading.columns, strict=False))["prices"] if recorded else []

    assert [(*kept,) for kept in prices] == orders


def test_what_only_the_model_reads_has_the_same_columns() -> None:
    event = usage(user="u", tags=("a",), total_tokens=3)
    plain = encode_usage(event).value
    newer = plain[:-1] + b',"of_another_version":1}'
    reading = read_usage_columns([stored(n, value) for n, value in enumerate((plain, newer, plain))])

    assert list(zip(*reading.columns, strict=True)) == [row(event, n) for n in range(3)]


def written(kind: str, column: Sequence[Any], whole: bool = False) -> bytes:
    return _native(type_of(kind, whole), column)


def by_the_driver(kind: str, column: Sequence[Any]) -> bytes:
    return _native(get_from_name(kind), column)


def _native(kind: Any, column: Sequence[Any]) -> bytes:
    into = bytearray()
    kind.write_column(column, into, InsertContext("t", ["c"], [kind], None))
    return bytes(into)
