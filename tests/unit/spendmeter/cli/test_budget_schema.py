"""The JSON Schema of a budget file: current, and of one mind with the reader where it can be."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import spendmeter
from spendmeter.budgets.file import InvalidBudgetFile, budget_file_schema, read_budgets
from spendmeter.cli.main import main
from tests.builders import NOON

CHECKED_IN = Path(spendmeter.__file__).with_name("budgets") / "budgets.schema.json"
GOOD = {"id": "a", "match": {"key": "*"}, "limit_usd": "1", "period": "day"}


def problems(written: str) -> list[Any]:
    """What the schema finds wrong."""
    data = yaml.safe_load(written)
    validator = import_module("jsonschema").Draft202012Validator
    return list(validator(json.loads(CHECKED_IN.read_text("utf-8"))).iter_errors(data))


def file_of(**changed: Any) -> str:
    return json.dumps({"budgets": [{k: v for k, v in {**GOOD, **changed}.items() if v is not None}]})


def test_the_schema_that_is_checked_in_is_todays() -> None:
    """If not: `spendmeter budget schema > spendmeter/budgets/budgets.schema.json`."""
    assert json.loads(CHECKED_IN.read_text("utf-8")) == budget_file_schema()


def test_the_command_prints_it() -> None:
    assert CliRunner().invoke(main, ["budget", "schema"]).output == CHECKED_IN.read_text("utf-8")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"match": {}},
        {"match": {"team": "red", "user": "*", "model": "gpt-4*"}},
        {"limit_usd": "0.000000001"},
        {"limit_usd": 0.5},
        {"warn_at": [0.5, 0.9], "paused": True},
        {"period": "week:sunday"},
        {"period": "month:31"},
        {"period": "P14D", "starts_at": "2026-11-01T00:00:00+01:00"},
        {"raises": [{"amount_usd": "5", "until": "2026-12-01T00:00:00Z"}]},
        {"action": "warn", "enforcement": "strict", "unpriced": "0.01", "replaces": "b"},
    ],
)
def test_what_the_reader_takes_the_schema_takes(changed: dict[str, Any]) -> None:
    written = file_of(**changed)

    assert len(read_budgets(written, "b.yaml", NOON)) == 1
    assert problems(written) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"id": None},
        {"perod": "day"},
        {"match": {"kye": "*"}},
        {"match": {"key": ""}},
        {"match": ["key"]},
        {"limit_usd": "-1"},
        {"limit_usd": "1000000000"},
        {"limit_usd": "0.0000000001"},
        {"period": "fortnight"},
        {"paused": "maybe"},
        {"period": "month:32"},
        {"action": "blok"},
        {"enforcement": "hard"},
        {"raises": [{"amount_usd": "1"}]},
    ],
)
def test_what_the_schema_refuses_the_reader_refuses(changed: dict[str, Any]) -> None:
    written = file_of(**changed)

    assert problems(written) != []
    with pytest.raises(InvalidBudgetFile):
        read_budgets(written, "b.yaml", NOON)
