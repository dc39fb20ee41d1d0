"""Every link between our pages leads to a page, a file or a heading that is there; so does a named path."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", ".github/**/*.md")
    for page in ROOT.glob(pattern)
)

SOURCES = [
    path
    for folder in (
        "spendmeter",
        "producers",
        "stream",
        "sinks",
        "doctor",
        "console",
        "deploy",
        "tests",
        "bench",
        "examples",
    )
    for path in (ROOT / folder).glob("**/*.py")
]


def links(page: Path) -> Iterator[str]:
    """What the page links to of ours; what is quoted as code is no link."""
    text = re.sub(r"(?ms)^```.*?^```$|^    .*?$|`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    return (target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives the page's headings."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_there(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = page.parent / name if name else page
    return file.exists() and (not anchor or anchor in anchors(file))


def paths(page: Path) -> set[str]:
    """The files of ours that the page names, from the root of the repository."""
    text = page.read_text(encoding="utf-8")
    folders = "|".join(one.name for one in ROOT.iterdir() if one.is_dir() and not one.name.startswith("."))
    return set(re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]*\w\.(?:py|sql|md|yaml|json|txt)\b", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not is_there(page, target)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_file_that_is_named_is_there(page: Path) -> None:
    assert {path for path in paths(page) if not (ROOT / path).exists()} == set()


def test_each_file_that_code_or_a_page_names_by_its_end_is_there() -> None:
    """`matching.py` or `domain/matching.py`: some file of ours ends so."""
    there = {path.relative_to(ROOT) for path in SOURCES if path.suffix == ".py"}
    ends = {"/".join(path.parts[at:]) for path in there for at in range(len(path.parts))}
    gone = {
        f"{page.relative_to(ROOT)}: {name}"
        for page in {*SOURCES, *PAGES} - {ROOT / "CHANGELOG.md", Path(__file__)}
        for name in re.findall(r"(?<![\w./-])(?:[\w-]+/)*\w+\.py\b", page.read_text(encoding="utf-8"))
        if name not in ends and not name.startswith("path/to/")
    }
    assert gone == set()


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `thing`, and more\n[a](#one-thing-and-more) [b](#two) [c](page.md) [d](gone.md) `[e](f)`\n"
    )

    assert [target for target in links(page) if not is_there(page, target)] == ["#two", "gone.md"]


def test_a_file_that_has_moved_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`docs/gone.md` and tests/unit/test_docs_links.py, but not other/docs/gone.md\n")

    assert {path for path in paths(page) if not (ROOT / path).exists()} == {"docs/gone.md"}
