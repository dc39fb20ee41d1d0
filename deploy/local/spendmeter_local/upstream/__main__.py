"""`python -m spendmeter_local.upstream --port N`."""

import click
from aiohttp import web

from spendmeter_local.ports import LOOPBACK
from spendmeter_local.upstream.server import Upstream


@click.command()
@click.option("--port", type=int, required=True, help=f"Port on {LOOPBACK}.")
def main(port: int) -> None:
    """Serve the fake model API until SIGTERM."""
    web.run_app(
        Upstream().app(),
        host=LOOPBACK,
        port=port,
        print=lambda _: None,
        access_log=None,
        # When a client leaves, its request ends and is counted at once.
        handler_cancellation=True,
    )


if __name__ == "__main__":
    main()
