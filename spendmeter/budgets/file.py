"""Reads budget files in YAML, or reports every problem with its line and its fix. Pure.

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

from spendmeter.contract.budget import ANY, GLOBBED, MAX_RAISES, MAX_THRESHOLDS, Action, Budget, Enforcement
from spendmeter.files.scalars import Wrong, fraction, money, one_of, text, time
from spendmeter.files.yaml import EXTENSION, InvalidFile, Problem, YamlReader, line_of
from spendmeter.values.dimensions import DIMENSIONS
from spendmeter.values.period import NAMED_PERIODS, WEEKDAYS

REQUIRED = {
    "id": "a name of your choice, such as key-day",
    "match": 'what is added up, such as {key: "*"} for one account per key, or {} for everything',
    "limit_usd": 'an amount in USD, such as "0.50"',
    "period": f"one of {', '.join(NAMED_PERIODS)}, week:sunday, month:15, or an ISO 8601 duration",
}
FIELDS = (
    *REQUIRED,
    "timezone",
    "starts_at",
    "warn_at",
    "action",
    "enforcement",
    "unpriced",
    "raises",
    "paused",
    "replaces",
)
# Fields of the record that have another name in the file.
_IN_THE_FILE = {"limit_nanousd": "limit_usd"}


class InvalidBudgetFile(InvalidFile):
    """The file cannot be applied, and none of it was."""


class BudgetFile(NamedTuple):
    """The budgets of a file, and the line of each of their fields."""

    name: str
    budgets: list[Budget]
    lines: dict[str, dict[str, int]]
    """By id, then by field; "" is the budget itself."""

    def invalid(self, wrong: Mapping[str, str], field: str) -> InvalidBudgetFile:
        """Problems with a field of some budgets, given by id, with their lines."""
        return InvalidBudgetFile(
            self.name,
            [Problem(self.lines[i].get(field, self.lines[i][""]), message) for i, message in wrong.items()],
        )


def read_budgets(written: str, name: str, now: datetime) -> list[Budget]:
    """The budgets of a file. `name` is the file's name in messages; `now` stamps the records.

    Raises:
        InvalidBudgetFile: anything is wrong with any of them.
    """
    return read_budget_file(written, name, now).budgets


def read_budget_file(written: str, name: str, now: datetime) -> BudgetFile:
    """Like `read_budgets`, with the lines."""
    reader = _Reader(now)
    budgets = list(reader.budgets(written))
    if reader.problems:
        raise InvalidBudgetFile(name, reader.problems)
    return BudgetFile(name, budgets, reader.lines)


def wrong_values(dimension: str, value: str) -> Iterator[str]:
    """What is wrong with a value that somebody wrote into a match, beyond what the record checks."""
    if value != ANY and ANY in value and dimension not in GLOBBED:
        yield f"match.{dimension} allows no pattern, only {' and '.join(GLOBBED)} do"
    if dimension == "key" and value.startswith("sk-"):
        hashed = sha256(value.encode()).hexdigest()
        yield f"match.key holds a key in clear text; budgets know its hash: {hashed}"


class _Reader(YamlReader):
    def __init__(self, now: datetime) -> None:
        super().__init__()
        self._now = now
        self.lines: dict[str, dict[str, int]] = {}

    def budgets(self, written: str) -> Iterator[Budget]:
        for node in self.items(written, "budgets"):
            budget = self._budget(node)
            if budget is None:
                continue
            if budget.id in self.lines:
                first = self.lines[budget.id][""]
                self.report(node, f"id {budget.id!r} is in line {first} already; give each its own")
            else:
                nodes = self.mapping(node, "a budget", FIELDS)
                fields = {field: line_of(value) for field, value in nodes.items()}
                self.lines[budget.id] = {"": line_of(node), **fields}
            yield budget

    def _budget(self, node: yaml.Node) -> Budget | None:
        nodes = self.mapping(node, "a budget", FIELDS)
        if not isinstance(node, yaml.MappingNode):
            return None
        values: dict[str, Any] = {"updated_at": self._now}
        for field, value in nodes.items():
            try:
                values |= self._value(field, value)
            except Wrong as wrong:
                self.report(value, f"{field}: {wrong}")
        for field, hint in REQUIRED.items():
            if field not in nodes:
                self.report(node, f"{field} is missing: {hint}")
        try:
            return Budget.model_validate(values)
        except ValidationError as error:
            self._report_record(error, node, nodes)
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
                # One more than allowed, so that the record reports it.
                items = self.sequence(node, field)[: MAX_THRESHOLDS + 1]
                return {"warn_at": tuple(fraction(item) for item in items)}
            case "action":
                return {"action": one_of(node, list(Action))}
            case "enforcement":
                return {"enforcement": one_of(node, list(Enforcement))}
            case "paused":
                return {"paused": one_of(node, ["true", "false"]) == "true"}
            case "raises":
                return {"raises": tuple(self._raises(node))}
            case _:
                return {field: text(node)}

    def _match(self, node: yaml.Node) -> dict[str, str]:
        values = {}
        for dimension, value in self.mapping(node, "match", DIMENSIONS).items():
            values[dimension] = text(value)
            for wrong in wrong_values(dimension, values[dimension]):
                self.report(value, wrong)
        return values

    def _raises(self, node: yaml.Node) -> Iterator[dict[str, Any]]:
        for item in self.sequence(node, "raises")[: MAX_RAISES + 1]:
            fields = self.mapping(item, "a raise", ("amount_usd", "until"))
            if set(fields) == {"amount_usd", "until"}:
                yield {"amount_nanousd": money(fields["amount_usd"]), "until": time(fields["until"])}
            elif isinstance(item, yaml.MappingNode):
                self.report(item, "a raise has amount_usd, and until: the time at which it ends")

    def _report_record(self, error: ValidationError, node: yaml.Node, nodes: Mapping[str, yaml.Node]) -> None:
        for found in error.errors(include_url=False):
            if found["type"] == "missing":
                continue
            message = found["msg"].removeprefix("Value error, ")
            # A problem of several fields together names the one to correct first.
            record_name = str(found["loc"][0]) if found["loc"] else message.split(maxsplit=1)[0].rstrip(":")
            field = _IN_THE_FILE.get(record_name, record_name)
            self.report(
                nodes.get(field, node), message if message.startswith(field) else f"{field}: {message}"
            )


# As many digits as history holds. Text or number: the reader reads either exactly as written.
_USD = {
    "anyOf": [
        {"type": "string", "pattern": r"^\d{1,9}(\.\d{1,9})?$"},
        {"type": "number", "exclusiveMinimum": 0},
    ]
}
_DAYS = "|".join(WEEKDAYS)
_PERIOD = rf"^(hour|day|week(:({_DAYS}))?|month(:([1-9]|[12]\d|3[01]))?|year|lifetime|P[0-9WDTHMS]+)$"


def budget_file_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12. `apply` may still refuse what it allows, and says why."""
    model = Budget.model_json_schema()
    fields = dict(model["properties"])
    fields["limit_usd"] = {**_USD, "description": "What may be spent in one window, in USD."}
    fields["period"] = {
        "type": "string",
        "pattern": _PERIOD,
        "description": "hour, day, week (week:sunday), month (month:15), year, lifetime, or ISO 8601",
    }
    fields["raises"] = {**fields["raises"], "items": _raise()}
    fields["match"] = {
        "type": "object",
        "description": 'Dimension to value, or to "*" for one account per value; {} is everything.',
        "additionalProperties": False,
        "properties": {
            dimension: {"type": "string", "minLength": 1}
            for dimension in model["properties"]["match"]["propertyNames"]["enum"]
        },
    }
    budget = {
        "type": "object",
        "additionalProperties": False,
        "required": list(REQUIRED),
        "properties": {field: _plain(fields[field]) for field in FIELDS},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "spendmeter budgets",
        "type": "object",
        "additionalProperties": False,
        "required": ["budgets"],
        "properties": {"budgets": {"type": "array", "items": budget}},
        "patternProperties": {f"^{EXTENSION}": {}},
        "$defs": {name: made for name, made in model["$defs"].items() if name != "Raise"},
    }


def _raise() -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["amount_usd", "until"],
        "properties": {"amount_usd": _USD, "until": {"type": "string", "format": "date-time"}},
    }


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    """The schema without titles that only repeat the field's name."""
    return {name: value for name, value in field.items() if name != "title"}
