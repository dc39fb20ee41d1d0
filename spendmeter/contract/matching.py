"""Which accounts an event or a request belongs to: the one rule, used by the stream and the gateway."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from datetime import datetime
from itertools import product
from operator import attrgetter, itemgetter
from typing import NamedTuple
from urllib.parse import quote, unquote

from spendmeter.contract.budget import ANY, Budget, Dimension
from spendmeter.contract.globs import fits, is_glob
from spendmeter.contract.rules import Rules
from spendmeter.contract.shape import shape_of
from spendmeter.contract.shelves import Shelves
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.window import Window

# Bounds of the two memories below; both are cleared whole, because to keep them exact costs more
# than to fill them again.
MAX_REMEMBERED_SUBJECTS = 100_000

_Pairs = tuple[tuple[Dimension, str], ...]


class Subject(NamedTuple):
    """The dimensions of one event or request; None or empty where unknown."""

    key: str | None = None
    user: str | None = None
    team: str | None = None
    organization: str | None = None
    project: str | None = None
    end_user: str | None = None
    tags: tuple[str, ...] = ()
    model: str | None = None
    model_group: str | None = None
    provider: str | None = None
    session: str | None = None
    gateway: str | None = None

    def values(self, dimension: Dimension) -> tuple[str, ...]:
        """The values along one dimension: several only for tags, none where unknown."""
        if dimension == "tag":
            return self.tags
        value: str | None = getattr(self, dimension)
        return (value,) if value else ()


def _no_dimension(subject: object) -> Hashable:
    return ()


def _place(dimension: Dimension) -> int:
    return Subject._fields.index("tags" if dimension == "tag" else dimension)


def subject_of(event: UsageEvent) -> Subject:
    """The dimensions of a usage event."""
    return Subject(
        key=event.key,
        user=event.user,
        team=event.team,
        organization=event.organization,
        project=event.project,
        end_user=event.end_user,
        tags=tuple(dict.fromkeys(event.tags)),
        model=event.model,
        model_group=event.model_group,
        provider=event.provider,
        session=event.session,
        gateway=event.gateway,
    )


class Account(NamedTuple):
    """A budget and one subject of it, with the name that it has on the wire."""

    budget: Budget
    name: str
    subject: _Pairs


def account_name(budget_id: str, subject: Iterable[tuple[str, str]]) -> str:
    """`id|dim=value&dim=value`, dimensions sorted, values percent-encoded.

    >>> account_name("member-day", [("user", "ann"), ("team", "a b")])
    'member-day|team=a%20b&user=ann'
    """
    return budget_id + "|" + "&".join([f"{d}={_quoted(v)}" for d, v in sorted(subject)])


def _quoted(value: str) -> str:
    # Most are: hashes of keys, ids. To ask is quicker than to quote.
    return value if value.isalnum() and value.isascii() else quote(value, safe="")


def subject_in(account: str) -> dict[str, str]:
    """The dimensions in an account's name: the reverse of `account_name`."""
    pairs = account.partition("|")[2]
    return {d: unquote(v) for d, _, v in (pair.partition("=") for pair in pairs.split("&") if pair)}


