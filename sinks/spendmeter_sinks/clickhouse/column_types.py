"""Our own column types, where clickhouse-connect converts slowly to ClickHouse's native format.

These three needed 1.6 of its 3.3 µs per row of usage; all other types are its own.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload

from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.datatypes.numeric import Decimal
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.datatypes.special import UUID
from clickhouse_connect.datatypes.string import String
from clickhouse_connect.driver.common import write_array
from clickhouse_connect.driver.insert import InsertContext


class Names(Sequence[str | None]):
    """Texts as indices into a dictionary, which is filled in the order of their first use."""

    def __init__(self, *, nullable: bool) -> None:
        # In the dictionary of a nullable column, ClickHouse has None at index 0.
        self._positions = _Positions({None: 0} if nullable else {})
        self.positions: list[int] = []
        """Each row's index in `dictionary`."""

    @property
    def dictionary(self) -> list[str | None]:
        return list(self._positions)

    def extend(self, names: Sequence[str | None]) -> None:
        if not names:
            return
        if names[0] == names[-1] and names.count(names[0]) == len(names):
            self.positions.extend([self._positions[names[0]]] * len(names))
        else:
            self.positions.extend(map(self._positions.__getitem__, names))

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[str | None]:
        return map(self.dictionary.__getitem__, self.positions)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        dictionary, found = self.dictionary, self.positions[index]
        return [dictionary[position] for position in found] if isinstance(found, list) else dictionary[found]


class _Positions(dict[str | None, int]):
    def __missing__(self, name: str | None) -> int:
        self[name] = position = len(self)
        return position


class NanoUsdColumn(Decimal, registered=False):  # type: ignore[call-arg,misc]
    """Decimal(18, 9) USD from whole nano-USD, which is the integer that ClickHouse stores."""

    def _write_column_binary(self, column: Sequence[int], dest: bytearray, ctx: InsertContext) -> None:
        write_array("q", column, dest, ctx.column_name)


class NumberedUuidColumn(UUID, registered=False):  # type: ignore[call-arg,misc]
    """UUID from its number: two 64-bit integers, the higher first, each with its lowest byte first."""

    def _write_column_binary(self, column: Sequence[int], dest: bytearray, ctx: InsertContext) -> None:
        words = array("Q", b"".join([number.to_bytes(16, "big") for number in column]))
        words.byteswap()
        dest += words.tobytes()


class NameColumn(String, registered=False):  # type: ignore[call-arg,misc]
    """LowCardinality(String), nullable or not."""

    def _build_lc_dictionary(
        self, column: Sequence[str | None], _ctx: InsertContext
    ) -> tuple[list[str | None], list[int]]:
        if isinstance(column, Names):
            return column.dictionary, column.positions
        # In the dictionary of a nullable column, ClickHouse has None at index 0.
        places: dict[str | None, int] = {None: 0} if self.nullable else {}
        places.update(dict.fromkeys(column, 0))
        for place, name in enumerate(places):
            places[name] = place
        return list(places), [places[name] for name in column]


def type_of(name: str, whole: bool = False) -> ClickHouseType:
    """The type of that name. `whole`: the values are nano-USD or the numbers of UUIDs."""
    known: Any = get_from_name(name)
    if whole and type(known) is Decimal:
        return NanoUsdColumn(known.type_def, known.prec, 64, known.scale)
    if whole and type(known) is UUID:
        return NumberedUuidColumn(known.type_def)
    if type(known) is String and known.low_card:
        return NameColumn(known.type_def)
    return known
