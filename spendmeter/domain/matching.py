"""Which accounts an event or a request belongs to: the one rule, used by the stream and the gateway."""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from datetime import datetime
from hashlib import blake2s
from itertools import product
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from spendmeter.contract.budget import ANY, Budget
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.budget_index import BudgetIndex
from spendmeter.domain.globs import fits, is_glob
from spendmeter.domain.window import Window, WindowCache
from spendmeter.values.account import account_name
from spendmeter.values.dimensions import CLIENT_MADE, DIMENSIONS, FIELDS, Dimension, field_of
from spendmeter.values.models import canonical_model, names_of_model, selected_model

# Part of many keys: enough to separate the few definitions that one budget ever has.
_DIGEST_BYTES = 4
_MODELS_BY_THEIR_ONE_NAME = 2
"""Which names of models are the same (models.py). Another rule of that counts something else: raise it."""


def definition_digest(budget: Budget, replacers: Iterable[Budget] = ()) -> str:
    """A digest of what the budget counts, given the budgets that replace it for some of its subjects.

    It says by which rule models are named only where a model decides what counts: so a new rule makes nothing
    else be counted anew.
    """
    replacers = list(replacers)
    counts = budget.model_dump(mode="json", include={"match", "period", "timezone", "starts_at", "reset_at"})
    counts["replaced_for"] = sorted(sorted(replacer.match.items()) for replacer in replacers)
    if any("model" in one.match for one in (budget, *replacers)):
        counts["models"] = _MODELS_BY_THEIR_ONE_NAME
    return blake2s(json.dumps(counts, sort_keys=True).encode(), digest_size=_DIGEST_BYTES).hexdigest()


# Bounds of the two memories below; both are cleared whole, because to keep them exact costs more
# than to fill them again.
MAX_REMEMBERED_SUBJECTS = 100_000

_Pairs = tuple[tuple[Dimension, str], ...]


class Subject(NamedTuple):
    """The dimensions of one event or request; None or empty where unknown.

    Its fields are `dimensions.FIELDS` in their order, which a test holds; all that reads a subject, an event
    or a row of history goes by that list.
    """

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
        """The values along one dimension, by each of which a budget may select: none where unknown.

        Several for tags, and for a model, which has its one name first and then those with its provider.
        """
        if dimension == "tag":
            return self.tags
        if dimension == "model":
            return names_of_model(self.model or "", self.provider or "")
        value: str | None = getattr(self, dimension)
        return (value,) if value else ()


def _no_dimension(subject: object) -> Hashable:
    return ()


def columns_for(dimensions: Iterable[Dimension]) -> list[Dimension]:
    """The dimensions to read of an event for its values along these: a model's name needs its provider."""
    wanted = set(dimensions)
    if "model" in wanted:
        wanted.add("provider")
    return [dimension for dimension in DIMENSIONS if dimension in wanted]


_fields_of: Callable[[UsageEvent], tuple[Any, ...]] = attrgetter(*FIELDS)


def subject_of(event: UsageEvent) -> Subject:
    """The dimensions of a usage event, its model by its one name, whatever version recorded it."""
    subject = Subject._make(_fields_of(event))
    return subject._replace(
        tags=tuple(dict.fromkeys(subject.tags)), model=canonical_model(event.model, event.provider)
    )


class Account(NamedTuple):
    """A budget and one subject of it, with the name that it has on the wire."""

    budget: Budget
    name: str
    subject: _Pairs


def rest_account(budget: Budget) -> str | None:
    """The account of what has none of its own, once a budget has as many as a worker keeps (decisions/0016).

    None for a budget whose values no client makes up: of those there are as many as were given out.
    No value leads to it, so nothing is refused because of it.
    """
    is_open = any(budget.match.get(dimension) == ANY for dimension in CLIENT_MADE)
    return account_name(budget.id, ()) if is_open else None


