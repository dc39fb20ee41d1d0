"""`python -m spendmeter_local.clickhouse --path DIR --port N`."""

import os
from pathlib import Path

import click
from aiohttp import web

from spendmeter_local.clickhouse.engine import Engine
from spendmeter_local.clickhouse.server import PASSWORD_VARIABLE, build_app
from spendmeter_local.ports import LOOPBACK


@click.command()
@click.option("--path", type=click.Path(path_type=Path), required=True, help="Where the data lives.")
@click.option("--port", type=int, required=True, help=f"Port on {LOOPBACK}.")
def main(path: Path, port: int) -> None:
    """Serve the ClickHouse engine over HTTP until SIGTERM."""
    # Not an option: those are visible to every user of the machine.
    password = os.environ.get(PASSWORD_VARIABLE)
    if not password:
        raise click.UsageError(f"{PASSWORD_VARIABLE} must be set: every request names it")
    try:
        engine = Engine(path)
    except OSError as error:
        raise click.ClickException(str(error)) from None
    try:
        web.run_app(
            build_app(engine, password), host=LOOPBACK, port=port, print=lambda _: None, access_log=None
        )
    finally:
        engine.close()


if __name__ == "__main__":
    main()
