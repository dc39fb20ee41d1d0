"""`python -m spendmeter_local.stack`: the supervisor that keeps running when `spendmeter up` ends."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from spendmeter.runtime.endpoints import AlreadyRunningError, Endpoints, resolve_dir
from spendmeter_local.proxy.config import SHIPPED_CONFIG
from spendmeter_local.stack.supervisor import Supervisor
from spendmeter_local.stack.up import declared


def let_go_of_the_terminal(_: Endpoints) -> None:
    """Discard everything that this process prints from now on; readers of its output see the end."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


@click.command()
@click.option("--dir", "dir_", type=click.Path(path_type=Path), required=True)
@click.option("--workers", type=click.IntRange(1), default=1)
@click.option("--brokers", type=int)
@click.option("--proxy-config", type=click.Path(path_type=Path), default=SHIPPED_CONFIG)
@click.option("--only", multiple=True)
@click.option("--alerts", "alert_routes", type=click.Path(path_type=Path))
def main(
    dir_: Path,
    workers: int,
    brokers: int | None,
    proxy_config: Path,
    only: tuple[str, ...],
    alert_routes: Path | None,
) -> None:
    """The detached supervisor: prints its progress to stdout, then runs silently."""
    stack = resolve_dir(dir_)
    declaration = declared(stack, workers, brokers, proxy_config, only, alert_routes)
    supervisor = Supervisor(stack, declaration, lambda line: print(line, flush=True))
    with suppress(AlreadyRunningError):
        raise SystemExit(supervisor.run(on_ready=let_go_of_the_terminal))


if __name__ == "__main__":
    main()
