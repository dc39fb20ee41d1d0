"""docs/reference/python.md: what programs may import, written from the code.

    python -m tests.python_api      # or `make python-api`

A module is public by standing here: of it what `__all__` names, or else every class and function it defines.
"""

import inspect
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tests.pages import rewritten

PAGE = Path(__file__).parents[1] / "docs/reference/python.md"
TARGET = "python-api"
MODULES = (
    "spendmeter.client",
    "spendmeter.retry",
    "spendmeter.retry.http",
    "spendmeter_gateway.sdk",
    "spendmeter.contract.usage",
    "spendmeter.contract.budget",
    "spendmeter.contract.signal",
    "spendmeter.contract.alert",
    "spendmeter.contract.decision",
    "spendmeter.contract.total",
    "spendmeter.contract.dead_letter",
    "spendmeter.contract.records",
    "spendmeter.contract.money",
)

# Else LiteLLM would fetch its prices when it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The names that a public module promises, in the order in which they stand there."""
    for name in getattr(module, "__all__", None) or _defined(module):
        yield name, getattr(module, name)


def text() -> str:
    """The page's part: a table a module."""
    parts = []
    for name in MODULES:
        module = import_module(name)
        rows = [f"| `{of}` | {_sentence(one)} |" for of, one in public(module)]
        parts.append("\n".join([f"## {name}\n", _sentence(module) + "\n", "| | |", "|---|---|", *rows]))
    return "\n" + "\n\n".join(parts) + "\n\n"


def _defined(module: ModuleType) -> list[str]:
    return [
        name
        for name, one in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(one) or inspect.isfunction(one))
        and one.__module__ == module.__name__
    ]


def _sentence(one: object) -> str:
    """The first sentence of a docstring, on one line."""
    said = " ".join((inspect.getdoc(one) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=[.;:]) (?=[A-Z`])", said)[0].replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), TARGET, text()), encoding="utf-8")
