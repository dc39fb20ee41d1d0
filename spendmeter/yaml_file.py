"""YAML as people write it: read whole, or every problem told with its line. Pure.

A file is one mapping whose main field is a list; each kind of file reads the items of that list.
"""

from typing import NamedTuple

import yaml

from spendmeter.budget_fields import nearest

_NULL = "tag:yaml.org,2002:null"


class Problem(NamedTuple):
    """One thing that is wrong: in which line, what, and how to mend it."""

    line: int
    message: str


class InvalidFile(ValueError):
    """The file cannot be used; nothing of it was."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(f"{name}:{line}: {message}" for line, message in self.problems))


class YamlReader:
    """Walks the YAML nodes, which know their lines, and collects problems instead of stopping at one."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def fields(self, written: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        """The fields of the whole file; the first of those known is the one that it must have."""
        try:
            root = yaml.compose(written, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.problems.append(Problem(mark.line + 1 if mark else 1, f"this is no YAML: {error.problem}"))
            return {}
        except yaml.YAMLError as error:
            self.problems.append(Problem(1, f"this is no YAML: {error}"))
            return {}
        fields = self.mapping(root, "the file", known) if root is not None else {}
        if known[0] not in fields and not self.problems:
            self.problems.append(Problem(1, f"there are no {known[0]}; begin with `{known[0]}:` and a list"))
        return fields

    def items(self, written: str, name: str) -> list[yaml.Node]:
        """The items of the file's only field, a list of that name."""
        fields = self.fields(written, (name,))
        return self.sequence(fields[name], name) if name in fields else []

    def mapping(self, node: yaml.Node, what: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        """Its values by key; what is unknown or comes twice is told and left out, null is left out."""
        if not isinstance(node, yaml.MappingNode):
            self.tell(node, f"{what} is a mapping, such as `{known[0]}: …`")
            return {}
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in fields:
                self.tell(key, f"{name} is given twice; keep one")
            elif name not in known:
                self.tell(key, f"{what} has no field {name!r}; {nearest(name, known)}")
            elif value.tag != _NULL:
                fields[name] = value
        return fields

    def sequence(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            items: list[yaml.Node] = node.value
            return items
        self.tell(node, f"{what} is a list, each item behind a dash")
        return []

    def tell(self, node: yaml.Node, message: str) -> None:
        """Note a problem at the node."""
        self.problems.append(Problem(line_of(node), message))


def line_of(node: yaml.Node) -> int:
    """The line in which the node begins, from 1."""
    line: int = node.start_mark.line
    return line + 1
