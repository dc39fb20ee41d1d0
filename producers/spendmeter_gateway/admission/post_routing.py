"""Post-routing budgets: on model and provider, which are known only after routing. Pure.

They judge a request when its deployment is chosen, so that it can go to another one. The same holds for a
budget that one of them replaces, because only then is it known which of the two counts.
"""

from collections import Counter
from collections.abc import Iterable

from spendmeter.contract.budget import Action, Budget, Enforcement
from spendmeter.domain.matching import Account

_KNOWN_AFTER_ROUTING = ("model", "provider")


class PostRoutingBudgets:
    """Which budgets are judged after routing, and which only warn; follows every change of a budget."""

    def __init__(self) -> None:
        self._routed: dict[str, str | None] = {}
        self._replaced: Counter[str] = Counter()
        self._tellers: set[str] = set()
        self._strict: set[str] = set()

    def put(self, budget_id: str, budget: Budget | None) -> None:
        """A budget was set, or removed (None)."""
        self._remove(budget_id)
        if budget is not None:
            self._add(budget)

    @property
    def has_any(self) -> bool:
        """Whether any budget is judged after routing."""
        return bool(self._routed)

    @property
    def has_strict(self) -> bool:
        """Whether any budget is `strict`: then a fallback may change what is held."""
        return bool(self._strict)

    @property
    def has_tellers(self) -> bool:
        """Whether any budget only warns or observes: then answers carry its state."""
        return bool(self._tellers)

    def before(self, accounts: tuple[Account, ...]) -> tuple[Account, ...]:
        """Those of these accounts that are judged before routing."""
        if not self._routed:
            return accounts
        return tuple(account for account in accounts if not self._is_routed(account))

    def after(self, accounts: Iterable[Account]) -> tuple[Account, ...]:
        """Those that are judged after it."""
        return tuple(account for account in accounts if self._is_routed(account))

    def _is_routed(self, account: Account) -> bool:
        return account.budget.id in self._routed or account.budget.id in self._replaced

    def _add(self, budget: Budget) -> None:
        if any(dimension in budget.match for dimension in _KNOWN_AFTER_ROUTING):
            self._routed[budget.id] = budget.replaces
            if budget.replaces:
                self._replaced[budget.replaces] += 1
        if budget.action is not Action.BLOCK:
            self._tellers.add(budget.id)
        elif budget.enforcement is Enforcement.STRICT:
            self._strict.add(budget.id)

    def _remove(self, budget_id: str) -> None:
        replaced = self._routed.pop(budget_id, None)
        if replaced:
            self._replaced[replaced] -= 1
            if not self._replaced[replaced]:
                del self._replaced[replaced]
        self._tellers.discard(budget_id)
        self._strict.discard(budget_id)
