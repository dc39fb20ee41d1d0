"""Bills of objects: of each object the copy that came first is kept in usage, as the stream counts it. Pure.

Copies may differ in all that `usage` is ordered by, so no engine of ClickHouse would merge them: who read the
object elsewhere may not have known who made it. So each copy is written down in `usage_objects` before its
batch goes into `usage`, and the first ever written there is asked for. A batch that is repeated asks the same
and is answered the same: what comes first, stays first.

An event that a gateway may have sent to an earlier incarnation of the topic, too, is written down likewise,
under a name made of its id: opening balances leave out what the stream counts here (usage_rows.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from spendmeter.contract.records import is_sent_before
from spendmeter.topics.dead_letters import StoredRecord
from spendmeter_sinks.clickhouse.decoding import DecodedBatch
from spendmeter_sinks.clickhouse.tables import USAGE, USAGE_OBJECTS
from spendmeter_sinks.history.usage_rows import SENT_BEFORE


class RecordLocation(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int
    incarnation: str


def bills_in(reading: DecodedBatch, records: Sequence[StoredRecord]) -> list[Sequence[Any]]:
    """The columns of USAGE_OBJECTS for what a batch of usage holds of bills; none where it holds none."""
    columns = dict(zip(USAGE.columns, reading.columns, strict=True))
    objects = columns["object_id"]
    doubted = {one.offset for one in records if is_sent_before(one.headers)}
    if not doubted and not any(objects):
        return []
    names = [
        object_id or (f"{SENT_BEFORE}{UUID(int=number)}" if offset in doubted else "")
        for object_id, offset, number in zip(objects, columns["offset"], columns["event_id"], strict=True)
    ]
    rows = [row for row, name in enumerate(names) if name]
    columns["object_id"] = names
    return [[values[row] for row in rows] for values in (columns[name] for name in USAGE_OBJECTS.columns)]


def repeats_in(bills: Sequence[Sequence[Any]], first: Mapping[str, RecordLocation]) -> set[RecordLocation]:
    """Those of the bills that are not the first of their object."""
    columns = dict(zip(USAGE_OBJECTS.columns, bills, strict=True))
    found = zip(*(columns[name] for name in ("object_id", *RecordLocation._fields)), strict=True)
    return {RecordLocation(*at) for object_id, *at in found if first[object_id] != RecordLocation(*at)}


def without(records: Sequence[StoredRecord], repeats: set[RecordLocation]) -> list[StoredRecord]:
    """The records that stand elsewhere."""
    offsets = {repeat.offset for repeat in repeats}
    return [one for one in records if one.offset not in offsets]
