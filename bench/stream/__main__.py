"""`python -m bench.stream`: the same job for every contender, in turns, on a real broker.

Run A, B, C, A, B, C, … so that a machine which slows down slows everybody; medians, each with the
least and the most.
"""

import asyncio
from datetime import UTC, datetime

import click

from bench.broker import NotReadyError, RunningBroker, running_broker
from bench.machine import describe
from bench.output import OUTPUT, tell
from bench.stream.contender import Contender, NotAvailable
from bench.stream.contenders import CONTENDERS
from bench.stream.measure import Run, measure
from bench.stream.place import Place, load
from bench.stream.report import chart, table

SMALLEST = 5_000


@click.command()
@click.option("--only", multiple=True, help="A contender's name; may be given several times.")
@click.option("--events", default=500_000, show_default=True, help="For contenders that are not slow.")
@click.option("--rounds", default=3, show_default=True)
def main(only: tuple[str, ...], events: int, rounds: int) -> None:
    """Measure the stream beside its peers; writes .spendmeter/bench/stream.md and stream.svg."""
    wanted = [c for c in CONTENDERS if not only or c.name in only]
    if len(wanted) < len(only):
        raise click.BadParameter(f"there are {', '.join(c.name for c in CONTENDERS)}")
    facts = describe()
    contenders, versions = _build(wanted)
    with running_broker("stream") as broker:
        runs = asyncio.run(_rounds(contenders, events, rounds, broker))
    facts += [f"{name}: {said}" for name, said in versions.items() if said]
    facts.append(f"{events:,} events, {rounds} rounds, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    told = table(contenders, runs, facts)
    tell("stream.md", told)
    (OUTPUT / "stream.svg").write_text(chart(contenders, runs))
    if any(run.wrong for run in runs):
        raise SystemExit(1)


def _build(contenders: list[Contender]) -> tuple[list[Contender], dict[str, str]]:
    built, versions = [], {}
    for contender in contenders:
        _say(f"building {contender.name}")
        try:
            versions[contender.name] = contender.build()
            built.append(contender)
        except NotAvailable as why:
            versions[contender.name] = f"left out: {why}"
    return built, versions


async def _rounds(contenders: list[Contender], events: int, rounds: int, broker: RunningBroker) -> list[Run]:
    places: dict[int, Place] = {}
    for contender in contenders:
        count = _count(contender, events)
        if count not in places:
            _say(f"loading {count:,} events")
            places[count] = await load(broker.bootstrap, count)
    runs: list[Run] = []
    for turn in range(rounds):
        for contender in contenders:
            name = f"{contender.name}-{turn}"
            try:
                run = await measure(contender, places[_count(contender, events)], broker, name)
            except NotReadyError as failed:
                _say(f"{name}: {failed}")
                continue
            runs.append(run)
            _say(
                f"{name}: {run.events_per_second:,.0f}/s, {run.cpu_per_million:.1f} CPU-s/M,"
                f" start {run.start_seconds:.1f} s, {run.peak_mib:.0f} MiB, {run.wrong or 'exact'}"
            )
    return runs


def _say(what: str) -> None:
    click.echo(f"{datetime.now(UTC):%H:%M:%S} {what}", err=True)


def _count(contender: Contender, events: int) -> int:
    return max(int(events * contender.share_of_events), SMALLEST)


if __name__ == "__main__":
    main()
