"""Which budgets in force were adopted from which of LiteLLM's objects; follows every change. Pure."""

from collections import defaultdict

from spendmeter.litellm.entities import owner_of


class AdoptionIndex:
    """Ids of budgets by the object that they were adopted from."""

    def __init__(self) -> None:
        self._ids: defaultdict[str, set[str]] = defaultdict(set)

    def put(self, budget_id: str, *, is_there: bool) -> None:
        """Note that a budget was set, or removed."""
        owner = owner_of(budget_id)
        if owner is None:
            return
        if is_there:
            self._ids[owner].add(budget_id)
        elif owner in self._ids:
            self._ids[owner].discard(budget_id)
            if not self._ids[owner]:
                del self._ids[owner]

    def of(self, owner: str) -> list[str]:
        """The budgets of that object, in order."""
        return sorted(self._ids.get(owner, ()))
