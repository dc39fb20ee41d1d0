"""`python -m tests.matrix.lock`: resolve the requirement files of every release anew."""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from tests.matrix.versions import GATEWAY_REQUIREMENTS, HERE, RELEASES

PYPROJECT = HERE.parents[1] / "pyproject.toml"
UV = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--python-version", "3.11"]
PLAIN = ["--universal", "--no-emit-index-url", "--no-annotate", "--no-header"]


def main() -> None:
    """Write each file."""
    for release in RELEASES:
        wanted = [f"litellm[proxy]=={release.version}", *release.constraints]
        resolve(wanted, release.overrides, release.requirements)
    ours = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    resolve(ours, (), GATEWAY_REQUIREMENTS)


def resolve(wanted: Iterable[str], overrides: Iterable[str], into: Path) -> None:
    """Pin what `wanted` needs."""
    with tempfile.TemporaryDirectory() as folder:
        override = Path(folder, "overrides.txt")
        override.write_text("\n".join(overrides))
        subprocess.run(
            [*UV, *PLAIN, "--overrides", str(override), "--output-file", str(into), "-"],
            input="\n".join(wanted),
            text=True,
            check=True,
        )


if __name__ == "__main__":
    main()
