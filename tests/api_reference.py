"""docs/reference/api.md: the questions that the page's API answers, written from its OpenAPI document.

python -m tests.api_reference      # or `make openapi`
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spendmeter.values.dimensions import DIMENSIONS
from spendmeter_console.api.openapi import document
from tests.pages import rewritten

PAGE = Path(__file__).parents[1] / "docs/reference/api.md"
TARGET = "openapi"


def text() -> str:
    """The page's part."""
    found = document()
    lines = ["", found["info"]["description"], ""]
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            lines += [
                f"## {method.upper()} {path}",
                "",
                operation["summary"],
                "",
                *_parameters(operation),
                *_answer(operation),
            ]
    statuses = {
        s: r["description"] for o in found["paths"].values() for s, r in o["get"]["responses"].items()
    }
    lines += ["## Errors", "", "| status | |", "|---|---|"]
    lines += [f"| {status} | {says} |" for status, says in sorted(statuses.items()) if status != "200"]
    return "\n".join(lines) + "\n\n"


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    named = [one for one in operation["parameters"] if one["name"] not in DIMENSIONS]
    if named:
        yield from ("| parameter | | default |", "|---|---|---|")
        for one in named:
            says = one.get("description", "Of the path.") + _values(one["schema"])
            yield f"| `{one['name']}` | {says} | {_default(one['schema'])} |"
        if len(named) < len(operation["parameters"]):
            names = ", ".join(f"`{one}`" for one in DIMENSIONS)
            yield f"| {names} | Only what has this value; empty: what has none. | – |"
        yield ""


def _values(schema: Mapping[str, Any]) -> str:
    values = schema.get("enum") or schema.get("items", {}).get("enum") or ()
    return f" One of {', '.join(f'`{one}`' for one in values)}." if values else ""


def _default(schema: Mapping[str, Any]) -> str:
    value = schema.get("default")
    return "–" if value is None else f"`{', '.join(value) if isinstance(value, list) else value}`"


def _answer(operation: Mapping[str, Any]) -> Iterator[str]:
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    [kind] = operation["security"][0]
    whose = "a person's token" if kind == "token" else "a key of the gateway"
    yield f"Authorization: {whose}. Answer: `{schema}`."
    yield ""


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), TARGET, text()), encoding="utf-8")
