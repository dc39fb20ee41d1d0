"""Releases of LiteLLM that nothing of ours runs beside.

It imports nothing of LiteLLM: with one of these that alone does the harm.
"""

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

OLDEST: Final = "1.84"
NEWEST: Final = "1.110"
"""The first and the last release that the callback is tested with: docs/reference/litellm-versions.md."""
LOADS_BY_NAME: Final = "1.94"
"""The first release that loads a callback by its module's name; before, only from a file."""

COMPROMISED: Final[Mapping[str, str]] = {
    "1.82.7": "an intruder uploaded it, and it steals credentials when the proxy is imported",
    "1.82.8": "an intruder uploaded it, and it steals credentials whenever Python starts",
    "1.107.0": "it was a compromised release and was withdrawn",
}
"""Release to what is wrong with it. The index has none of them any more; a mirror or an image may."""


def refuse_compromised(installed: str | None = None) -> None:
    """End the process, with one sentence, where LiteLLM is a release that is known to be compromised.

    Args:
        installed: the release, if not the one that is installed here.

    Raises:
        SystemExit: 2, as for a configuration that cannot be used.
    """
    try:
        found = installed or version("litellm")
    except PackageNotFoundError:
        # A source tree on the path: no release.
        return
    if (why := why_refused(found)) is not None:
        print(f"spendmeter {why}.", file=sys.stderr)
        raise SystemExit(2)


def why_refused(release: str) -> str | None:
    """Why nothing of ours starts beside that release, and what to do; None where it does."""
    if (why := COMPROMISED.get(release)) is None:
        return None
    return (
        f"cannot start beside LiteLLM {release}: {why}; install another release and replace"
        " every secret that was within this machine's reach"
    )