class BudgetBook:
    """Every budget in force, and which of them an event or request falls under.

    A lookup costs what the subject matches, not how many budgets there are: each budget is filed
    under one value that it names, or under an end of a glob; only budgets that name neither are
    tried every time.
    """

    def __init__(self, budgets: Iterable[Budget] = ()) -> None:
        self._budgets: dict[str, Budget] = {}
        self._index = BudgetIndex()
        self._accounts: dict[Hashable, tuple[Account, ...]] = {}
        self._dimensions: Counter[Dimension] = Counter()
        self.subject_key: Callable[[Subject], Hashable] = _no_dimension
        """What some budget matches on: subjects that agree in it have the same accounts.

        Without it each session or end user would be a new subject, though no budget names them.
        """
        self.event_subject_key: Callable[[UsageEvent], Hashable] = _no_dimension
        """The same of an event."""
        self._windows: dict[str, Window] = {}
        self._window_cache = WindowCache()
        self._shapes: dict[str, str] = {}
        self._replacers: dict[str, dict[str, Budget]] = {}
        """By the budget that they replace."""
        self.edition = 0
        """Rises with every change, so that a reader sees at once that there was none."""
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
        """Put a budget in force unless a newer revision is. Returns whether it was put."""
        known = self._budgets.get(budget.id)
        if known is not None and known.revision > budget.revision:
            return False
        self.remove(budget.id)
        self._budgets[budget.id] = budget
        self._index.put(budget)
        self._dimensions.update(budget.match.keys())
        self._choose_subject_keys()
        if budget.replaces is not None:
            self._replacers.setdefault(budget.replaces, {})[budget.id] = budget
            self._shapes.pop(budget.replaces, None)
        return True

    def remove(self, budget_id: str) -> Budget | None:
        """Remove a budget; returns it if it was there."""
        budget = self._budgets.pop(budget_id, None)
        self.edition += 1
        self._accounts.clear()
        self._windows.pop(budget_id, None)
        self._shapes.pop(budget_id, None)
        if budget is not None:
            self._index.remove(budget)
            self._dimensions.subtract(budget.match.keys())
            self._choose_subject_keys()
            if budget.replaces is not None:
                del self._replacers[budget.replaces][budget_id]
                self._shapes.pop(budget.replaces, None)
        return budget

    def accounts_of(self, subject: Subject) -> tuple[Account, ...]:
        """The accounts that the subject falls under, without those that another matching budget replaces."""
        seen = self.subject_key(subject)
        known = self._accounts.get(seen)
        if known is None:
            known = self._remember(seen, tuple(self._find(subject)))
        return known

    def accounts_in(self, event: UsageEvent) -> tuple[Account, ...]:
        """As `accounts_of` the event's subject, which is not made where its accounts are remembered."""
        seen = self.event_subject_key(event)
        known = self._accounts.get(seen)
        if known is None:
            # Also as it is written: an earlier version's model, or tags that repeat, would be read each time.
            known = self._remember(seen, self.accounts_of(subject_of(event)))
        return known

    def _remember(self, seen: Hashable, accounts: tuple[Account, ...]) -> tuple[Account, ...]:
        if len(self._accounts) >= MAX_REMEMBERED_SUBJECTS:
            self._accounts.clear()
        self._accounts[seen] = accounts
        return accounts

    def window_of(self, budget: Budget, time: datetime) -> Window | None:
        """The window of the budget that holds the time, as `window.window_of`, remembering the latest."""
        known = self._windows.get(budget.id)
        if known is not None and known.holds(time) and self._budgets.get(budget.id) is budget:
            return known
        window = self._window_cache.window_of(budget, time)
        if window is not None and self._budgets.get(budget.id) is budget:
            self._windows[budget.id] = window
        return window

    def present_window(self, budget: Budget, now: datetime) -> Window | None:
        """The window that a request falls in by a clock that may be behind.

        A reset that has been read has happened, whatever that clock says.
        """
        return self.window_of(budget, now if budget.reset_at is None else max(now, budget.reset_at))

    def shape_of(self, budget: Budget) -> str:
        """What a budget of the book counts, as `definition.definition_digest`, remembered."""
        known = self._shapes.get(budget.id)
        if known is None:
            known = definition_digest(budget, self._replacers.get(budget.id, {}).values())
            self._shapes[budget.id] = known
        return known

    def _choose_subject_keys(self) -> None:
        fields = [field_of(d) for d in columns_for(d for d, budgets in self._dimensions.items() if budgets)]
        self.subject_key = itemgetter(*map(FIELDS.index, fields)) if fields else _no_dimension
        self.event_subject_key = attrgetter(*fields) if fields else _no_dimension

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
            for budget in self._index.candidates(subject.values)
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
    match = budget.match
    if "tag" in match or "model" in match or any(is_glob(d, wanted) for d, wanted in match.items()):
        return [
            tuple(pairs)
            for pairs in product(*(_choices(d, wanted, subject) for d, wanted in sorted(match.items())))
        ]
    pairs: list[tuple[Dimension, str]] = []
    for dimension, wanted in sorted(match.items()):
        value = getattr(subject, dimension)
        if not value or wanted not in (ANY, value):
            return []
        pairs.append((dimension, value))
    return [tuple(pairs)]


def _choices(dimension: Dimension, wanted: str, subject: Subject) -> list[tuple[Dimension, str]]:
    """What an account of the budget may say of the dimension: nothing where the subject does not fit."""
    values = subject.values(dimension)
    if wanted == ANY:
        return [(dimension, value) for value in (values[:1] if dimension == "model" else values)]
    selected = selected_model(wanted) if dimension == "model" else wanted
    is_selected = (
        any(fits(selected, value) for value in values) if is_glob(dimension, wanted) else selected in values
    )
    # One account of all that fits, so it carries what the budget says.
    return [(dimension, wanted)] if is_selected else []
