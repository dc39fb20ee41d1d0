"""`python -m tests.adversary --seed N --requests 20000 [--busy]`: what anybody may send, judged."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from spendmeter_local.children import kill_child, start_child
from tests.adversary.case import Case, from_json
from tests.adversary.mutations import MUTATIONS
from tests.adversary.report import Report
from tests.adversary.run import BATCH, replay, run
from tests.adversary.stack import broker, stack
from tests.adversary.world import world


def say(line: str) -> None:
    print(line, flush=True)


@contextmanager
def busy(directory: Path) -> Iterator[None]:
    """As many processes as cores that only compute."""
    command = [sys.executable, "-c", "while True: pass"]
    children = [start_child(command, log=directory / "busy.log") for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for child in children:
            kill_child(child)


@click.command()
@click.option("--seed", type=int, default=None, help="Of the cases; by default another each time.")
@click.option("--requests", type=int, default=20_000, show_default=True, help="At least so many.")
@click.option("--busy", "is_busy", is_flag=True, help="Beside processes that take every core.")
@click.option("--route", "routes", multiple=True, help="Only these routes.")
@click.option(
    "--shrink", "shrinks", type=int, default=10, show_default=True, help="So many kinds of failure."
)
@click.option("--mutation", type=click.Choice(list(MUTATIONS)), help="Break the gateway so.")
@click.option(
    "--replay", "replayed", type=click.Path(path_type=Path, exists=True), help="One case, as printed."
)
@click.option("--json", "result", type=click.Path(path_type=Path), default=Path(".spendmeter/adversary.json"))
@click.option("--keep", type=click.Path(path_type=Path), help="Run there and leave logs and data.")
def main(
    seed: int | None,
    requests: int,
    is_busy: bool,
    routes: tuple[str, ...],
    shrinks: int,
    mutation: str | None,
    replayed: Path | None,
    result: Path,
    keep: Path | None,
) -> None:
    """Exit 0 if, for every owner, what the upstream billed is what was charged."""
    directory = keep or Path(tempfile.mkdtemp(prefix="spendmeter-adversary-"))
    case = from_json(replayed.read_text()) if replayed else None

    def is_wanted(case: Case) -> bool:
        return not routes or case.route in routes

    with ExitStack() as running:
        kafka = running.enter_context(broker(directory / "kafka"))
        proxy = running.enter_context(stack(kafka, directory / "proxy", mutation=mutation or ""))
        if is_busy:
            running.enter_context(busy(directory))

        async def execute() -> Report | bool:
            async with world(proxy, most=BATCH) as made:
                if case is None:
                    return await run(
                        made,
                        seed=seed if seed is not None else int(time.time()),
                        requests=requests,
                        shrinks=shrinks,
                        say=say,
                        only=is_wanted,
                        breaches=directory / "breaches.jsonl",
                    )
                batch = await replay(made, case)
                for one in batch.sent:
                    say(f"answered {one.statuses} {' '.join(one.errors)}")
                for call in batch.calls:
                    say(f"call {call}")
                for event in batch.events:
                    say(f"event {event}")
                for violation, _ in batch.found:
                    say(f"{violation.kind}: {violation.owner} {violation.detail}")
                return not batch.found

        outcome = asyncio.run(execute())
    if isinstance(outcome, Report):
        for line in outcome.lines():
            say(line)
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(outcome.as_json() + "\n")
    is_clean = outcome.is_clean if isinstance(outcome, Report) else outcome
    if is_clean and keep is None:
        shutil.rmtree(directory)
    else:
        say(f"logs and data are in {directory}")
    sys.exit(not is_clean)


if __name__ == "__main__":
    main()
