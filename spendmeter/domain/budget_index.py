"""An index of budgets, so that an event is compared with few that do not match it. Pure."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from spendmeter.contract.budget import ANY, GLOBBED, Budget
from spendmeter.domain.globs import is_glob
from spendmeter.values.dimensions import Dimension
from spendmeter.values.models import selected_model

# A budget with several values is filed under the one that the fewest events share. All dimensions are here:
# a budget along a missing one would be tried every time.
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


class _IndexKey(NamedTuple):
    """Text that a value of the dimension is, begins or ends with."""

    dimension: Dimension
    part: Literal["whole", "head", "tail"]
    text: str


class BudgetIndex:
    """Each budget under one key: a value that it names, else an end of its glob."""

    def __init__(self) -> None:
        self._index: dict[_IndexKey, dict[str, Budget]] = {}
        self._for_all: dict[str, Budget] = {}
        """Budgets with neither are tried every time."""
        self._cuts: Counter[tuple[Dimension, Literal["whole", "head", "tail"], int]] = Counter()
        """The number of keys that are ends of that length: a lookup cuts values to these lengths."""
        self._wholes: dict[Dimension, int] = {}
        """How many keys are whole values of a dimension."""

    def __len__(self) -> int:
        return len(self._index) + len(self._for_all) + len(self._cuts)

    def put(self, budget: Budget) -> None:
        """Add a budget that is not in the index."""
        key = _index_key(budget)
        if key is None:
            self._for_all[budget.id] = budget
            return
        if key not in self._index:
            self._index[key] = {}
            if key.part != "whole":
                self._cuts[key.dimension, key.part, len(key.text)] += 1
            else:
                self._wholes[key.dimension] = self._wholes.get(key.dimension, 0) + 1
        self._index[key][budget.id] = budget

    def remove(self, budget: Budget) -> None:
        """Remove a budget, unchanged since it was added."""
        key = _index_key(budget)
        if key is None:
            del self._for_all[budget.id]
            return
        del self._index[key][budget.id]
        if self._index[key]:
            return
        del self._index[key]
        if key.part == "whole":
            self._wholes[key.dimension] -= 1
        else:
            cut = (key.dimension, key.part, len(key.text))
            self._cuts[cut] -= 1
            if not self._cuts[cut]:
                del self._cuts[cut]

    def candidates(self, values: Callable[[Dimension], tuple[str, ...]]) -> Iterator[Budget]:
        """Every budget that may match, each once at most per value that it is filed under."""
        yield from self._for_all.values()
        for dimension in _MOST_SELECTIVE_FIRST:
            for value in values(dimension) if self._wholes.get(dimension) else ():
                yield from self._index.get(_IndexKey(dimension, "whole", value), {}).values()
        for dimension, part, length in self._cuts:
            long_enough = [value for value in values(dimension) if length <= len(value)]
            # The names of a model share their ends.
            ends = {
                value[:length] if part == "head" else value[len(value) - length :] for value in long_enough
            }
            for end in ends:
                yield from self._index.get(_IndexKey(dimension, part, end), {}).values()


def _index_key(budget: Budget) -> _IndexKey | None:
    globs = [d for d in GLOBBED if is_glob(d, budget.match.get(d, ANY))]
    for dimension in _MOST_SELECTIVE_FIRST:
        wanted = _wanted(budget, dimension)
        if wanted != ANY and dimension not in globs:
            return _IndexKey(dimension, "whole", wanted)
    if not globs:
        return None
    head, *_, tail = _wanted(budget, globs[0]).split(ANY)
    # The longer end is shared by the fewest values.
    return _IndexKey(globs[0], "tail", tail) if len(tail) > len(head) else _IndexKey(globs[0], "head", head)


def _wanted(budget: Budget, dimension: Dimension) -> str:
    """The budget's value in the form that is compared with a subject's."""
    wanted = budget.match.get(dimension, ANY)
    return selected_model(wanted) if dimension == "model" else wanted
