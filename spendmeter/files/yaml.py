"""Reads YAML files that people write, or reports every problem with its line. Pure.

A file is one mapping whose main field is a list; each kind of file reads the items of that list. Anchors,
merge keys (`<<`) and top-level fields `x-…` for shared parts work as usual. The expanded size
is bounded: aliases are never copied, and merges only up to MAX_MERGED_FIELDS.
"""

from itertools import chain
from typing import Any, NamedTuple

import yaml
from yaml.composer import Composer

from spendmeter.files.scalars import nearest
from spendmeter.visible import visible

MAX_DEPTH = 32
"""Depth of nested lists and mappings, and of nested merges."""
MAX_MERGED_FIELDS = 1_000_000
MAX_PROBLEMS_SHOWN = 100
EXTENSION = "x-"

_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"

Pair = tuple[yaml.Node, yaml.Node]


class Problem(NamedTuple):
    """One problem: its line, what is wrong, and how to correct it."""

    line: int
    message: str


class InvalidFile(ValueError):
    """The file cannot be used, and none of it was."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        lines = [f"{name}:{line}: {message}" for line, message in self.problems[:MAX_PROBLEMS_SHOWN]]
        if (more := len(problems) - len(lines)) > 0:
            lines.append(f"and {more:,} more problems")
        super().__init__("\n".join(map(visible, lines)))


class _BoundedComposer(Composer):
    """Composes nodes like PyYAML, but with a bounded depth: libyaml's own composer overflows its stack."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[attr-defined]
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels deep", problem_mark=mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


# libyaml's parser needs a third of the time.
_Parser: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class _Loader(_BoundedComposer, _Parser):  # type: ignore[misc]
    def __init__(self, written: str) -> None:
        _Parser.__init__(self, written)
        self.anchors: dict[str, yaml.Node] = {}


class YamlReader:
    """Walks the YAML nodes, which know their lines, and collects all problems."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        # By node: an alias is the same node as its anchor, and is read once.
        self._read: dict[tuple[int, str], dict[str, yaml.Node]] = {}
        self._flat: dict[int, list[Pair]] = {}
        self._open: set[int] = set()
        self._unknown: set[tuple[int, str]] = set()
        self._merged_fields = 0

    def fields(self, written: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        """The fields of the whole file; the first known one is required."""
        try:
            root = _Loader(written).get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            # The parser notices only after the end that something is not closed.
            line = min(mark.line + 1, len(written.splitlines()) or 1) if mark else 1
            said = ", ".join(filter(None, (error.context, error.problem)))
            self.problems.append(Problem(line, f"this is no YAML: {said}"))
            return {}
        except (yaml.YAMLError, UnicodeEncodeError) as error:
            self.problems.append(Problem(1, f"this is no YAML: {str(error).partition(chr(10))[0]}"))
            return {}
        fields = self.mapping(root, "the file", known, extended=True) if root is not None else {}
        if known[0] not in fields and not self.problems:
            self.problems.append(Problem(1, f"there are no {known[0]}; begin with `{known[0]}:` and a list"))
        return fields

    def items(self, written: str, name: str) -> list[yaml.Node]:
        """The items of the file's only field, a list of that name."""
        fields = self.fields(written, (name,))
        return self.sequence(fields[name], name) if name in fields else []

    def mapping(
        self, node: yaml.Node, what: str, known: tuple[str, ...], *, extended: bool = False
    ) -> dict[str, yaml.Node]:
        """Its values by key. Unknown and repeated fields are reported and left out; null is left out.

        Args:
            extended: fields `x-…` are allowed, and have no meaning of their own.
        """
        if (id(node), what) not in self._read:
            self._read[id(node), what] = self._mapping(node, what, known, extended)
        return self._read[id(node), what]

    def _mapping(
        self, node: yaml.Node, what: str, known: tuple[str, ...], extended: bool
    ) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self.report(node, f"{what} is a mapping, such as `{known[0]}: …`")
            return {}
        fields: dict[str, yaml.Node] = {}
        for key, value in self._pairs(node):
            if extended and key.value.startswith(EXTENSION):
                continue
            if key.value not in known:
                # Report it once, however often it is merged.
                if (id(key), what) not in self._unknown:
                    self._unknown.add((id(key), what))
                    self.report(key, f"{what} has no field {key.value!r}; {nearest(key.value, known)}")
            elif value.tag != _NULL:
                fields[key.value] = value
        return fields

    def _pairs(self, node: yaml.MappingNode, depth: int = 0) -> list[Pair]:
        """Its keys, each once, with their values; its own fields come before merged ones."""
        if (flat := self._flat.get(id(node))) is not None:
            return flat
        if id(node) in self._open:
            self.report(node, "<< merges this mapping into itself; leave that out")
            return []
        self._open.add(id(node))
        own: dict[str, Pair] = {}
        merged: list[yaml.MappingNode] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                merged += self._sources(value, depth)
            elif not isinstance(key, yaml.ScalarNode):
                self.report(key, "a field's name is one word, not a list or mapping")
            elif key.value in own:
                self.report(key, f"{key.value} is given twice; keep one")
            else:
                own[key.value] = (key, value)
        for pair in chain.from_iterable(self._pairs(source, depth + 1) for source in merged):
            self._merged_fields += 1
            if self._merged_fields > MAX_MERGED_FIELDS:
                self._report_once(node, f"merges come to more than {MAX_MERGED_FIELDS:,} fields; merge less")
                break
            own.setdefault(pair[0].value, pair)
        self._flat[id(node)] = list(own.values())
        return self._flat[id(node)]

    def _sources(self, value: yaml.Node, depth: int) -> list[yaml.MappingNode]:
        """The mappings behind a merge key, each once."""
        nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
        found = {id(node): node for node in nodes if isinstance(node, yaml.MappingNode)}
        if any(not isinstance(node, yaml.MappingNode) for node in nodes):
            self.report(value, "<< merges a mapping, or a list of mappings, such as `<<: *defaults`")
        if depth >= MAX_DEPTH:
            self._report_once(value, f"<< merges through more than {MAX_DEPTH} mappings; merge fewer")
            return []
        return list(found.values())

    def sequence(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            items: list[yaml.Node] = node.value
            return items
        self.report(node, f"{what} is a list, each item behind a dash")
        return []

    def report(self, node: yaml.Node, message: str) -> None:
        """Note a problem at the node."""
        self.problems.append(Problem(line_of(node), message))

    def _report_once(self, node: yaml.Node, message: str) -> None:
        if all(problem.message != message for problem in self.problems):
            self.report(node, message)


def line_of(node: yaml.Node) -> int:
    """The line in which the node begins, from 1."""
    line: int = node.start_mark.line
    return line + 1
