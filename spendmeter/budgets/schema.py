"""The JSON Schema of a budget file, made from the model of the budget; for editors. Pure."""

from typing import Any

from spendmeter.budgets.file import FIELDS, REQUIRED
from spendmeter.contract.budget import Budget
from spendmeter.files.yaml import EXTENSION
from spendmeter.values.period import WEEKDAYS

# As many digits as history holds. Text or number: the reader takes either exactly as it is written.
_USD = {
    "anyOf": [
        {"type": "string", "pattern": r"^\d{1,9}(\.\d{1,9})?$"},
        {"type": "number", "exclusiveMinimum": 0},
    ]
}
_DAYS = "|".join(WEEKDAYS)
_PERIOD = rf"^(hour|day|week(:({_DAYS}))?|month(:([1-9]|[12]\d|3[01]))?|year|lifetime|P[0-9WDTHMS]+)$"


def budget_file_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12. What it lets through, `apply` may still refuse, with the reason."""
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
    """Without what only repeats the field's own name."""
    return {name: value for name, value in field.items() if name != "title"}
