"""The picture of imports in ARCHITECTURE.md: which room of a package imports which, floor above floor.

    python -m tests.architecture      # or `make architecture`: writes it into the page

The packages are those of import-linter in pyproject.toml. A room is a folder in a package, or a module that
lies in no folder. The floor of a room is one above the highest that it imports, so arrows only point down;
rooms that import one another in a circle share a floor, and each is shown with all that it imports.
"""

import textwrap
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import grimp

from tests.pages import rewritten

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "ARCHITECTURE.md"
TARGET = "architecture"
OUTSIDE = (
    "aiokafka",
    "chdb",
    "click",
    "clickhouse_connect",
    "faust",
    "jinja2",
    "litellm",
    "mode",
    "starlette",
)
"""Libraries that few rooms should know."""
WIDTH = 110

Arrows = Mapping[str, frozenset[str]]
"""Name: the names that it imports."""


class Floor(NamedTuple):
    number: int
    rooms: tuple[str, ...]
    """More than one: they import one another in a circle."""
    imports: tuple[str, ...]


def floors(arrows: Arrows) -> list[Floor]:
    """Each room, or circle of rooms, on its floor; the highest first."""
    reached = {room: _reached(room, arrows) for room in arrows}
    circles = {
        room: frozenset({room} | {other for other in reached[room] if room in reached[other]})
        for room in arrows
    }
    numbers: dict[frozenset[str], int] = {}

    def number(circle: frozenset[str]) -> int:
        if circle not in numbers:
            below = {circles[other] for room in circle for other in arrows[room] if other not in circle}
            numbers[circle] = 1 + max(map(number, below), default=0)
        return numbers[circle]

    found = [
        Floor(
            number(circle),
            tuple(sorted(circle)),
            tuple(sorted({other for room in circle for other in arrows[room]} - circle)),
        )
        for circle in set(circles.values())
    ]
    return sorted(found, key=lambda floor: (-floor.number, floor.rooms))


def picture() -> str:
    """The whole picture, as the page has it."""
    packages = root_packages()
    graph = grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)
    between = {one: _packages_imported(graph, one, packages) for one in packages}
    parts = [_written("packages", between, Counter())]
    for package in sorted(packages):
        rooms = rooms_of(package, graph.modules)
        arrows = {
            room: frozenset(
                rooms[imported]
                for module, own in rooms.items()
                if own == room
                for imported in graph.find_modules_directly_imported_by(module)
                if rooms.get(imported, room) != room
            )
            for room in set(rooms.values())
        }
        parts.append(_written(f"{package}, {len(rooms)} modules", arrows, Counter(rooms.values())))
    parts.append("\n".join(("libraries", *_libraries(graph, packages))))
    return "```text\n" + "\n\n".join(parts) + "\n```\n"


def root_packages() -> tuple[str, ...]:
    """The packages that import-linter checks."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return tuple(settings["tool"]["importlinter"]["root_packages"])


def rooms_of(package: str, modules: Iterable[str]) -> dict[str, str]:
    """Module to room, of the package's modules; a folder ends in `/`."""
    of_package = {module for module in modules if module.startswith(f"{package}.")}
    folders = {module.split(".")[1] for module in of_package if module.count(".") > 1}
    names = {module: module.split(".")[1] for module in of_package}
    return {module: f"{name}/" if name in folders else name for module, name in names.items()}


def _packages_imported(graph: grimp.ImportGraph, package: str, packages: Iterable[str]) -> frozenset[str]:
    return frozenset(
        other
        for other in packages
        if other != package
        and graph.find_matching_direct_imports(import_expression=f"{package}.** -> {other}.**")
    )


def _libraries(graph: grimp.ImportGraph, packages: Iterable[str]) -> Iterable[str]:
    rooms = {
        module: f"{package}/{room}"
        for package in packages
        for module, room in rooms_of(package, graph.modules).items()
    }
    for library in OUTSIDE:
        if library in graph.modules:
            importers = graph.find_modules_that_directly_import(library)
            yield _line(f"      {library}", sorted({rooms[one] for one in importers if one in rooms}), "←")


def _written(heading: str, arrows: Arrows, modules: Counter[str]) -> str:
    """`modules`: how many a room has; not said of one."""
    lines = [heading]
    names = {room: f"{room} ({modules[room]})" if modules[room] > 1 else room for room in arrows}
    for floor in floors(arrows):
        begin = f"  {floor.number:2d}  "
        if len(floor.rooms) == 1:
            lines.append(_line(begin + names[floor.rooms[0]], floor.imports))
        else:
            lines.append(f"{begin}a circle of {len(floor.rooms)}")
            lines += [_line(f"        {names[room]}", sorted(arrows[room])) for room in floor.rooms]
    return "\n".join(lines)


def _line(begin: str, names: Sequence[str], arrow: str = "→") -> str:
    return textwrap.fill(
        f"{begin} {arrow} {' '.join(names)}" if names else begin,
        WIDTH,
        subsequent_indent=" " * 10,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _reached(room: str, arrows: Arrows) -> frozenset[str]:
    found: set[str] = set()
    left = [room]
    while left:
        for other in arrows[left.pop()]:
            if other not in found:
                found.add(other)
                left.append(other)
    return frozenset(found)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), TARGET, picture()), encoding="utf-8")
