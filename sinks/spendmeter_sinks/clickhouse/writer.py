"""The edge to ClickHouse: one batch is one insert is one block, kept whole and once, or not at all."""

import logging
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DataError, Error
from clickhouse_connect.driver.insert import InsertContext
from urllib3.exceptions import HTTPError

from spendmeter.contract.records import is_sent_before
from spendmeter.runtime.clickhouse import ONE_INSERT_IS_ONE_BLOCK, UNKNOWN_DATABASE, client, render_error
from spendmeter.runtime.supported import clickhouse_warning
from spendmeter.settings import ClickHouseSettings
from spendmeter.topics.dead_letters import StoredRecord
from spendmeter_sinks.clickhouse.column_types import type_of
from spendmeter_sinks.clickhouse.decoding import DecodedBatch
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.tables import USAGE, USAGE_OBJECTS, Table
from spendmeter_sinks.database.migrate import applied_migrations, migrations
from spendmeter_sinks.database.owner import claim
from spendmeter_sinks.history.incarnations import Registered
from spendmeter_sinks.history.registry import read_registered, read_unnamed_topics, register
from spendmeter_sinks.history.usage_rows import SENT_BEFORE


# Copies may differ in every column that orders `usage`, so no engine of ClickHouse would merge them:
# another gateway may not have known who made the object. So each copy is written to `usage_objects`
# before its batch goes into `usage`, and the sink then queries which copy was written first. A repeated
# batch makes the same query and gets the same answer, because the first stays first.
#
# An event that a gateway may also have sent to an earlier incarnation of the topic is recorded in the same
# way, under a name made from its id: opening balances leave out what the stream counts here (usage_rows.py).
class RecordLocation(NamedTuple):
    """The position of a record."""

    topic: str
    partition: int
    offset: int
    incarnation: str


def bills_in(reading: DecodedBatch, records: Sequence[StoredRecord]) -> list[Sequence[Any]]:
    """The columns of USAGE_OBJECTS for the bills in a batch of usage; none if it has no bills."""
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
    """The bills that are not the first of their object."""
    columns = dict(zip(USAGE_OBJECTS.columns, bills, strict=True))
    found = zip(*(columns[name] for name in ("object_id", *RecordLocation._fields)), strict=True)
    return {RecordLocation(*at) for object_id, *at in found if first[object_id] != RecordLocation(*at)}


def without(records: Sequence[StoredRecord], repeats: set[RecordLocation]) -> list[StoredRecord]:
    """The records at other positions."""
    offsets = {repeat.offset for repeat in repeats}
    return [one for one in records if one.offset not in offsets]


log = logging.getLogger(__name__)

_OF_AN_INSERT = {
    **ONE_INSERT_IS_ONE_BLOCK,
    "insert_deduplicate": 1,
    # Otherwise ClickHouse would refuse old events of many months with the code that also means "merge first".
    "max_partitions_per_insert_block": 0,
}

# ClickHouse's codes for errors in the rows themselves: the same insert would be refused for ever. All
# others count as an outage and are retried, because a missing table or a full disk must
# never turn good events into dead letters.
CODES_OF_REFUSAL = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        128,  # TOO_LARGE_ARRAY_SIZE
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        376,  # CANNOT_PARSE_UUID
        407,  # DECIMAL_OVERFLOW
        469,  # VIOLATED_CONSTRAINT
    }
)


# What the driver raises, besides its DataError, for a value that does not fit its column, such as a decimal
# with too many digits. It writes the columns before it sends anything.
_NO_COLUMN = (ArithmeticError, ValueError, TypeError, struct.error)


class BatchRefused(Exception):
    """ClickHouse will never accept this batch: halve it, or give up its only row."""


class Unreachable(Exception):
    """The batch may or may not have been stored: send it again, under the same token."""


class PartialInsert(Exception):
    """Fewer rows were written than sent, without an error. No reaction would be safe, so stop."""


class NotMigrated(Exception):
    """The database lacks tables that we write to."""


