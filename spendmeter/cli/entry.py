"""The script `spendmeter`: if a command's library is missing, it names the extra to install."""

import sys

from spendmeter.extras import needs


def main() -> None:
    """Run the command line."""
    try:
        with needs():
            from spendmeter.cli.main import main as run

            run()
    except KeyboardInterrupt:
        # While the libraries are being loaded; later ones are main's.
        sys.exit(130)
