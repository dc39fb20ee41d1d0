"""Budgets as people write them in YAML: read whole, or every problem told with its line and its fix. Pure.

budgets:
  - id: key-day
    match: {key: "*"}
    limit_usd: "0.001"
    period: day
    warn_at: [0.8]
    action: block
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from spendmeter.budget_fields import Wrong, fraction, money, nearest, one_of, text, time
from spendmeter.contract.budget import DIMENSIONS, Action, Budget, Enforcement
from spendmeter.contract.period import NAMED_PERIODS

_REQUIRED = {
    "id": "a name of your choice, such as key-day",
    "match": 'what is added up, such as {key: "*"} for one account per key, or {} for everything',
    "limit_usd": 'an amount in USD, such as "0.50"',
    "period": f"one of {', '.join(NAMED_PERIODS)}, or an ISO 8601 duration",
}
_FIELDS = (
    *_REQUIRED,
    "timezone",
    "starts_at",
    "warn_at",
    "action",
    "enforcement",
    "unpriced",
    "raises",
    "replaces",
)
# Where a field of the record has another name in the file.
_IN_THE_FILE = {"limit_nanousd": "limit_usd"}
_NULL = "tag:yaml.org,2002:null"


class Problem(NamedTuple):
    """One thing that is wrong: in which line, what, and how to mend it."""

    line: int
    message: str


class InvalidBudgetFile(ValueError):
    """The file cannot be applied; nothing of it was."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(f"{name}:{line}: {message}" for line, message in self.problems))


def read_budgets(written: str, name: str, now: datetime) -> list[Budget]:
    """The budgets of a file. `name` is what its problems are told under; `now` stamps the records.

    Raises:
        InvalidBudgetFile: anything is wrong with any of them.
    """
    reader = _Reader(now)
    budgets = list(reader.budgets(written))
    if reader.problems:
        raise InvalidBudgetFile(name, reader.problems)
    return budgets


class _Reader:
    """Walks the YAML nodes, which know their lines, and collects problems instead of stopping at one."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self.problems: list[Problem] = []

    def budgets(self, written: str) -> Iterator[Budget]:
        lines: dict[str, int] = {}
        for node in self._items(written):
            budget = self._budget(node)
            if budget is None:
                continue
            if budget.id in lines:
                self._tell(node, f"id {budget.id!r} is in line {lines[budget.id]} already; give each its own")
            lines.setdefault(budget.id, _line(node))
            yield budget

    def _items(self, written: str) -> list[yaml.Node]:
        try:
            root = yaml.compose(written, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.problems.append(Problem(mark.line + 1 if mark else 1, f"this is no YAML: {error.problem}"))
            return []
        except yaml.YAMLError as error:
            self.problems.append(Problem(1, f"this is no YAML: {error}"))
            return []
        fields = self._mapping(root, "the file", ("budgets",)) if root is not None else {}
        if "budgets" in fields:
            return self._sequence(fields["budgets"], "budgets")
        if not self.problems:
            self.problems.append(Problem(1, "there are no budgets; begin with `budgets:` and a list"))
        return []

    def _budget(self, node: yaml.Node) -> Budget | None:
        nodes = self._mapping(node, "a budget", _FIELDS)
        if not isinstance(node, yaml.MappingNode):
            return None
        values: dict[str, Any] = {"updated_at": self._now}
        for field, value in nodes.items():
            try:
                values |= self._value(field, value)
            except Wrong as wrong:
                self._tell(value, f"{field}: {wrong}")
        for field, hint in _REQUIRED.items():
            if field not in nodes:
                self._tell(node, f"{field} is missing: {hint}")
        try:
            return Budget.model_validate(values)
        except ValidationError as error:
            self._tell_of_record(error, node, nodes)
            return None

    def _value(self, field: str, node: yaml.Node) -> dict[str, Any]:
        match field:
            case "match":
                return {"match": self._match(node)}
            case "limit_usd":
                return {"limit_nanousd": money(node)}
            case "starts_at":
                return {"starts_at": time(node)}
            case "warn_at":
                return {"warn_at": tuple(fraction(item) for item in self._sequence(node, field))}
            case "action":
                return {"action": one_of(node, list(Action))}
            case "enforcement":
                return {"enforcement": one_of(node, list(Enforcement))}
            case "raises":
                return {"raises": tuple(self._raises(node))}
            case _:
                return {field: text(node)}

    def _match(self, node: yaml.Node) -> dict[str, str]:
        values = {}
        for dimension, value in self._mapping(node, "match", DIMENSIONS).items():
            values[dimension] = text(value)
            if dimension == "key" and values[dimension].startswith("sk-"):
                hashed = sha256(values[dimension].encode()).hexdigest()
                self._tell(value, f"match.key holds a key in clear text; budgets know its hash: {hashed}")
        return values

    def _raises(self, node: yaml.Node) -> Iterator[dict[str, Any]]:
        for item in self._sequence(node, "raises"):
            fields = self._mapping(item, "a raise", ("amount_usd", "until"))
            if set(fields) == {"amount_usd", "until"}:
                yield {"amount_nanousd": money(fields["amount_usd"]), "until": time(fields["until"])}
            elif isinstance(item, yaml.MappingNode):
                self._tell(item, "a raise has amount_usd, and until: the time at which it ends")

    def _mapping(self, node: yaml.Node, what: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        """Its values by key; what is unknown or comes twice is told and left out, null is left out."""
        if not isinstance(node, yaml.MappingNode):
            self._tell(node, f"{what} is a mapping, such as `{known[0]}: …`")
            return {}
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in fields:
                self._tell(key, f"{name} is given twice; keep one")
            elif name not in known:
                self._tell(key, f"{what} has no field {name!r}; {nearest(name, known)}")
            elif value.tag != _NULL:
                fields[name] = value
        return fields

    def _sequence(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            items: list[yaml.Node] = node.value
            return items
        self._tell(node, f"{what} is a list, each item behind a dash")
        return []

    def _tell_of_record(
        self, error: ValidationError, node: yaml.Node, nodes: Mapping[str, yaml.Node]
    ) -> None:
        for found in error.errors(include_url=False):
            if found["type"] == "missing":
                continue
            record_name = str(found["loc"][0]) if found["loc"] else ""
            field = _IN_THE_FILE.get(record_name, record_name)
            message = found["msg"].removeprefix("Value error, ")
            self._tell(
                nodes.get(field, node), message if message.startswith(field) else f"{field}: {message}"
            )

    def _tell(self, node: yaml.Node, message: str) -> None:
        self.problems.append(Problem(_line(node), message))


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1
