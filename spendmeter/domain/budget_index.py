"""Shelves: budgets filed so that an event is held against few that it does not match. Pure."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from spendmeter.contract.budget import ANY, GLOBBED, Budget
from spendmeter.contract.dimensions import Dimension
from spendmeter.contract.models import selected_model
from spendmeter.domain.globs import is_glob

# Where a budget names several values, it is looked up under the one that fewest events share. All dimensions:
# a budget along one that is missing here would be tried every time.
_MOST_SELECTIVE_FIRST: tuple[Dimension, ...] = (
    "session",
    "key",
    "end_user",
    "user",
    "tag",
    "project",
    "team",
    "model",
    "model_group",
    "provider",
    "gateway",
    "organization",
)


class _Place(NamedTuple):
    """Text that a value of the dimension has to be, begin or end with."""

    dimension: Dimension
    part: Literal["whole", "head", "tail"]
    text: str


class Shelves:
    """Each budget in one place: under a value that it names, else under an end of its glob."""

    def __init__(self) -> None:
        self._shelves: dict[_Place, dict[str, Budget]] = {}
        self._for_all: dict[str, Budget] = {}
        """Those that name neither are tried every time."""
        self._cuts: Counter[tuple[Dimension, Literal["whole", "head", "tail"], int]] = Counter()
        """How many places there are for ends of that length: where a lookup has to cut a value."""
        self._wholes: dict[Dimension, int] = {}
        """How many places there are for whole values of a dimension."""

    def __len__(self) -> int:
        return len(self._shelves) + len(self._for_all) + len(self._cuts)

    def put(self, budget: Budget) -> None:
        """File a budget that is not there."""
        place = _place_of(budget)
        if place is None:
            self._for_all[budget.id] = budget
            return
        if place not in self._shelves:
            self._shelves[place] = {}
            if place.part != "whole":
                self._cuts[place.dimension, place.part, len(place.text)] += 1
            else:
                self._wholes[place.dimension] = self._wholes.get(place.dimension, 0) + 1
        self._shelves[place][budget.id] = budget

    def remove(self, budget: Budget) -> None:
        """Take out a budget, which is as it was put in."""
        place = _place_of(budget)
        if place is None:
            del self._for_all[budget.id]
            return
        del self._shelves[place][budget.id]
        if self._shelves[place]:
            return
        del self._shelves[place]
        if place.part == "whole":
            self._wholes[place.dimension] -= 1
        else:
            cut = (place.dimension, place.part, len(place.text))
            self._cuts[cut] -= 1
            if not self._cuts[cut]:
                del self._cuts[cut]

    def candidates(self, values: Callable[[Dimension], tuple[str, ...]]) -> Iterator[Budget]:
        """Every budget that may match, each once at most per value that it is filed under."""
        yield from self._for_all.values()
        for dimension in _MOST_SELECTIVE_FIRST:
            for value in values(dimension) if self._wholes.get(dimension) else ():
                yield from self._shelves.get(_Place(dimension, "whole", value), {}).values()
        for dimension, part, length in self._cuts:
            long_enough = [value for value in values(dimension) if length <= len(value)]
            # The names of a model share their ends.
            ends = {
                value[:length] if part == "head" else value[len(value) - length :] for value in long_enough
            }
            for end in ends:
                yield from self._shelves.get(_Place(dimension, part, end), {}).values()


def _place_of(budget: Budget) -> _Place | None:
    globs = [d for d in GLOBBED if is_glob(d, budget.match.get(d, ANY))]
    for dimension in _MOST_SELECTIVE_FIRST:
        wanted = _wanted(budget, dimension)
        if wanted != ANY and dimension not in globs:
            return _Place(dimension, "whole", wanted)
    if not globs:
        return None
    head, *_, tail = _wanted(budget, globs[0]).split(ANY)
    # The longer end is shared by the fewest values.
    return _Place(globs[0], "tail", tail) if len(tail) > len(head) else _Place(globs[0], "head", head)


def _wanted(budget: Budget, dimension: Dimension) -> str:
    """The budget's value as it is compared with a subject's."""
    wanted = budget.match.get(dimension, ANY)
    return selected_model(wanted) if dimension == "model" else wanted
