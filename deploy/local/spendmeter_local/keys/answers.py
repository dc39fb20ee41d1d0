"""The key API's answers, in the shapes of a LiteLLM with a database. Pure."""

from datetime import datetime
from typing import Any

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd, to_usd
from spendmeter.domain.window import window_of
from spendmeter_local.keys.store import KeyRow

Answer = dict[str, Any]


def generated(row: KeyRow, key: str, budget: Budget | None) -> Answer:
    """`POST /key/generate`: the only time that the key itself is shown."""
    return {
        **_said(row, budget),
        "key": key,
        "token": row.token,
        "token_id": row.token,
        "litellm_budget_table": None,
    }


def described(row: KeyRow, budget: Budget | None, spent: NanoUsd | None, now: datetime) -> Answer:
    """`GET /key/info`'s `info`, and one of `GET /key/list?return_full_object=true` with its `token`."""
    return {
        **_said(row, budget),
        "spend": _usd(spent),
        "status": "revoked" if row.blocked else "expired" if row.expired(now) else "active",
        "budget_reset_at": _reset_at(budget, now),
        "litellm_budget_table": None,
        "model_spend": {},
        "model_max_budget": {},
    }


def listed(keys: list[Any], total: int, page: int, size: int) -> Answer:
    """`GET /key/list`."""
    return {
        "keys": keys,
        "total_count": total,
        "current_page": page,
        "total_pages": -(-total // size),
    }


def _said(row: KeyRow, budget: Budget | None) -> Answer:
    fields = row.model_dump(mode="json", exclude={"token", "budget_id"})
    return {
        **fields,
        # Both names: LiteLLM's table has the first, its auth object the second.
        "org_id": row.organization_id,
        "max_budget": _usd(budget.limit_nanousd) if budget else None,
        "updated_by": row.created_by,
        "aliases": {},
        "config": {},
        "permissions": {},
        # LiteLLM names its own budget table here; this key's limit is in spend.budgets.
        "budget_id": None,
    }


def _usd(amount: NanoUsd | None) -> float | None:
    """LiteLLM answers in floats; below a million USD this one's shortest text is the exact amount."""
    return None if amount is None else float(to_usd(amount))


def _reset_at(budget: Budget | None, now: datetime) -> str | None:
    window = window_of(budget, now) if budget else None
    return window.end.isoformat() if window and window.end else None
