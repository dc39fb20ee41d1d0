"""Decodes a batch of records into columns for history; unreadable records are set aside. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from spendmeter.contract.records import InvalidRecord
from spendmeter.contract.signing import SigningKeys
from spendmeter.topics.dead_letters import StoredRecord
from spendmeter_sinks.clickhouse.rows import Row

Unreadable = tuple[StoredRecord, InvalidRecord]


@dataclass(slots=True)
class DecodedBatch:
    """A decoded batch. Rows and unreadable records are all of it, except tombstones of signals."""

    columns: list[Sequence[Any]] = field(default_factory=list)
    """One sequence per column, all of the same length: the shape that ClickHouse wants."""
    rows: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)

    def with_incarnation(self, incarnation: str) -> "DecodedBatch":
        """The same with its last column: the incarnation that each row's offset belongs to."""
        if self.rows:
            self.columns.append([incarnation] * self.rows)
        return self


Decoder = Callable[[Sequence[StoredRecord], SigningKeys], DecodedBatch]
"""An unreadable record is set aside and never stops the rest."""


def row_decoder(row_of: Callable[[StoredRecord], Row | None]) -> Decoder:
    """Decode each record by itself into a row, or None if history needs none. Raises InvalidRecord."""
    return signed_row_decoder(lambda record, _: row_of(record))


def signed_row_decoder(row_of: Callable[[StoredRecord, str], Row | None]) -> Decoder:
    """Like `row_decoder`, with the id of the key that signed the record; empty: no accepted signature."""

    def read(records: Sequence[StoredRecord], keys: SigningKeys) -> DecodedBatch:
        reading = DecodedBatch()
        rows = []
        for record in records:
            try:
                row = row_of(record, keys.signer_of(record))
            except InvalidRecord as invalid:
                reading.unreadable.append((record, invalid))
                continue
            if row is not None:
                rows.append(row)
        reading.columns, reading.rows = list(zip(*rows, strict=True)), len(rows)
        return reading

    return read
