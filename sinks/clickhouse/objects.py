"""Bills of objects: of each object the copy that came first is kept in usage, as the stream counts it. Pure.

Copies may differ in all that `usage` is ordered by, so no engine of ClickHouse would merge them: who read the
object elsewhere may not have known who made it. So each copy is written down in `usage_objects` before its
batch goes into `usage`, and the first ever written there is asked for. A batch that is repeated asks the same
and is answered the same: what comes first, stays first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sinks.clickhouse.reading import Reading
from sinks.clickhouse.tables import USAGE, USAGE_OBJECTS
from spendmeter.runtime.dead_letters import StoredRecord


class At(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


def bills_in(reading: Reading) -> list[Sequence[Any]]:
    """The columns of USAGE_OBJECTS for what a batch of usage holds of bills; none where it holds none."""
    columns = dict(zip(USAGE.columns, reading.columns, strict=True))
    objects = columns["object_id"]
    if not any(objects):
        return []
    rows = [row for row, object_id in enumerate(objects) if object_id]
    return [[values[row] for row in rows] for values in (columns[name] for name in USAGE_OBJECTS.columns)]


def repeats_in(bills: Sequence[Sequence[Any]], first: Mapping[str, At]) -> set[At]:
    """Those of the bills that are not the first of their object."""
    columns = dict(zip(USAGE_OBJECTS.columns, bills, strict=True))
    found = zip(*(columns[name] for name in ("object_id", "topic", "partition", "offset")), strict=True)
    return {At(*at) for object_id, *at in found if first[object_id] != At(*at)}


def without(records: Sequence[StoredRecord], repeats: set[At]) -> list[StoredRecord]:
    """The records that stand elsewhere."""
    return [one for one in records if At(one.topic, one.partition, one.offset) not in repeats]
