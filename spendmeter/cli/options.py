"""Options that most commands have."""

from pathlib import Path

import click

dir_option = click.option(
    "--dir",
    "dir_",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the stack.  [default: $SPENDMETER_DIR, else .spendmeter]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
