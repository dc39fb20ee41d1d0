"""A program whose extra is not installed says which one it needs, in one sentence."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from spendmeter.extras import EXTRA_OF, needs
from tests.patience import WITHIN_SECONDS

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"

# Runs a module, or calls the script's function, where a library cannot be found.
WITHOUT = """
import importlib, runpy, sys
_, library, program, *_ = sys.argv
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = sys.argv[2:]
module, _, function = program.partition(":")
if function:
    getattr(importlib.import_module(module), function)()
else:
    runpy.run_module(module, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("library", "program", "extra"),
    [
        ("click", ["spendmeter.cli.entry:main", "--help"], "cli"),
        ("rich", ["spendmeter.cli.entry:main", "top"], "cli"),
        ("jgo", ["spendmeter.cli.entry:main", "fetch"], "local"),
        ("clickhouse_connect", ["spendmeter.cli.entry:main", "explain"], "sink"),
        ("clickhouse_connect", ["spendmeter_sinks"], "sink"),
        ("faust", ["spendmeter_stream"], "stream"),
        ("apprise", ["spendmeter.cli.entry:main", "alerts", "relay"], "alerts"),
        ("jinja2", ["spendmeter_console"], "console"),
        ("uvicorn", ["spendmeter.cli.entry:main", "web"], "console"),
    ],
)
def test_the_extra_is_named_in_one_sentence(library: str, program: list[str], extra: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT, library, *program],
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
        env={"SPENDMETER_CACHE_DIR": "/nonexistent", "PATH": "/usr/bin:/bin"},
    )

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1] == (
        f"spendmeter: {library} is not installed; this needs: pip install 'spendmeter[{extra}]'"
    )


def test_what_no_extra_brings_is_an_error_like_any_other() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_library"), needs("sink"):
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401


def test_every_extra_that_is_named_exists() -> None:
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]

    assert set(EXTRA_OF.values()) <= set(extras)
