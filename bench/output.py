"""Where benchmarks leave what they found."""

from pathlib import Path

import click

OUTPUT = Path(".spendmeter/bench").absolute()


def tell(name: str, told: str) -> None:
    """Print a page and keep it under that name in the output directory."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / name).write_text(told)
    click.echo(told)
