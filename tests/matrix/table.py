"""The table of releases, as the page has it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.matrix.versions import Release

PAGE = Path(__file__).parents[2] / "docs/reference/litellm-versions.md"
"""Where the table stands."""
TARGET = "matrix"
STATUS = "status"
"""The property of a test that says with which status a spent budget is refused."""
COLUMNS = {
    "metered as the upstream counts": (
        "test_the_owner_is_charged_what_the_upstream_served",
        "test_a_stream_that_did_not_ask_for_its_usage_is_not_given_it",
        "test_a_stream_that_asked_for_its_usage_is_given_it",
    ),
    "refused with": ("test_a_spent_key_is_refused_as_litellm_itself_would",),
    "cut streams charged": ("test_a_stream_that_the_client_leaves_is_charged",),
    "key budgets, raises": ("test_a_raised_budget_serves_again",),
}
"""What a reader wants to know, and the tests that show it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test of one release ended."""

    version: str
    test: str
    passed: bool
    properties: Mapping[str, object]


def rendered(releases: Sequence[Release], outcomes: Iterable[Outcome]) -> str:
    """The table in Markdown."""
    outcomes = list(outcomes)
    lines = [f"| LiteLLM | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for release in releases:
        of_it = [one for one in outcomes if one.version == release.version]
        line = "" if release.loads_by_name else " (its own file)"
        lines.append(f"| {release.version}{line} | {' | '.join(_cells(of_it))} |")
    return "\n".join(lines) + "\n"


def _cells(outcomes: Sequence[Outcome]) -> Iterable[str]:
    for tests in COLUMNS.values():
        of_column = [one for one in outcomes if one.test in tests]
        if {one.test for one in of_column} != set(tests) or not all(one.passed for one in of_column):
            yield "**no**"
        else:
            statuses = [str(one.properties[STATUS]) for one in of_column if STATUS in one.properties]
            yield statuses[0] if statuses else "yes"
