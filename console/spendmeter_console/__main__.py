"""`spendmeter web`: the page; `spendmeter web token`: who may sign in."""

import logging
from pathlib import Path

from spendmeter.extras import needs

with needs("console"):
    import click
    import uvicorn

    from spendmeter.cli.connection import process_settings
    from spendmeter.cli.options import dir_option
    from spendmeter.cli.printing import say
    from spendmeter.files.text import UnreadableFile
    from spendmeter.runtime import logs, metrics
    from spendmeter.runtime.process import exiting_with_message
    from spendmeter_console.access.people import (
        InvalidPeopleFile,
        People,
        hash_of,
        new_token,
    )
    from spendmeter_console.app import build
    from spendmeter_console.settings import ConsoleSettings
    from spendmeter_console.viewer import Role

log = logging.getLogger("spendmeter_console")

STOP_WITHIN_SECONDS = 3
MAX_CONNECTIONS = 1_000


@click.group(invoke_without_command=True)
@click.option("--port", type=click.IntRange(1, 65_535), help="  [default: $SPENDMETER_WEB_PORT, else 8180]")
@dir_option
@click.pass_context
def web(context: click.Context, port: int | None, dir_: Path | None) -> None:
    """Serve the page: what is spent, what is left, and why a request was refused.

    On this machine only, and read-only, unless settings say otherwise (docs/operations.md). SIGTERM
    ends it in order.
    """
    if context.invoked_subcommand is not None:
        return
    settings = process_settings(ConsoleSettings, dir_)
    if port is not None:
        settings = settings.model_copy(update={"web_port": port})
    logs.configure(settings)
    with exiting_with_message(settings, InvalidPeopleFile, UnreadableFile, OSError):
        people = People(settings.web_people_file)
        metrics.READY.set(0)
        metrics.serve(settings)
        log.info("open http://%s:%d", settings.web_host, settings.web_port)
        serve(settings, people)


@web.command()
@click.argument("name")
@click.option("--role", type=click.Choice([*Role]), default=Role.VIEWER, show_default=True)
@click.option("--team", "teams", multiple=True, help="Sees this team alone (may be repeated).")
def token(name: str, role: str, teams: tuple[str, ...]) -> None:
    """Make a token for NAME; print it, and the lines for the file of people, which hold its hash."""
    made = new_token()
    say(f"the token of {name}, shown once: {made}", err=True)
    say(f"  - name: {_quoted(name)}")
    say(f"    token_sha256: {hash_of(made)}")
    say(f"    role: {role}")
    if teams:
        say(f"    teams: [{', '.join(map(_quoted, teams))}]")


def serve(settings: ConsoleSettings, people: People) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        build(settings, people),
        host=settings.web_host,
        port=settings.web_port,
        log_config=None,
        # An address may hold what somebody searched for.
        access_log=False,
        # Whom a header names, the guard decides: uvicorn would believe X-Forwarded-For of any local process.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_WITHIN_SECONDS,
        ws="none",
    )
    uvicorn.Server(config).run()


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


if __name__ == "__main__":
    web()
