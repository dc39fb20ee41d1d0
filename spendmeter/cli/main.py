"""`spendmeter`: every command of the product under one name."""

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
from aiokafka.errors import KafkaError

from spendmeter.cli.alerts import alerts
from spendmeter.cli.budget import budget
from spendmeter.cli.correct import correct, void
from spendmeter.cli.demo import demo
from spendmeter.cli.import_litellm import import_
from spendmeter.cli.key import key
from spendmeter.cli.letters import letters
from spendmeter.cli.prices import prices
from spendmeter.cli.printing import print_any_character, show_error
from spendmeter.cli.query import query
from spendmeter.cli.stack import down, fetch, status, up
from spendmeter.cli.top import top
from spendmeter.runtime.kafka_errors import tell

INTERRUPTED = 130
"""The exit code after Ctrl-C, as of every program that SIGINT ends."""
PLUGGED_IN = "spendmeter.commands"
"""Entry points of this group are commands; so the packages that we must not import bring theirs."""


class Commands(click.Group):
    """Our commands, and those plugged in: a package is loaded when its command is called or listed."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **more: Any) -> Any:  # type: ignore[override]
        """Run the command line; what a person can mend ends in a sentence, with its exit code."""
        print_any_character()
        try:
            ended = super().main(args, prog_name, **{**more, "standalone_mode": False})
        except click.ClickException as error:
            show_error(error)
            sys.exit(error.exit_code)
        except click.Abort as aborted:
            sys.exit(INTERRUPTED if isinstance(aborted.__cause__, KeyboardInterrupt) else 1)
        except (KafkaError, OSError) as error:
            show_error(click.ClickException(_in_words(error)))
            sys.exit(1)
        sys.exit(ended if isinstance(ended, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_plugged_in()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        ours = super().get_command(ctx, cmd_name)
        found = _plugged_in().get(cmd_name)
        if ours is not None or found is None:
            return ours
        command: click.Command = found.load()
        return command


def _in_words(error: KafkaError | OSError) -> str:
    """What no command expected, of the machine or of Kafka."""
    if isinstance(error, KafkaError):
        return tell(error)
    said = error.strerror or str(error) or type(error).__name__
    return (
        said if error.filename is None else f"{error.filename}: {said}; make it accessible, or name another"
    )


def _plugged_in() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group=PLUGGED_IN)}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spendmeter")
def main() -> None:
    """Meter what every LLM request costs, and stop spending at the budget."""


for command in (
    demo,
    fetch,
    up,
    down,
    status,
    budget,
    key,
    import_,
    query,
    top,
    alerts,
    correct,
    void,
    letters,
    prices,
):
    main.add_command(command)
