"""Write each dashboard as JSON into a directory."""

import sys
from pathlib import Path

from spendmeter_grafana.dashboards import rendered


def main() -> None:
    """The directory is the argument."""
    [directory] = map(Path, sys.argv[1:])
    for name, text in rendered().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
