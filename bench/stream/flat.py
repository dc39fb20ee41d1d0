"""What the meter costs per event, by how many budgets and accounts there are. No Kafka: the pure fold.

Every event falls under three budgets, however many there are, and every batch touches as many accounts,
drawn anew from all of them: so what differs is how many exist, not how many are written. Processor
time, the best of a few passes, which a busy machine blurs least.
Run: python -m bench.stream.flat
"""

import gc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from time import process_time
from uuid import UUID

import click

from bench.machine import describe
from bench.output import tell
from bench.stream.job import key_name
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.matching import BudgetBook
from spendmeter_stream.meter.meter import Meter, UsageRecord

AT_MOST = 1.3
KEYS_PER_BATCH, EVENTS_PER_KEY, PASSES = 1_000, 2, 3
TEAMS_WITH_TRAFFIC = 8
_NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
_FEW_BUDGETS, _FEW_ACCOUNTS = 10, 1_000


@click.command()
@click.option("--budgets", default="10,100,1000,10000", show_default=True)
@click.option("--accounts", default="1000,10000,100000,1000000", show_default=True)
@click.option("--events", default=20_000, show_default=True, help="Measured, at each size.")
def main(budgets: str, accounts: str, events: int) -> None:
    """Measure both curves; writes .spendmeter/bench/flat.md."""
    lines = ["## Stream: cost per event by budgets and accounts", "", *(f"- {f}" for f in describe()), ""]
    by_budgets = [(count, _FEW_ACCOUNTS) for count in _numbers(budgets)]
    lines += _curve(f"budgets ({_FEW_ACCOUNTS:,} accounts)", 0, by_budgets, events)
    by_accounts = [(_FEW_BUDGETS, count) for count in _numbers(accounts)]
    lines += _curve(f"accounts ({_FEW_BUDGETS} budgets)", 1, by_accounts, events)
    told = "\n".join(lines) + "\n"
    tell("flat.md", told)


def _numbers(given: str) -> list[int]:
    return [int(float(part)) for part in given.split(",")]


def _curve(what: str, column: int, sizes: list[tuple[int, int]], events: int) -> list[str]:
    lines = [f"| {what} | µs per event | beside the smallest | goal |", "|---:|---:|---:|---|"]
    smallest = 0.0
    for size in sizes:
        cost = measure(*size, events)
        smallest = smallest or cost
        ratio = cost / smallest
        verdict = "reached" if ratio <= AT_MOST else "**not reached**"
        lines.append(f"| {size[column]:,} | {cost:.2f} | {ratio:.2f} | ≤ {AT_MOST}: {verdict} |")
    return [*lines, ""]


def measure(budget_count: int, accounts: int, events: int) -> float:
    """Microseconds per event of a meter that holds so many accounts already."""
    # As the worker has it: stream/spendmeter_stream/faust/batch_consumer.py.
    gc.disable()
    book, meter, traffic = BudgetBook(budgets(budget_count)), Meter(0), Traffic(budget_count)
    # Every account once, so that the state is as large as it is said to be.
    for first in range(0, accounts, KEYS_PER_BATCH):
        meter.fold(traffic.batch(range(first, min(first + KEYS_PER_BATCH, accounts))), book)
    random = Random(7)
    best = float("inf")
    for _ in range(PASSES):
        made = [
            traffic.batch(random.sample(range(accounts), min(KEYS_PER_BATCH, accounts)) * EVENTS_PER_KEY)
            for _ in range(max(events // (KEYS_PER_BATCH * EVENTS_PER_KEY), 1))
        ]
        began = process_time()
        for batch in made:
            meter.fold(batch, book)
        best = min(best, (process_time() - began) / sum(map(len, made)) * 1e6)
    return best


def budgets(count: int) -> Iterator[Budget]:
    """Everything, every key, and for the rest one for each team."""
    yield _budget("everything", {})
    yield _budget("every-key", {"key": "*"})
    for n in range(count - 2):
        yield _budget(f"team-{n}", {"team": f"team-{n}"})


def _budget(budget_id: str, match: dict[str, str]) -> Budget:
    fields = {"id": budget_id, "match": match, "limit_nanousd": 10**15, "period": "month", "updated_at": _NOW}
    return Budget.model_validate(fields)


class Traffic:
    """Records of one source partition, offset by offset."""

    def __init__(self, budget_count: int) -> None:
        self._offset = 0
        self._teams_apart = max((budget_count - 2) // TEAMS_WITH_TRAFFIC, 1)

    def batch(self, keys: Sequence[int]) -> list[UsageRecord]:
        """One event of each of these keys."""
        return [self._usage(key) for key in keys]

    def _usage(self, key: int) -> UsageRecord:
        offset, self._offset = self._offset, self._offset + 1
        at = _NOW + timedelta(milliseconds=offset % 1000)
        event = UsageEvent.model_construct(
            event_id=UUID(int=offset),
            producer_id="gateway-1",
            seq=offset + 1,
            occurred_at=at,
            started_at=at,
            key=key_name(key),
            team=f"team-{key % TEAMS_WITH_TRAFFIC * self._teams_apart}",
            model="gpt-4o-mini",
            model_group="gpt-4o-mini",
            cost_nanousd=NanoUsd(1_000),
            cost_source=CostSource.LITELLM,
            prices={},
        )
        return UsageRecord(offset, _NOW, event)


if __name__ == "__main__":
    main()
