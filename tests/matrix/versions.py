"""The releases of LiteLLM that the matrix runs, and how each is made to install."""

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Release:
    """One release, with what its own requirements need before they can be resolved."""

    version: str
    constraints: tuple[str, ...] = ()
    """Added to its requirements."""
    overrides: tuple[str, ...] = ()
    """Instead of requirements of its own: releases that are not, or no longer, on the index."""
    why: str = ""
    loads_by_name: bool = True
    """The README's line works; else a callback is loaded only from a file beside the configuration."""

    @property
    def requirements(self) -> Path:
        """The pins that its environment is made of, without ours."""
        return HERE / f"requirements-{self.version}.txt"


RELEASES = (
    Release("1.84.10", loads_by_name=False),
    Release(
        "1.96.2", constraints=("fastapi<0.137",), why="the proxy cannot be imported with a newer FastAPI"
    ),
    Release(
        "1.104.9",
        overrides=("litellm-proxy-extras==0.4.102.post1",),
        why="the litellm-proxy-extras that it pins was withdrawn",
    ),
    Release("1.106.2"),
    Release(
        "1.109.3",
        overrides=("litellm-proxy-extras==0.4.110", "litellm-enterprise==0.1.82"),
        why="the litellm-proxy-extras and litellm-enterprise that it pins are not on the index",
    ),
    Release(
        "1.110.2",
        overrides=(
            "litellm-proxy-extras==0.4.110",
            "litellm-enterprise==0.1.83",
            "litellm-proxy ; python_version < '3'",
        ),
        why="three that its proxy extra pins are not on the index; the proxy starts without litellm-proxy",
    ),
)

IN_EVERY_TEST_RUN = ("1.84.10", "1.110.2")
"""The oldest and the newest; the others with `make matrix`. The rest of the suite runs on 1.106.2."""

GATEWAY_REQUIREMENTS = HERE / "requirements-gateway.txt"
"""What `pip install spendmeter` adds beside LiteLLM."""
