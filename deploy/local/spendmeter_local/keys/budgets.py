"""The budget of a virtual key: what `max_budget` and `budget_duration` become. Pure."""

import re
from datetime import datetime

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import BudgetBook
from spendmeter.litellm.durations import period_of
from spendmeter.values.account import account_name
from spendmeter_local.keys.store import KeyRow

_FITS_AN_ID = re.compile(r"[A-Za-z0-9._:@/-]{1,190}")
_SHORT_HASH = 12


def budget_of(row: KeyRow, limit: NanoUsd, book: BudgetBook, now: datetime) -> Budget:
    """The budget that stops this key at the limit.

    Its name is `key:<alias>` where the alias can stand in a name and nobody else's budget has that
    name; else `key:<first of the hash>`.

    Raises:
        InvalidDuration: the key's budget_duration is none.
        pydantic.ValidationError: the limit is not above 0, or beyond what can be held.
    """
    period = period_of(row.budget_duration, now)
    return Budget(
        id=row.budget_id or _name(row, book),
        match={"key": row.token},
        limit_nanousd=limit,
        period=period.period,
        starts_at=period.starts_at,
        updated_at=now,
        updated_by="key API",
    )


def account_of(row: KeyRow) -> str:
    """The account in which the key's budget is kept."""
    return account_name(row.budget_id or "", [("key", row.token)])


def _name(row: KeyRow, book: BudgetBook) -> str:
    by_hash = f"key:{row.token[:_SHORT_HASH]}"
    if row.key_alias is None or _FITS_AN_ID.fullmatch(row.key_alias) is None:
        return by_hash
    by_alias = f"key:{row.key_alias}"
    taken = book.get(by_alias)
    return by_alias if taken is None or taken.match == {"key": row.token} else by_hash
