"""The stream's totals: the latest of each component, and all since a mark. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.total import HISTORY, Total, is_newer
from spendmeter.domain.matching import BudgetBook
from spendmeter.domain.opening_balance import OpeningBalance, balance_of, with_balance
from spendmeter.values.account import budget_id_of, is_account
from spendmeter.values.times import parse_time

Source = int | str
"""A partition of spend.usage, or `history` for an opening balance."""


class ComparedWindow(NamedTuple):
    account: str
    window_start: datetime

    @property
    def budget_id(self) -> str:
        return budget_id_of(self.account)


class Version(NamedTuple):
    """One total of a component: its sum over the offsets `first_offset` … `last_offset`."""

    first_offset: int
    last_offset: int
    spent_nanousd: int
    events: int
    before: dict[int, int] | None = None
    """Of an opening balance: it holds everything below these offsets."""
    shape: str = ""
    revision: int = 0
    """Of an opening balance: the budget's."""


_Balances = dict[str, Sequence[OpeningBalance]]
"""By budget id."""
Components = dict[ComparedWindow, dict[Source, Version]]


class Totals:
    """Follows spend.totals by the rule of all its readers: total.is_newer."""

    def __init__(self) -> None:
        self.latest: Components = {}
        self._balances: _Balances = {}
        self._balances_at_mark: _Balances = {}
        self._since: dict[tuple[ComparedWindow, Source], dict[int, Version]] | None = None

    def apply(self, total: Total) -> None:
        """Apply one total."""
        if total.closes_opening:
            known_balances = self._balances.get(total.account, ())
            self._balances[total.account] = with_balance(known_balances, OpeningBalance.of(total))
            return
        where = ComparedWindow(total.account, total.window_start)
        version = Version(
            total.first_offset,
            total.last_offset,
            total.spent_nanousd,
            total.events,
            OpeningBalance.of(total).before if total.source_partition == HISTORY else None,
            total.shape or "",
            total.revision,
        )
        components = self.latest.setdefault(where, {})
        known = components.get(total.source_partition)
        if known is not None and not is_newer(total, known, known.revision):
            return
        components[total.source_partition] = version
        if self._since is not None:
            at = (where, total.source_partition)
            self._since.setdefault(at, {known.last_offset: known} if known else {})[version.last_offset] = (
                version
            )

    def remove(self, key: str) -> None:
        """Remove the component of that record key; the stream has forgotten it."""
        try:
            account, text, source = key.rsplit("|", 2)
            start, found = parse_time(text), HISTORY if source == HISTORY else int(source)
        except ValueError:
            return  # no component has this key: anybody may write any key
        if not is_account(account):
            left = [one for one in self._balances.get(account, ()) if one.window_start != start]
            self._balances[account] = left
            return
        where = ComparedWindow(account, start)
        components = self.latest.get(where, {})
        components.pop(found, None)
        if not components:
            self.latest.pop(where, None)

    def opened(self, where: ComparedWindow) -> dict[int, int] | None:
        """The offsets below which history covers the account's window; None while its opening is pending."""
        return _before(self._balances, where)

    def opened_at_mark(self, where: ComparedWindow) -> dict[int, int] | None:
        """The same at the mark."""
        return _before(self._balances_at_mark, where)

    def mark(self) -> Components:
        """Set the mark: from here on every version is kept, until the next mark."""
        self._since = {}
        self._balances_at_mark = dict(self._balances)
        return {where: dict(components) for where, components in self.latest.items()}

    def version_at(self, where: ComparedWindow, source: Source, last_offset: int) -> Version | None:
        """The component's total at that offset, if it was at the mark or since."""
        versions = self._since.get((where, source)) if self._since is not None else None
        if versions is None:
            known = self.latest.get(where, {}).get(source)
            return known if known is not None and known.last_offset == last_offset else None
        return versions.get(last_offset)


def _before(balances: _Balances, where: ComparedWindow) -> dict[int, int] | None:
    found = balance_of(balances.get(where.budget_id, ()), where.window_start)
    return found.before if found is not None else None


def in_present_shape(components: Components, book: BudgetBook, totals: Totals) -> Components:
    """Leave out components that an earlier definition, or an earlier version of ours, counted and that an
    opening balance has included since: nothing rests on them any more, and the stream forgets them.
    """

    def is_past(where: ComparedWindow, source: Source, version: Version) -> bool:
        budget = book.get(where.budget_id)
        if budget is None or source == HISTORY or version.shape in ("", book.shape_of(budget)):
            return False
        return version.last_offset < (totals.opened(where) or {}).get(int(source), 0)

    present = {
        where: {s: version for s, version in sources.items() if not is_past(where, s, version)}
        for where, sources in components.items()
    }
    return {where: sources for where, sources in present.items() if sources}


def openings(components: Components) -> dict[tuple[str, int], int]:
    """Budget id and partition: the offset from which the budget has been counted there.

    All components that a budget has on a partition begin at its opening; only those of events that
    came after their window was forgotten begin later.
    """
    found: dict[tuple[str, int], int] = {}
    for where, partition, version in by_partition(components):
        at = (where.budget_id, partition)
        found[at] = min(version.first_offset, found.get(at, version.first_offset))
    return found


def by_partition(components: Components) -> Iterator[tuple[ComparedWindow, int, Version]]:
    """Every component that the stream counted, without opening balances."""
    for where, sources in components.items():
        for source, version in sources.items():
            if isinstance(source, int):
                yield where, source, version
