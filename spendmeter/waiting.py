"""The earlier name of `spendmeter.retry`. It works, and warns once."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

from spendmeter import retry
from spendmeter.retry import BudgetChanges as BudgetNews
from spendmeter.retry import BudgetRefusal as Refusal
from spendmeter.retry import Reached, Waiting, refusal_of, when_budget_allows_sync
from spendmeter.retry import SpendThresholds as Fractions

__all__ = [
    "Attempts",
    "BudgetNews",
    "Fractions",
    "Patience",
    "Reached",
    "Refusal",
    "Waiting",
    "refusal_of",
    "waits",
    "when_budget_allows",
    "when_budget_allows_sync",
]
__path__ = retry.__path__
"""So that `spendmeter.waiting.http` is found."""

_RENAMED = {"look_again_seconds": "poll_seconds", "news": "changes"}


def _with_old_names(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which also accepts the earlier names of its options."""

    @wraps(call)
    def renamed(*args: Any, **options: Any) -> Any:
        return call(*args, **{_RENAMED.get(name, name): value for name, value in options.items()})

    return renamed


Patience = _with_old_names(retry.RetryPolicy)
Attempts = _with_old_names(retry.Attempts)
waits = _with_old_names(retry.waits)
when_budget_allows = _with_old_names(retry.when_budget_allows)

warnings.warn(
    "spendmeter.waiting is called spendmeter.retry now, Patience RetryPolicy"
    " (look_again_seconds: poll_seconds), Fractions SpendThresholds, and BudgetNews BudgetChanges"
    " (news: changes);"
    " the old names go with the next release",
    DeprecationWarning,
    stacklevel=2,
)
