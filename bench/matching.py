"""What it costs to find an event's budgets, by how many budgets and accounts there are.

Every event matches four budgets, however many there are. Processor time, so that a busy machine
blurs it less. Run: python bench/matching.py
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from time import process_time

from spendmeter.contract.budget import Budget
from spendmeter.domain.matching import BudgetBook, Subject

CURVE = ((10, 100), (100, 1_000), (1_000, 10_000), (10_000, 100_000))
"""Budgets, and accounts that are live: distinct keys and their share of models."""
EVENTS = 20_000
TIMES = 3
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def budgets(count: int) -> Iterator[Budget]:
    """A default for every key, one for everything, and for the rest keys, teams and globs of their own."""
    yield _budget("everything", {})
    yield _budget("every-key", {"key": "*"})
    for n in range((count - 2) // 3):
        yield _budget(f"key-{n}", {"key": f"k{n}"})
        yield _budget(f"team-{n}", {"team": f"t{n}", "user": "*"})
        yield _budget(f"models-{n}", {"model": f"family-{n}-*"})


def _budget(budget_id: str, match: dict[str, str]) -> Budget:
    fields = {"id": budget_id, "match": match, "limit_nanousd": 1, "period": "day", "updated_at": NOW}
    return Budget.model_validate(fields)


def subjects(budget_count: int, keys: int) -> list[Subject]:
    """One for each key; each matches everything, its key's default, one team's and one glob."""
    third = max((budget_count - 2) // 3, 1)
    return [
        Subject(key=f"live-{n}", user=f"u{n}", team=f"t{n % third}", model=f"family-{n % third}-large")
        for n in range(keys)
    ]


def measure(count: int, accounts: int) -> tuple[float, float, int]:
    """Microseconds per event the first time and again, the best of TIMES; and the most that matched."""
    asked = subjects(count, accounts)
    asked = asked[:: max(len(asked) // EVENTS, 1)]
    first, again, matched = float("inf"), float("inf"), 0
    filled = list(budgets(count))
    for _ in range(TIMES):
        book = BudgetBook(filled)
        for subject in subjects(count, accounts):
            book.accounts_of(subject)
        again = min(again, _time(book, asked))
        # A change of any budget makes the book forget whom it has seen.
        book.put(filled[0])
        first = min(first, _time(book, asked))
        matched = max(len(book.accounts_of(subject)) for subject in asked[:100])
    return first, again, matched


def _time(book: BudgetBook, asked: list[Subject]) -> float:
    began = process_time()
    for subject in asked:
        book.accounts_of(subject)
    return (process_time() - began) / len(asked) * 1e6


def main() -> None:
    print(f"{'budgets':>8} {'accounts':>9} {'matched':>8} {'first look':>12} {'again':>10}")
    for count, keys in CURVE:
        first, again, matched = measure(count, keys)
        print(f"{count:>8,} {keys:>9,} {matched:>8} {first:>9.2f} µs {again:>7.2f} µs")


if __name__ == "__main__":
    main()
