"""Which accounts an event or a request belongs to: the one rule of the stream and the gateway."""

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

# It is part of many keys; this length distinguishes the few definitions that one budget ever has.
_DIGEST_BYTES = 4
_MODELS_BY_THEIR_ONE_NAME = 2
"""The version of the rule for equal names of models (models.py). Raise it with every change of that rule."""


def definition_digest(budget: Budget, replacers: Iterable[Budget] = ()) -> str:
    """A digest of what the budget counts, given the budgets that replace it for some of its subjects.

    It includes the rule for names of models only if a model decides what counts, so a new rule makes no other
    budget count anew.
    """
    replacers = list(replacers)
    counts = budget.model_dump(mode="json", include={"match", "period", "timezone", "starts_at", "reset_at"})
    counts["replaced_for"] = sorted(sorted(replacer.match.items()) for replacer in replacers)
    if any("model" in one.match for one in (budget, *replacers)):
        counts["models"] = _MODELS_BY_THEIR_ONE_NAME
    return blake2s(json.dumps(counts, sort_keys=True).encode(), digest_size=_DIGEST_BYTES).hexdigest()


# Bounds of the two caches below. When full, clear them: evicting costs more than filling them again.
MAX_REMEMBERED_SUBJECTS = 100_000

_Pairs = tuple[tuple[Dimension, str], ...]


class Subject(NamedTuple):
    """The dimensions of one event or request; None or empty where unknown.

    Its fields are `dimensions.FIELDS` in the same order, and a test checks that. Everything that reads a
    subject, an event or a row of history uses that list.
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
        """The values along one dimension that a budget may match; none if unknown.

        There are several for tags, and for a model: first its one name, then those with its provider.
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
    """The dimensions needed to know an event's values along these: a model's name needs its provider."""
    wanted = set(dimensions)
    if "model" in wanted:
        wanted.add("provider")
    return [dimension for dimension in DIMENSIONS if dimension in wanted]


_fields_of: Callable[[UsageEvent], tuple[Any, ...]] = attrgetter(*FIELDS)


def subject_of(event: UsageEvent) -> Subject:
    """The dimensions of a usage event; its model has its one name, whatever version recorded it."""
    subject = Subject._make(_fields_of(event))
    return subject._replace(
        tags=tuple(dict.fromkeys(subject.tags)), model=canonical_model(event.model, event.provider)
    )


class Account(NamedTuple):
    """A budget and one of its subjects, with its name on the wire."""

    budget: Budget
    name: str
    subject: _Pairs


def rest_account(budget: Budget) -> str | None:
    """The account for further values once a budget has as many accounts as a worker keeps (decisions/0016).

    None for a budget whose values clients cannot invent.
    No value leads to this account, so it refuses nothing.
    """
    is_open = any(budget.match.get(dimension) == ANY for dimension in CLIENT_MADE)
    return account_name(budget.id, ()) if is_open else None


class BudgetBook:
    """Every budget in force, and which of them match an event or request.

    A lookup depends on the number of matches, not of budgets: each budget is filed
    under one value that it names, or under an end of a glob. Only budgets with neither are
    tried every time.
    """

    def __init__(self, budgets: Iterable[Budget] = ()) -> None:
        self._budgets: dict[str, Budget] = {}
        self._index = BudgetIndex()
        self._accounts: dict[Hashable, tuple[Account, ...]] = {}
        self._dimensions: Counter[Dimension] = Counter()
        self.subject_key: Callable[[Subject], Hashable] = _no_dimension
        """The parts of a subject that some budget matches on: subjects with equal keys have the same
        accounts.

        Without it each session or end user would be a new subject, even if no budget names them.
        """
        self.event_subject_key: Callable[[UsageEvent], Hashable] = _no_dimension
        """The same for an event."""
        self._windows: dict[str, Window] = {}
        self._window_cache = WindowCache()
        self._shapes: dict[str, str] = {}
        self._replacers: dict[str, dict[str, Budget]] = {}
        """Budgets by the id of the budget that they replace."""
        self.edition = 0
        """Rises with every change, so that a reader can see at once whether there was one."""
        for budget in budgets:
            self.put(budget)

    def __len__(self) -> int:
        return len(self._budgets)

    def __iter__(self) -> Iterator[Budget]:
        return iter(self._budgets.values())

    def get(self, budget_id: str) -> Budget | None:
        """The budget with that id, or None."""
        return self._budgets.get(budget_id)

    def put(self, budget: Budget) -> bool:
        """Put a budget in force unless a newer revision is. Returns whether it did."""
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
        """Remove a budget; returns it if it existed."""
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
        """The accounts of the subject, without those that another matching budget replaces."""
        seen = self.subject_key(subject)
        known = self._accounts.get(seen)
        if known is None:
            known = self._remember(seen, tuple(self._find(subject)))
        return known

    def accounts_in(self, event: UsageEvent) -> tuple[Account, ...]:
        """Like `accounts_of` for the event's subject, which is not built if its accounts are cached."""
        seen = self.event_subject_key(event)
        known = self._accounts.get(seen)
        if known is None:
            # Also under the recorded form: otherwise an earlier version's model, or repeated tags, would
            # miss.
            known = self._remember(seen, self.accounts_of(subject_of(event)))
        return known

    def _remember(self, seen: Hashable, accounts: tuple[Account, ...]) -> tuple[Account, ...]:
        if len(self._accounts) >= MAX_REMEMBERED_SUBJECTS:
            self._accounts.clear()
        self._accounts[seen] = accounts
        return accounts

    def window_of(self, budget: Budget, time: datetime) -> Window | None:
        """The budget's window at that time, like `window.window_of`, with a cache of the latest."""
        known = self._windows.get(budget.id)
        if known is not None and known.holds(time) and self._budgets.get(budget.id) is budget:
            return known
        window = self._window_cache.window_of(budget, time)
        if window is not None and self._budgets.get(budget.id) is budget:
            self._windows[budget.id] = window
        return window

    def present_window(self, budget: Budget, now: datetime) -> Window | None:
        """The window of a request by a clock that may be behind.

        A reset that has been read has happened, whatever that clock says.
        """
        return self.window_of(budget, now if budget.reset_at is None else max(now, budget.reset_at))

    def shape_of(self, budget: Budget) -> str:
        """The digest of what a budget of the book counts, like `definition_digest`, with a cache."""
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
        """Whether the budget that it replaces also replaces it. Each would hide the other: spend without a
        limit.
        """
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
    """Whether two accounts of one event can belong to the same subject: not if they have different tags."""
    first, second = dict(one).get("tag"), dict(other).get("tag")
    return first is None or second is None or first == second


def _match(budget: Budget, subject: Subject) -> list[_Pairs]:
    """Every way in which the subject matches: none, one, or one for each of several tags."""
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
    """The values of the dimension that an account of the budget may have; none if the subject does
    not match.
    """
    values = subject.values(dimension)
    if wanted == ANY:
        return [(dimension, value) for value in (values[:1] if dimension == "model" else values)]
    selected = selected_model(wanted) if dimension == "model" else wanted
    is_selected = (
        any(fits(selected, value) for value in values) if is_glob(dimension, wanted) else selected in values
    )
    # One account for everything that matches, so it carries the budget's own value.
    return [(dimension, wanted)] if is_selected else []
