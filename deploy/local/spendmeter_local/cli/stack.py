"""`spendmeter fetch`, `up`, `down`: the local stack."""

import os
import signal
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import print_json, say, say_lines
from spendmeter.runtime.endpoints import AlreadyRunningError, Endpoints, StackDir, resolve_dir
from spendmeter_local.kafka.broker import WrongNodesError
from spendmeter_local.kafka.jars import KAFKA_VERSION, FetchError, fetch_jars, jars_dir, missing_jars
from spendmeter_local.probes import wait_until
from spendmeter_local.proxy.config import SHIPPED_CONFIG
from spendmeter_local.stack.supervisor import Supervisor
from spendmeter_local.stack.up import UpFailedError, declared, start_detached, wait_for_running
from spendmeter_sinks.alerts.command import checked_routes

DOWN_TIMEOUT_SECONDS = 120


@click.command()
def fetch() -> None:
    """Fetch what the local stack needs and does not have yet."""
    if not _fetch_missing():
        say(f"Apache Kafka {KAFKA_VERSION} is in {jars_dir()}", err=True)


@click.command()
@dir_option
@click.option("--detach", is_flag=True, help="Return when ready; the stack runs on in the background.")
@click.option(
    "--proxy-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="LiteLLM's configuration file.  [default: one for the fake upstream]",
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Stream workers.")
@click.option(
    "--brokers",
    type=click.Choice(["1", "3"]),
    help="Number of Kafka nodes. With three, each record is on all and counts once it is on two."
    "  [default: as before, 1 at first]",
)
@click.option(
    "--alerts",
    "alert_routes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Relay alerts, as this file of routes says (docs/alerts.md).",
)
@click.option("--only", multiple=True, metavar="COMPONENT", help="Start only this one (may be repeated).")
@json_option
def up(
    dir_: Path | None,
    detach: bool,
    proxy_config: Path | None,
    workers: int,
    brokers: str | None,
    alert_routes: Path | None,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Start the local stack: Kafka, ClickHouse, the stream, the sink, a LiteLLM proxy, and the page."""
    stack = resolve_dir(dir_)
    if _said_that_it_runs(stack, as_json):
        return
    if alert_routes is not None:
        # Refused before anything starts.
        checked_routes(str(alert_routes))
    _fetch_missing()
    config = proxy_config or SHIPPED_CONFIG
    nodes = int(brokers) if brokers else None
    try:
        declaration = declared(stack, workers, nodes, config, only, alert_routes)
    except WrongNodesError as error:
        raise click.BadParameter(str(error), param_hint="--brokers") from error
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from error
    if detach:
        _print_endpoints(_start_detached(stack, workers, nodes, config, only, alert_routes), as_json)
        return
    supervisor = Supervisor(stack, declaration, _say)
    try:
        raise SystemExit(supervisor.run(lambda ready: _print_endpoints(ready, as_json)))
    except AlreadyRunningError:  # started since the check
        _said_that_it_runs(stack, as_json)


def _said_that_it_runs(stack: StackDir, as_json: bool) -> bool:
    endpoints = wait_for_running(stack)
    if endpoints is None:
        return False
    _say(f"already running in {stack.path}, supervisor {endpoints.pids['supervisor']}")
    _print_endpoints(endpoints, as_json)
    return True


def _start_detached(
    stack: StackDir,
    workers: int,
    nodes: int | None,
    config: Path,
    only: tuple[str, ...],
    alert_routes: Path | None,
) -> Endpoints:
    arguments = ["--dir", str(stack.path), "--workers", str(workers), "--proxy-config", str(config)]
    if nodes is not None:
        arguments += ["--brokers", str(nodes)]
    if alert_routes is not None:
        arguments += ["--alerts", str(alert_routes.absolute())]
    for name in only:
        arguments += ["--only", name]
    try:
        return start_detached(arguments, stack, _say)
    except UpFailedError as error:
        raise click.ClickException(str(error)) from error


@click.command()
@dir_option
def down(dir_: Path | None) -> None:
    """Stop the local stack; its data stays."""
    stack = resolve_dir(dir_)
    pid = stack.supervisor_pid()
    if pid is None:
        return _say(f"nothing runs in {stack.path}")
    begun = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: stack.supervisor_pid() is None, timeout_seconds=DOWN_TIMEOUT_SECONDS):
        # Its children end with it.
        os.kill(pid, signal.SIGKILL)
        raise click.ClickException(
            f"supervisor {pid} did not stop in {DOWN_TIMEOUT_SECONDS} s and was killed"
        )
    return _say(f"stopped in {time.monotonic() - begun:.1f} s; the data is kept in {stack.path}")


def _fetch_missing() -> bool:
    """Fetch with a progress bar. False if nothing was missing."""
    missing = missing_jars()
    if not missing:
        return False
    total = sum(jar.size_bytes for jar in missing)
    _say(f"fetching Apache Kafka {KAFKA_VERSION}: {len(missing)} jars, {total / 1e6:.0f} MB, once")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    begun = time.monotonic()
    console = Console(stderr=True)
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("fetching", total=total)
            fetch_jars(lambda jar: progress.update(task, advance=jar.size_bytes, description=jar.filename))
    except FetchError as error:
        raise click.ClickException(f"{error}; what was fetched is kept, try again") from error
    _say(f"fetched in {time.monotonic() - begun:.1f} s into {jars_dir()}")
    return True


def _print_endpoints(endpoints: Endpoints, as_json: bool) -> None:
    if as_json:
        return print_json(endpoints)
    for component, address in (
        ("proxy", endpoints.proxy_url),
        ("kafka", endpoints.kafka_bootstrap),
        ("clickhouse", endpoints.clickhouse_url),
        ("upstream", endpoints.upstream_url),
        ("web", endpoints.web_url),
    ):
        if component in endpoints.pids or f"{component}-1" in endpoints.pids:
            say(f"  {component:<14} {address}")
    return say("  the master key, ClickHouse's password and the process ids are in endpoints.json")


def _say(line: str) -> None:
    say_lines(line, err=True)
