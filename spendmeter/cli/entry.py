"""The script `spendmeter`: what a command lacks is named, as the extra that brings it."""

from spendmeter.extras import needs


def main() -> None:
    """Run the command line."""
    with needs():
        from spendmeter.cli.main import main as run

        run()
