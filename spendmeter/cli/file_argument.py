"""The argument that names a file to be read, or `-` for standard input."""

import click

from spendmeter.files.text import UnreadableFile, read_text

INVALID_FILE = 2
"""The exit code where a file cannot be used; nothing of it was."""

file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))


def read_file(name: str) -> str:
    """The text of the file. One that is no UTF-8 text is refused in a sentence, exit 2."""
    try:
        with click.open_file(name, "rb") as file:
            return read_text(file, name)
    except UnreadableFile as error:
        said = str(error)
    except OSError as error:
        said = f"{name} cannot be read: {error.strerror or error}"
    except RuntimeError:
        # click's word for a closed standard input.
        said = "standard input is closed; name a file"
    refusal = click.ClickException(said)
    refusal.exit_code = INVALID_FILE
    raise refusal from None
