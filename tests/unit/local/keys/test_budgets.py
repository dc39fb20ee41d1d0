"""What a key's max_budget becomes."""

import pytest

from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import BudgetBook
from spendmeter_local.keys.ledger import account_of, budget_of
from spendmeter_local.keys.store import KeyRow
from tests.builders import NOON, budget

TOKEN = "a" * 64
LIMIT = NanoUsd(1_000_000)


def row(**fields: object) -> KeyRow:
    defaults = {"token": TOKEN, "key_name": "sk-...cdef", "created_at": NOON, "updated_at": NOON}
    return KeyRow.model_validate(defaults | fields)


def test_the_budget_counts_this_key_alone() -> None:
    made = budget_of(row(key_alias="alice", budget_duration="1d"), LIMIT, BudgetBook(), NOON)

    assert (made.id, made.match, made.limit_nanousd, made.period) == (
        "key:alice",
        {"key": TOKEN},
        LIMIT,
        "day",
    )


@pytest.mark.parametrize("alias", [None, "two words", "ünïcode", "50%", "", "x" * 191])
def test_an_alias_that_cannot_stand_in_an_id_gives_way_to_the_hash(alias: str | None) -> None:
    made = budget_of(row(key_alias=alias), LIMIT, BudgetBook(), NOON)

    assert made.id == f"key:{TOKEN[:12]}"


def test_somebody_elses_budget_of_that_name_is_left_alone() -> None:
    book = BudgetBook([budget(id="key:alice", match={"team": "alice"})])

    assert budget_of(row(key_alias="alice"), LIMIT, book, NOON).id == f"key:{TOKEN[:12]}"


def test_a_renamed_key_keeps_its_budget() -> None:
    renamed = row(key_alias="bob", budget_id="key:alice")

    assert budget_of(renamed, LIMIT, BudgetBook(), NOON).id == "key:alice"
    assert account_of(renamed) == f"key:alice|key={TOKEN}"
