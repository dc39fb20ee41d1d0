"""Words: a public class name stands once, and words that we gave up stay away."""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "spendmeter": ROOT / "spendmeter",
    "spendmeter_gateway": ROOT / "producers/spendmeter_gateway",
    "spendmeter_stream": ROOT / "stream/spendmeter_stream",
    "spendmeter_sinks": ROOT / "sinks/spendmeter_sinks",
    "spendmeter_console": ROOT / "console/spendmeter_console",
    "spendmeter_doctor": ROOT / "doctor/spendmeter_doctor",
    "spendmeter_local": ROOT / "deploy/local/spendmeter_local",
}
GLOSSARY = ROOT / "docs/glossary.md"

GIVEN_UP = frozenset(
    "tell tells told telling mistold look looks looked looking take takes took taken taking takings"  # noqa: SIM905
    " place places door doors visit visits asked news letters words eras dues".split()
)
"""Each hid a word of the field: emit, notify, render, lookup, apply, opening balance, timers."""
KEPT = re.compile(
    r"dead[_ -]?letters?|tak(e|en|ing)[_ -]over|in[_ -]place|take[_ -]place"
    r"|letters, digits|words of the (request|reply|sentences)"
    r"|look_again_seconds|\bnews: changes|\"news\"",
    re.IGNORECASE,
)
"""Kafka's dead letters; what a LiteLLM's limits are when `import litellm --take-over` moves them here; the
characters of an id; the words that the fake model counts as tokens; the options of `spendmeter.waiting`, the
earlier name of `spendmeter.retry`."""
KNOWN_TO_USERS = frozenset({"letters"})
"""`spendmeter letters`, whose function has the command's name."""


@cache
def trees(package: str) -> dict[Path, ast.Module]:
    folder = PACKAGES[package]
    return {
        path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in sorted(folder.rglob("*.py"))
    }


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def classes() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path, tree in trees(package).items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    yield node.name, where(path, node.lineno)


def parts(name: str) -> set[str]:
    """The words of a name, in lower case, without those that are kept."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return set(KEPT.sub("", spaced).lower().split("_"))


def names_in(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Classes, functions, parameters and attributes; what is local to a function is its own affair."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name, node.lineno
            yield from fields(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
    yield from fields(tree.body)


def fields(body: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    for statement in body:
        targets = (
            statement.targets
            if isinstance(statement, ast.Assign)
            else [statement.target]
            if isinstance(statement, ast.AnnAssign)
            else []
        )
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name):
                    yield node.id, node.lineno


def given_up_names(package: str) -> list[str]:
    found = []
    for path, tree in trees(package).items():
        if parts(path.stem) & GIVEN_UP:
            found.append(f"{path.relative_to(ROOT)}: {path.stem}")
        found += [
            f"{where(path, line)}: {name}"
            for name, line in names_in(tree)
            if parts(name) & GIVEN_UP and name not in KNOWN_TO_USERS
        ]
    return found


def prose_of(path: Path) -> str:
    """Comments, docstrings and messages of a module; names in backticks are names, not prose."""
    source = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
    return "\n".join(token.string for token in tokens if token.type in kinds)


def prose(of: str) -> Iterator[tuple[Path, str]]:
    if of == "docs":
        for path in sorted((ROOT / "docs").rglob("*.md")):
            if "decisions" not in path.parts:
                yield path, re.sub(r"(?s)```.*?```|\]\([^)\s]*\)", "", path.read_text(encoding="utf-8"))
        return
    for path in sorted(PACKAGES[of].rglob("*.py")):
        yield path, prose_of(path)


def given_up_prose(of: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for path, text in prose(of):
        plain = KEPT.sub("", re.sub(r"`[^`\n]*`|spendmeter_\w+", "", text))
        hits = sum(word in GIVEN_UP for word in re.findall(r"[a-z]+", plain.lower()))
        if hits:
            found[str(path.relative_to(ROOT))] = hits
    return found


def test_a_public_class_name_stands_once() -> None:
    stands: dict[str, list[str]] = {}
    for name, position in classes():
        if not name.startswith("_"):
            stands.setdefault(name, []).append(position)
    twice = {name: positions for name, positions in stands.items() if len(positions) > 1}
    assert not twice, f"give each of these a name of its own: {twice}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_words_that_we_gave_up_stand_in_no_name(package: str) -> None:
    found = given_up_names(package)
    assert not found, "style: use the field's word instead of\n" + "\n".join(found)


@pytest.mark.parametrize("of", [*PACKAGES, "docs"])
def test_the_words_that_we_gave_up_stand_in_no_sentence(of: str) -> None:
    found = given_up_prose(of)
    assert not found, f"style: use the field's word in {found.most_common(12)}"


def test_each_class_of_the_glossary_is_where_it_says() -> None:
    lines = [line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line.startswith("| **")]
    assert len(lines) > 40
    missing = []
    for line in lines:
        for name, link in re.findall(r"\[`(\w+)`\]\(([^)]+)\)", line):
            path = (GLOSSARY.parent / link).resolve()
            if not path.is_file() or not re.search(
                rf"(?m)^(class|def) {name}\b", path.read_text(encoding="utf-8")
            ):
                missing.append(f"{name} in {link}")
    assert not missing


def test_a_term_stands_in_one_line_of_the_glossary_and_in_their_order() -> None:
    terms = re.findall(r"(?m)^\| \*\*(.+?)\*\*", GLOSSARY.read_text(encoding="utf-8"))
    assert terms == sorted(set(terms), key=str.lower)
