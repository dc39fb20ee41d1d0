"""One list of dimensions: what is added in one place only is missing here."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from spendmeter.contract.usage import UsageEvent
from spendmeter.domain import budget_index as shelves
from spendmeter.domain.matching import BudgetBook, Subject, subject_of
from spendmeter.history import correction
from spendmeter.history import usage as spend_by
from spendmeter.values.dimensions import CLIENT_MADE, DIMENSIONS, FIELDS, Dimension, field_of
from spendmeter_gateway.admission import refusal
from spendmeter_gateway.litellm.request.caller import caller_of, request_fields, who_asks
from spendmeter_gateway.model import Caller
from spendmeter_sinks.clickhouse import tables
from tests.builders import budget, usage

ROOT = Path(__file__).parents[4]
BUDGETS = (ROOT / "docs/budgets.md").read_text(encoding="utf-8")
# Known once a deployment was chosen, which adds them to what was admitted.
AFTER_ROUTING = ("model", "provider")


def test_a_subject_has_the_dimensions_and_nothing_else() -> None:
    assert Subject._fields == FIELDS


def test_an_event_has_a_field_for_each_dimension() -> None:
    assert set(FIELDS) <= set(UsageEvent.model_fields)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_what_an_event_carries_is_judged_and_counted(dimension: Dimension) -> None:
    fields: dict[str, Any] = {field_of(dimension): ("v",) if dimension == "tag" else "v"}
    event = usage(**fields)
    accounts = BudgetBook([budget(match={dimension: "v"})]).accounts_of(subject_of(event))

    assert [account.budget.match for account in accounts] == [{dimension: "v"}]


def test_admission_knows_each_dimension_of_a_request_that_was_not_routed_yet() -> None:
    auth = {
        "api_key": "k" * 64,
        **{f"{name}_id": name for name in ("user", "team", "org", "project", "end_user")},
    }
    body = {"model": "group", "metadata": {"tags": ["t"], "session_id": "s"}, "litellm_session_id": "s"}
    caller: Caller = caller_of(who_asks(auth, "gateway"), request_fields(body, ()))

    unknown = {dimension for dimension in DIMENSIONS if not caller.subject.values(dimension)}

    assert unknown == set(AFTER_ROUTING)


def test_history_has_a_column_for_each() -> None:
    assert set(FIELDS) <= set(tables.USAGE.columns)


def test_a_call_is_charged_along_each_that_was_known_before_it_was_routed() -> None:
    of_routing_and_gateway = {*AFTER_ROUTING, "model_group", "gateway"}
    assert set(Caller(Subject(), "").event_fields) >= set(FIELDS) - of_routing_and_gateway


def test_a_refusal_has_a_label_for_each() -> None:
    assert set(refusal._LABELS) == set(DIMENSIONS)


def test_budgets_can_be_looked_up_by_each() -> None:
    assert sorted(shelves._MOST_SELECTIVE_FIRST) == sorted(DIMENSIONS)


def test_a_correction_has_each_of_its_original() -> None:
    assert set(FIELDS) <= set(correction._KEPT)


def test_spend_can_be_shown_by_each() -> None:
    assert tuple(spend_by.DIMENSIONS) == DIMENSIONS


def test_the_page_on_budgets_says_who_sets_each() -> None:
    section = BUDGETS.partition("## Who sets a dimension\n")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (`[a-z_`, ]+) \|.*?\| (.*?) \|$", section)
    words = {name: word for names, word in rows for name in re.findall(r"`([a-z_]+)`", names)}

    assert sorted(words) == sorted(DIMENSIONS)
    assert {name for name, word in words.items() if "can invent" in word} == CLIENT_MADE


def test_no_module_spells_the_list_out_a_second_time() -> None:
    """Half of the names in one literal is a list that will be forgotten."""
    allowed = {"values/dimensions.py", "domain/budget_index.py"}
    found = []
    for package in ("spendmeter", "producers", "stream", "sinks", "deploy"):
        for path in (ROOT / package).glob("**/*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                elements = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else []
                names = node.keys if isinstance(node, ast.Dict) else elements
                said = {str(n.value) for n in names if isinstance(n, ast.Constant)} & set(DIMENSIONS)
                if len(said) > len(DIMENSIONS) // 2 and not any(str(path).endswith(a) for a in allowed):
                    found.append((str(path.relative_to(ROOT)), sorted(said)))

    # LiteLLM's names for them; and columns, labels and charges, which are held to the list above.
    others = {
        "spendmeter/litellm/entities.py",
        "producers/spendmeter_gateway/model.py",
        "producers/spendmeter_gateway/admission/refusal.py",
        "sinks/spendmeter_sinks/alerts/payloads.py",
        "sinks/spendmeter_sinks/clickhouse/tables.py",
    }
    assert {path for path, _ in found} <= others, found
