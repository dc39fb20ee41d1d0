"""`python -m spendmeter_local.proxy --config FILE --port N`."""

from pathlib import Path

import click
import uvicorn

from spendmeter.runtime import logs
from spendmeter.settings import load
from spendmeter_local.ports import LOOPBACK
from spendmeter_local.proxy.app import ProxySettings, metered_app, prepare_litellm
from spendmeter_local.proxy.config import SHIPPED_CONFIG

STOP_WITHIN_SECONDS = 10
KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep an idle connection: one that the proxy closes may carry a request just then."""


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=SHIPPED_CONFIG,
    help="LiteLLM's configuration; by default the one with the fake upstream's models.",
)
@click.option("--port", type=int, required=True, help=f"Port on {LOOPBACK}.")
def main(config: Path, port: int) -> None:
    """Serve LiteLLM until SIGTERM."""
    settings = load(ProxySettings)
    logs.configure(settings)
    prepare_litellm(settings, config)
    uvicorn.run(
        metered_app(settings),
        host=LOOPBACK,
        port=port,
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_WITHIN_SECONDS,
    )


if __name__ == "__main__":
    main()
