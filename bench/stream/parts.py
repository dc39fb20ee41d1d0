"""Where the stream worker's time goes: its pure parts, one after another, without Kafka.

The events of one source partition in batches, as a worker with a backlog gets them; processor time per event,
the best of a few passes. Run: python -m bench.stream.parts
"""

import gc
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from time import process_time
from typing import cast

import click

from bench.machine import describe
from bench.output import tell
from bench.stream.job import events
from bench.stream.meter import ONE, THREE
from spendmeter.contract.budget import Budget
from spendmeter.contract.records import Record, decode, encode_signal, encode_total, encode_usage, read_usage
from spendmeter.contract.total import Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import BudgetBook
from spendmeter.kafka.client import partition_of
from spendmeter_stream.judge.judge import Judge
from spendmeter_stream.meter.meter import Meter, UsageRecord

PARTITIONS, PASSES = 4, 3


class Clock:
    """Adds up the processor time of named steps."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = process_time()
        yield
        self.seconds[name] += process_time() - began


def run(log: Sequence[Record], budgets: Sequence[Budget], batch: int) -> tuple[Clock, Counter[str]]:
    """One pass of the log through a meter and the judges; also how much was written."""
    clock, written, now = Clock(), Counter[str](), datetime.now(UTC)
    book, meter, judges = BudgetBook(budgets), Meter(0), [Judge() for _ in range(PARTITIONS)]
    for first in range(0, len(log), batch):
        some = log[first : first + batch]
        with clock.step("read events"):
            usages = [_usage(first + n, record, now) for n, record in enumerate(some)]
        with clock.step("fold"):
            folded = meter.fold(usages, book)
        with clock.step("write totals"):
            sent = [encode_total(total, now) for total in folded.totals]
        with clock.step("read totals"):
            totals = [decode(Total, record.value, record.headers) for record in sent]
        written.update(totals=len(totals))
        placed: defaultdict[int, list[Total]] = defaultdict(list)
        for total in totals:
            placed[partition_of(total.account, PARTITIONS)].append(total)
        for partition, taken in placed.items():
            with clock.step("judge: merge totals"):
                judges[partition].apply(taken)
            with clock.step("judge: judge accounts"):
                said = judges[partition].judge(book, datetime.now(UTC))
            with clock.step("write signals"):
                for signal in said.signals:
                    encode_signal(signal)
            written.update(signals=len(said.signals))
    return clock, written


def _usage(offset: int, record: Record, now: datetime) -> UsageRecord:
    return UsageRecord(offset, now, cast(UsageEvent, read_usage(record.value, record.headers, now)))


@click.command()
@click.option("--events", "count", default=40_000, show_default=True)
@click.option("--batch", default=5_000, show_default=True)
def main(count: int, batch: int) -> None:
    """Print what each step costs; writes .spendmeter/bench/parts.md."""
    # As the worker has it: stream/spendmeter_stream/faust/batch_consumer.py.
    gc.disable()
    made = (e for e in events(count * PARTITIONS, datetime.now(UTC)) if partition_of(e.key, PARTITIONS) == 0)
    log = [encode_usage(event) for event in islice(made, count)]
    columns = []
    for budgets in (ONE, THREE):
        passes = [run(log, budgets, batch) for _ in range(PASSES)]
        columns.append({step: min(c.seconds[step] for c, _ in passes) for step in passes[0][0].seconds})
        columns[-1] |= {name: number / 1e6 for name, number in passes[0][1].items()}
    lines = ["## Stream: where the worker's time goes", "", *(f"- {fact}" for fact in describe())]
    lines += [f"- {len(log):,} events in batches of {batch:,}, µs of processor time per event", ""]
    lines += ["| step | one budget | three budgets |", "|---|---:|---:|"]
    for step in columns[0]:
        one, three = (column[step] / len(log) * 1e6 for column in columns)
        name = f"*{step} per event*" if step in ("totals", "signals") else step
        lines.append(f"| {name} | {one:.2f} | {three:.2f} |")
    told = "\n".join(lines) + "\n"
    tell("parts.md", told)


if __name__ == "__main__":
    main()
