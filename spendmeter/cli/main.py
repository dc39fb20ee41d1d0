"""`spendmeter`: every command of the product under one name."""

import logging
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from spendmeter.cli.printing import print_any_character, show_error
from spendmeter.extras import lacks_extra
from spendmeter.kafka.client import KafkaError
from spendmeter.kafka.errors import render_kafka_error

INTERRUPTED = 130
"""The exit code after Ctrl-C, as of every program that SIGINT ends."""
COMMANDS = "spendmeter.commands"
"""Entry points of this group are the commands, ours and those of the packages that we must not import."""


class Commands(click.Group):
    """The installed commands. Each is loaded when it is called or listed."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **more: Any) -> Any:  # type: ignore[override]
        """Run the command line; an error that a person can correct ends in a sentence, with its exit code."""
        print_any_character()
        for chatty in ("aiokafka", "asyncio", "clickhouse_connect"):
            # A command reports an error in one sentence; a process that logs has its own handler.
            logging.getLogger(chatty).addHandler(logging.NullHandler())
        try:
            ended = super().main(args, prog_name, **{**more, "standalone_mode": False})
        except click.ClickException as error:
            show_error(error)
            sys.exit(error.exit_code)
        except click.Abort as aborted:
            sys.exit(INTERRUPTED if isinstance(aborted.__cause__, KeyboardInterrupt) else 1)
        except (KafkaError, OSError) as error:
            show_error(click.ClickException(_render_error(error)))
            sys.exit(1)
        sys.exit(ended if isinstance(ended, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = _entry_points().get(cmd_name)
        if found is None:
            return None
        try:
            command: click.Command = found.load()
        except ModuleNotFoundError as missing:
            return _without_its_extra(cmd_name, lacks_extra(missing))
        return command


def _without_its_extra(name: str, sentence: str) -> click.Command:
    """A command without its libraries: the other commands work, and this one says what to install."""

    @click.command(name, help=sentence, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1)
    def command(arguments: Sequence[str]) -> None:
        sys.exit(f"spendmeter: {sentence}")

    return command


def _render_error(error: KafkaError | OSError) -> str:
    """A text for unexpected errors of the machine or of Kafka."""
    if isinstance(error, KafkaError):
        return render_kafka_error(error)
    said = error.strerror or str(error) or type(error).__name__
    return (
        said if error.filename is None else f"{error.filename}: {said}; make it accessible, or name another"
    )


def _entry_points() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group=COMMANDS)}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spendmeter")
def main() -> None:
    """Meter what every LLM request costs, and stop spending at the budget."""
