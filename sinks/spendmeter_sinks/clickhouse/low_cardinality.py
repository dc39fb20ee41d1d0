"""A column of few different texts, as ClickHouse's LowCardinality writes it: each text once. Pure."""

from collections.abc import Iterator, Sequence
from typing import overload


class Names(Sequence[str | None]):
    """Texts, as their places in a dictionary that is filled in the order of their coming."""

    def __init__(self, *, nullable: bool) -> None:
        # ClickHouse has None at the place 0 of a nullable column's dictionary.
        self._positions = _Positions({None: 0} if nullable else {})
        self.positions: list[int] = []
        """Of each row, in `dictionary`."""

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
