"""Waiting instead of failing: for programs that would rather be late than refused (docs/waiting.md)."""

from spendmeter.waiting.attempts import Attempts, waits, when_budget_allows, when_budget_allows_sync
from spendmeter.waiting.fractions import Fractions, Reached
from spendmeter.waiting.news import BudgetNews
from spendmeter.waiting.patience import Patience, Waiting
from spendmeter.waiting.refusals import Refusal, refusal_of

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