def open_client(settings: ClickHouseSettings, database: str | None, timeout_seconds: int = 60) -> Client:
    """A connection to ClickHouse. `database` None: to the server's default, before ours exists.

    Raises:
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    return client(settings, database=database, send_receive_timeout=timeout_seconds, compress="lz4")


class Writer:
    """Inserts batches; safe to call from several threads."""

    def __init__(self, settings: SinkSettings) -> None:
        self._settings = settings
        self._client: Client | None = None

    def check(self) -> None:
        """Return if ClickHouse answers, has our tables, and they are this system's.

        Raises:
            Unreachable: it does not answer.
            NotMigrated: it lacks migrations.
            OwnedByAnother: see owner.py.
        """
        try:
            connected = self._connected()
            exists = connected.command("EXISTS TABLE schema_migrations")
            applied = applied_migrations(connected) if exists else {}
        except (Error, HTTPError) as error:
            if not (isinstance(error, Error) and error.code == UNKNOWN_DATABASE):
                raise Unreachable(render_error(error)) from error
            applied = {}
        missing = [m.name for m in migrations() if m.version not in applied]
        if missing:
            raise NotMigrated(
                f"database {self._settings.clickhouse_database} lacks {', '.join(missing)};"
                " run `spendmeter sink migrate`"
            )
        try:
            claim(self._connected(), self._settings)
        except (Error, HTTPError) as error:
            raise Unreachable(render_error(error)) from error
        warning = clickhouse_warning(connected.server_version)
        if warning:
            log.warning(warning)

    def registered(self) -> list[Registered]:
        """The incarnations of spend.usage that history covers, in the order in which that was decided.

        Raises:
            Unreachable: ClickHouse does not answer.
        """
        try:
            return read_registered(self._connected())
        except (Error, HTTPError) as error:
            raise Unreachable(render_error(error)) from error

    def unnamed_topics(self) -> list[str]:
        """The topics whose rows of usage name no incarnation.

        Raises:
            Unreachable: ClickHouse does not answer.
        """
        try:
            return read_unnamed_topics(self._connected())
        except (Error, HTTPError) as error:
            raise Unreachable(render_error(error)) from error

    def register(self, one: Registered, by: str) -> None:
        """Record that history covers this incarnation.

        Raises:
            Unreachable: it may or may not have been recorded; recording it again is harmless.
        """
        try:
            register(self._connected(), one, by)
        except (Error, HTTPError) as error:
            raise Unreachable(render_error(error)) from error

    def reached(self, table: Table, topic: str, partition: int, incarnation: str) -> int:
        """The offset after the partition's last record in the table; 0 if it has none.

        Rows without an incarnation count as this one's.

        Raises:
            Unreachable: ClickHouse does not answer.
        """
        try:
            rows = (
                self._connected()
                .query(
                    f"SELECT toInt64(max(offset)) + 1, count() FROM {table.name}"
                    " WHERE topic = {topic:String} AND partition = {partition:UInt32}"
                    " AND incarnation IN ('', {incarnation:String})",
                    parameters={"topic": topic, "partition": partition, "incarnation": incarnation},
                )
                .result_rows
            )
        except (Error, HTTPError) as error:
            raise Unreachable(render_error(error)) from error
        ((end, count),) = rows
        return int(end) if count else 0

    def insert(self, table: Table, columns: Sequence[Sequence[Any]], token: str) -> None:
        """Write a batch once, however often it is called with that token; empty: once for these rows.

        Raises:
            Refused: its rows are at fault.
            Unreachable: anything else went wrong; call again with the same columns and token.
            PartialInsert: ClickHouse says that it wrote fewer rows.
        """
        rows = len(columns[0])
        context = InsertContext(
            table.name,
            list(table.columns),
            [type_of(kind, whole=name in table.whole) for name, kind in table.columns.items()],
            columns,
            column_oriented=True,
            # Without one, ClickHouse compares blocks by their rows.
            settings={**_OF_AN_INSERT, **({"insert_deduplication_token": token} if token else {})},
            block_size=rows,
        )
        try:
            connected = self._connected()
        except (Error, HTTPError) as error:
            raise Unreachable(render_error(error)) from error
        try:
            written = connected.data_insert(context).written_rows
        except (DataError, *_NO_COLUMN) as error:
            raise BatchRefused(render_error(error)) from error
        except (Error, HTTPError) as error:
            if isinstance(error, Error) and error.code in CODES_OF_REFUSAL:
                raise BatchRefused(render_error(error)) from error
            raise Unreachable(render_error(error)) from error
        # A batch that the token identified as a repeat also counts as written.
        if written < rows:
            raise PartialInsert(f"{token}: ClickHouse wrote {written} of {rows} rows to {table.name}")

    def first_bills(self, object_ids: Sequence[str]) -> dict[str, RecordLocation]:
        """The position of the first bill of each of these objects in USAGE_OBJECTS.

        Raises:
            Unreachable: query again.
        """
        try:
            rows = (
                self._connected()
                .query(
                    # Not as one tuple: in ClickHouse 24.8 it has names, and the driver makes a dict of it.
                    "SELECT object_id, tupleElement(first, 3), tupleElement(first, 4),"
                    " tupleElement(first, 2), tupleElement(first, 5) FROM"
                    " (SELECT object_id, min((appended_at, offset, topic, partition, incarnation)) AS first"
                    f" FROM {USAGE_OBJECTS.name} WHERE object_id IN {{ids:Array(String)}}"
                    " GROUP BY object_id)",
                    parameters={"ids": list(object_ids)},
                )
                .result_rows
            )
        except (Error, HTTPError) as error:
            raise Unreachable(render_error(error)) from error
        return {object_id: RecordLocation(*first) for object_id, *first in rows}

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _connected(self) -> Client:
        if self._client is None:
            self._client = open_client(
                self._settings,
                self._settings.clickhouse_database,
                self._settings.sink_insert_timeout_seconds,
            )
        return self._client
