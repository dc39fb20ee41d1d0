"""Waiting instead of failing: for programs that would rather be late than refused (docs/waiting.md)."""

from spendmeter.retry.attempts import Attempts, waits, when_budget_allows, when_budget_allows_sync
from spendmeter.retry.budget_changes import BudgetChanges
from spendmeter.retry.policy import Reached, RetryPolicy, SpendThresholds, Waiting
from spendmeter.retry.refusals import BudgetRefusal, refusal_of

__all__ = [
    "Attempts",
    "BudgetChanges",
    "BudgetRefusal",
    "Reached",
    "RetryPolicy",
    "SpendThresholds",
    "Waiting",
    "refusal_of",
    "waits",
    "when_budget_allows",
    "when_budget_allows_sync",
]
