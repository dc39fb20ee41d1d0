"""`python -m bench`: every measurement in order, each in a process of its own, and one page of them all.

One after another and never beside each other: on a small machine they would measure themselves.
"""

import subprocess
import sys
from datetime import UTC, datetime
from typing import NamedTuple

import click

from bench.machine import load
from bench.output import OUTPUT


class Part(NamedTuple):
    """One benchmark, and how it is run in full and in brief."""

    name: str
    module: str
    full: tuple[str, ...] = ()
    brief: tuple[str, ...] = ()


PARTS = (
    Part("stream", "bench.stream", (), ("--events", "100000", "--rounds", "1")),
    Part("flat", "bench.stream.flat", (), ("--accounts", "1e3,1e5", "--events", "10000")),
    Part("parts", "bench.stream.parts", (), ("--events", "20000")),
    Part("recovery", "bench.stream.recovery", (), ("--accounts", "100000")),
    Part("workers", "bench.stream.workers", (), ("--events", "100000")),
    Part("matching", "bench.matching"),
    Part("gateway", "bench.gateway", (), ("--calls", "1000", "--accounts", "10000")),
    Part("proxy", "bench.proxy", (), ("--rounds", "1", "--seconds", "2")),
    Part("sink", "bench.sink", (), ("--events", "50000", "--rounds", "1")),
    Part("history", "bench.history", (), ("--rows", "100000", "--rounds", "2")),
    Part("anomaly", "bench.anomaly", (), ("--teams", "2")),
    Part("page", "bench.page", (), ("--rows", "100000", "--keys", "1000", "--rounds", "2")),
    Part("grafana", "bench.grafana", (), ("--rows", "100000", "--keys", "1000", "--rounds", "2")),
    Part("latency", "bench.latency", (), ("--rate", "1000", "--seconds", "10")),
    Part("soak", "bench.soak", (), ("--minutes", "1")),
)


@click.command()
@click.option("--only", multiple=True, type=click.Choice([part.name for part in PARTS]))
@click.option("--brief", is_flag=True, help="Small sizes: whether it runs, not how fast it is.")
def main(only: tuple[str, ...], brief: bool) -> None:
    """Run the benchmarks; writes .spendmeter/bench/report.md. Fails if any result was wrong."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    pages, failed = [f"# Benchmarks, {datetime.now(UTC):%Y-%m-%d}\n"], []
    for part in PARTS:
        if only and part.name not in only:
            continue
        click.echo(f"{datetime.now(UTC):%H:%M:%S} {part.name} (load {load()})", err=True)
        command = [sys.executable, "-m", part.module, *(part.brief if brief else part.full)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            failed.append(part.name)
        pages.append(_page(part, done.stdout, done.returncode))
        (OUTPUT / "report.md").write_text("\n".join(pages))
    click.echo(OUTPUT / "report.md")
    if failed:
        raise SystemExit(f"failed or wrong: {', '.join(failed)}")


def _page(part: Part, said: str, code: int) -> str:
    """What a part printed: Markdown of its own, else as it stands."""
    body = said if said.startswith("## ") else f"## {part.name}\n\n```text\n{said.rstrip()}\n```\n"
    return body if code == 0 else f"{body}\n**It ended with {code}.**\n"


if __name__ == "__main__":
    main()