class BudgetBook:
    """Every budget in force, and which of them an event or request falls under.

    A lookup costs what the subject matches, not how many budgets there are: each budget is filed
    under one value that it names, or under an end of a glob; only budgets that name neither are
    tried every time.
    """

    def __init__(self, budgets: Iterable[Budget] = ()) -> None:
        self._budgets: dict[str, Budget] = {}
        self._shelves = Shelves()
        self._accounts: dict[Hashable, tuple[Account, ...]] = {}
        self._dimensions: Counter[Dimension] = Counter()
        self.looked_at: Callable[[Subject], Hashable] = _no_dimension
        """What of a subject any budget looks at: those that agree in it fall under the same accounts.

        Else each session or end user, though no budget names them, would be a subject nobody has seen.
        """
        self.looked_at_in: Callable[[UsageEvent], Hashable] = _no_dimension
        """The same of an event."""
        self._windows: dict[str, Window] = {}
        self._rules = Rules()
        self._shapes: dict[str, str] = {}
        self._replacers: dict[str, dict[str, Budget]] = {}
        """By the budget that they replace."""
        self.edition = 0
        """Rises with every change, so that a reader can tell at once that there was none."""
        for budget in budgets:
            self.put(budget)

    def __len__(self) -> int:
        return len(self._budgets)

    def __iter__(self) -> Iterator[Budget]:
        return iter(self._budgets.values())

    def get(self, budget_id: str) -> Budget | None:
        """The budget of that id, or None."""
        return self._budgets.get(budget_id)

    def put(self, budget: Budget) -> bool:
        """Take a budget in unless a newer revision of it is there. Returns whether it was taken."""
        known = self._budgets.get(budget.id)
        if known is not None and known.revision > budget.revision:
            return False
        self.remove(budget.id)
        self._budgets[budget.id] = budget
        self._shelves.put(budget)
        self._dimensions.update(budget.match.keys())
        self._look_at()
        if budget.replaces is not None:
            self._replacers.setdefault(budget.replaces, {})[budget.id] = budget
            self._shapes.pop(budget.replaces, None)
        return True

    def remove(self, budget_id: str) -> Budget | None:
        """Take a budget out; returns it if it was there."""
        budget = self._budgets.pop(budget_id, None)
        self.edition += 1
        self._accounts.clear()
        self._windows.pop(budget_id, None)
        self._shapes.pop(budget_id, None)
        if budget is not None:
            self._shelves.remove(budget)
            self._dimensions.subtract(budget.match.keys())
            self._look_at()
            if budget.replaces is not None:
                del self._replacers[budget.replaces][budget_id]
                self._shapes.pop(budget.replaces, None)
        return budget

    def accounts_of(self, subject: Subject) -> tuple[Account, ...]:
        """The accounts that the subject falls under, without those that another matching budget replaces."""
        seen = self.looked_at(subject)
        known = self._accounts.get(seen)
        if known is None:
            if len(self._accounts) >= MAX_REMEMBERED_SUBJECTS:
                self._accounts.clear()
            known = self._accounts[seen] = tuple(self._find(subject))
        return known

    def accounts_in(self, event: UsageEvent) -> tuple[Account, ...]:
        """As `accounts_of` the event's subject, which is not made where its accounts are remembered."""
        known = self._accounts.get(self.looked_at_in(event))
        return self.accounts_of(subject_of(event)) if known is None else known

    def window_of(self, budget: Budget, time: datetime) -> Window | None:
        """The window of the budget that holds the time, as `window.window_of`, remembering the latest."""
        known = self._windows.get(budget.id)
        if known is not None and known.holds(time) and self._budgets.get(budget.id) is budget:
            return known
        window = self._rules.window_of(budget, time)
        if window is not None and self._budgets.get(budget.id) is budget:
            self._windows[budget.id] = window
        return window

    def present_window(self, budget: Budget, now: datetime) -> Window | None:
        """The window that a request falls in by a clock that may be behind.

        A reset that has been read has happened, whatever that clock says.
        """
        return self.window_of(budget, now if budget.reset_at is None else max(now, budget.reset_at))

    def shape_of(self, budget: Budget) -> str:
        """What a budget of the book counts, as `shape.shape_of`, remembered."""
        known = self._shapes.get(budget.id)
        if known is None:
            known = shape_of(budget, self._replacers.get(budget.id, {}).values())
            self._shapes[budget.id] = known
        return known

    def _look_at(self) -> None:
        places = sorted(_place(dimension) for dimension, budgets in self._dimensions.items() if budgets)
        self.looked_at = itemgetter(*places) if places else _no_dimension
        self.looked_at_in = attrgetter(*(Subject._fields[n] for n in places)) if places else _no_dimension

    def _is_replaced(self, budget: Budget, pairs: _Pairs, matched: list[tuple[Budget, _Pairs]]) -> bool:
        return any(
            r.replaces == budget.id and _agree(of_r, pairs) and not self._goes_round(r) for r, of_r in matched
        )

    def _goes_round(self, budget: Budget) -> bool:
        """Whether what it replaces replaces it in turn. Each would hide the other: spend without a limit."""
        seen = {budget.id}
        replaced = self._budgets.get(budget.replaces or "")
        while replaced is not None and replaced.id not in seen:
            seen.add(replaced.id)
            replaced = self._budgets.get(replaced.replaces or "")
        return replaced is budget

    def _find(self, subject: Subject) -> Iterator[Account]:
        matched = [
            (budget, pairs)
            for budget in self._shelves.candidates(subject.values)
            for pairs in _match(budget, subject)
        ]
        may_replace = any(budget.replaces is not None for budget, _ in matched)
        for budget, pairs in matched:
            if not (may_replace and self._is_replaced(budget, pairs, matched)):
                yield Account(budget, account_name(budget.id, pairs), pairs)


def _agree(one: _Pairs, other: _Pairs) -> bool:
    """Whether two accounts of one event can be the same subject's: not where they differ in their tag."""
    first, second = dict(one).get("tag"), dict(other).get("tag")
    return first is None or second is None or first == second


def _match(budget: Budget, subject: Subject) -> list[_Pairs]:
    """Every way the subject fits the match: none, one, or one for each of several tags."""
    if "tag" in budget.match or any(is_glob(d, wanted) for d, wanted in budget.match.items()):
        return _match_several(budget, subject)
    pairs: list[tuple[Dimension, str]] = []
    for dimension, wanted in sorted(budget.match.items()):
        value = getattr(subject, dimension)
        if not value or wanted not in (ANY, value):
            return []
        pairs.append((dimension, value))
    return [tuple(pairs)]


def _match_several(budget: Budget, subject: Subject) -> list[_Pairs]:
    choices: list[list[tuple[Dimension, str]]] = []
    for dimension, wanted in sorted(budget.match.items()):
        values = subject.values(dimension)
        if is_glob(dimension, wanted):
            # One account of all that fits, so it carries the glob.
            choices.append([(dimension, wanted)] if any(fits(wanted, value) for value in values) else [])
        else:
            choices.append([(dimension, value) for value in values if wanted in (ANY, value)])
    return [tuple(pairs) for pairs in product(*choices)]
