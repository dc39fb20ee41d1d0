"""What a gateway needs of the machine that it runs on: each check yields a sentence for each fault."""

import fcntl
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile

from spendmeter_gateway.litellm.releases import why_refused


def installed_litellm() -> str | None:
    """LiteLLM's release in this environment; None if there is none."""
    try:
        return version("litellm")
    except PackageNotFoundError:
        return None


def litellm_faults() -> Iterator[str]:
    """Whether a gateway starts beside the LiteLLM of this environment."""
    found = installed_litellm()
    if found is None:
        yield "LiteLLM is not installed here; run this with the Python of the proxy"
    elif (why := why_refused(found)) is not None:
        yield f"the gateway {why}"


def outbox_faults(folder: Path, *, is_made: bool = True) -> Iterator[str]:
    """Whether an outbox can be written and locked in this folder, by trying.

    Args:
        is_made: make the folder; else the nearest one above it that exists is tried instead.
    """
    try:
        if is_made:
            folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder if is_made else nearest_existing(folder)) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        yield f"{folder} cannot be written ({error.strerror}): events would be lost; set SPENDMETER_DATA_DIR"


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    absolute = folder.absolute()
    return next(one for one in (absolute, *absolute.parents) if one.exists())
