"""`python -m tests.faults.run --seed S --faults N --events M`: faults on the real stack under traffic."""

import asyncio
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.faults import canary_report
from tests.faults.driver import Plan, Run, say
from tests.faults.report import Outcome, as_json, lines
from tests.faults.schedule import kinds_for


def execute(plan: Plan, directory: Path) -> Outcome:
    """One run, with its stack in that directory."""
    # A broker that is killed is what we are about, not news.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    outcome = asyncio.run(Run(plan, directory).run())
    (directory / "faults.json").write_text(as_json(outcome) + "\n")
    return outcome


@click.command()
@click.option("--seed", type=int, default=None, help="Of the schedule; by default another each time.")
@click.option("--faults", type=int, default=300, show_default=True)
@click.option("--events", type=int, default=200_000, show_default=True, help="At least so many.")
@click.option("--rate", type=float, default=60.0, show_default=True, help="Events a second per gateway.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Stream workers.")
@click.option("--gateways", type=click.IntRange(2), default=2, show_default=True, help="Without LiteLLM.")
@click.option(
    "--brokers", "nodes", type=click.IntRange(1, 3), default=1, show_default=True, help="Kafka nodes: 1 or 3."
)
@click.option("--canary", "has_canary", is_flag=True, help="Run the canary beside it, and print its figures.")
@click.option("--minutes", type=float, default=None, help="Inject no more after so long, but for the disk's.")
@click.option("--only", multiple=True, metavar="TEXT", help="Only kinds of faults that contain it.")
@click.option("--without", multiple=True, metavar="TEXT", help="No kinds of faults that contain it.")
@click.option(
    "--json",
    "result",
    type=click.Path(path_type=Path),
    default=Path(".spendmeter/faults.json"),
    show_default=True,
)
@click.option("--keep", type=click.Path(path_type=Path), help="Run the stack there and leave its data.")
def main(
    seed: int | None,
    faults: int,
    events: int,
    rate: float,
    workers: int,
    gateways: int,
    nodes: int,
    has_canary: bool,
    minutes: float | None,
    only: tuple[str, ...],
    without: tuple[str, ...],
    result: Path,
    keep: Path | None,
) -> None:
    """Exit 0 if nothing was lost, doubled or wrong."""
    kinds = [
        kind
        for kind in kinds_for(nodes)
        if (not only or any(text in str(kind) for text in only))
        and not any(text in str(kind) for text in without)
    ]
    plan = Plan(
        seed or int(time.time()),
        faults,
        events,
        rate,
        workers,
        gateways,
        nodes,
        kinds=kinds,
        minutes=minutes,
        has_canary=has_canary,
    )
    directory = keep or Path(tempfile.mkdtemp(prefix="spendmeter-faults-"))
    outcome = execute(plan, directory)
    for line in lines(outcome):
        say(line)
    if has_canary:
        for line in canary_report.lines(outcome.canary, outcome.injected):
            say(line)
    result.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(directory / "faults.json", result)
    if outcome.is_clean and keep is None:
        shutil.rmtree(directory)
    else:
        say(f"logs and data are in {directory}")
    sys.exit(not outcome.is_clean)


if __name__ == "__main__":
    main()
