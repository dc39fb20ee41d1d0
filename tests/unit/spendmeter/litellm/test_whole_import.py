"""The import and the take-over: what is done here, what is asked of LiteLLM, and that both can be undone."""

from typing import Any

import pytest

from spendmeter.contract.budget import Budget
from spendmeter.litellm.budgets import ADOPTED_BY
from spendmeter.litellm.rows import Owned, key_of, tabled, team_of, user_of
from spendmeter.litellm.whole_import import IMPORTED_BY, Item, Wish, import_of, whole_plan
from tests.builders import NOON

KEY: dict[str, Any] = {
    "token": "h",
    "key_alias": "vip",
    "max_budget": 2.0,
    "budget_duration": "1d",
    "budget_limits": [{"budget_duration": "1h", "max_budget": 0.3}],
    "metadata": {"cost_center": 7},
    "budget_id": "b1",
    "spend": 0.25,
}
TEAM: dict[str, Any] = {"team_id": "red", "max_budget": 5.0, "metadata": None, "spend": 1.0}
USER: dict[str, Any] = {"user_id": "ann", "max_budget": 3.0, "teams": [], "metadata": {}}
TAG: dict[str, Any] = {"name": "t", "litellm_budget_table": {"budget_id": "b2", "max_budget": 0.6}}


def rows(**changed: dict[str, Any]) -> list[Owned]:
    """One of each kind, as LiteLLM has it, with these fields changed."""
    return [
        key_of({**KEY, **changed.get("key", {})}, {"b1": {"soft_budget": 1.0}}, "UTC"),
        team_of({**TEAM, **changed.get("team", {})}, "UTC"),
        user_of({**USER, **changed.get("user", {})}, "UTC", users_pay_for_teams=False),
        tabled("tag", ("t",), {**TAG, **changed.get("tag", {})}, {}, "UTC"),
    ]


def carried_out(items: list[Item], in_force: dict[str, Budget]) -> dict[str, Budget]:
    """What is in force afterwards."""
    plan = whole_plan(items)
    left = {i: b for i, b in in_force.items() if b not in plan.removed}
    written = [b.model_copy(update={"updated_by": b.updated_by or IMPORTED_BY}) for b in plan.writes]
    return left | {budget.id: budget for budget in written}


def done(wish: Wish, found: list[Owned], in_force: dict[str, Budget] | None = None) -> dict[str, Budget]:
    return carried_out(import_of(found, in_force or {}, wish, NOON), in_force or {})


IDS = ["litellm:key:h", "litellm:key:h:window:1h", "litellm:tag:t", "litellm:team:red", "litellm:user:ann"]


def test_every_object_with_a_limit_becomes_a_budget_and_once_only() -> None:
    first = done("budgets", rows())

    assert sorted(first) == IDS
    assert first["litellm:key:h"].warn_at == (0.5,)
    again = import_of(rows(), first, "budgets", NOON)
    assert all(item.is_nothing for item in again)


def test_what_litellm_no_longer_has_goes() -> None:
    first = done("budgets", rows())

    after = done("budgets", rows(team={"max_budget": None}), first)

    assert sorted(set(first) - set(after)) == ["litellm:team:red"]


def test_taking_over_keeps_the_limits_where_they_can_be_found_again() -> None:
    calls = [item.call for item in import_of(rows(), {}, "take over", NOON)]

    assert [tuple(call) if call else None for call in calls] == [
        (
            "/key/update",
            {
                "key": "h",
                "max_budget": None,
                "budget_limits": None,
                "metadata": {
                    "cost_center": 7,
                    "spendmeter_taken_over": {"max_budget": 2.0, "budget_limits": KEY["budget_limits"]},
                },
            },
        ),
        (
            "/team/update",
            {
                "team_id": "red",
                "max_budget": None,
                "metadata": {"spendmeter_taken_over": {"max_budget": 5.0}},
            },
        ),
        (
            "/user/update",
            {
                "user_id": "ann",
                "max_budget": None,
                "metadata": {"spendmeter_taken_over": {"max_budget": 3.0}},
            },
        ),
        ("/budget/update", {"budget_id": "b2", "max_budget": None}),
    ]


def taken_over() -> list[Owned]:
    """The rows as LiteLLM has them then."""
    changed: dict[str, dict[str, Any]] = {
        "tag": {"litellm_budget_table": {"budget_id": "b2", "max_budget": None}}
    }
    for item in import_of(rows(), {}, "take over", NOON):
        if item.call and item.owned.metadata is not None:
            changed[item.owned.seen.kind] = item.call.body
    return rows(**changed)


@pytest.mark.parametrize("by", [ADOPTED_BY, IMPORTED_BY, "ann"])
def test_what_was_taken_over_is_in_force_ever_after(by: str) -> None:
    before = {i: b.model_copy(update={"updated_by": by}) for i, b in done("budgets", rows()).items()}

    after = done("take over", rows(), before)
    later = done("budgets", taken_over(), after)
    again = import_of(taken_over(), later, "take over", NOON)

    assert sorted(later) == IDS
    assert {i: b.limit_nanousd for i, b in later.items()} == {i: b.limit_nanousd for i, b in before.items()}
    assert all(item.is_nothing for item in again)


def test_undoing_puts_back_what_was_there_and_keeps_our_budgets() -> None:
    in_force = done("take over", rows())

    items = import_of(taken_over(), in_force, "undo", NOON)

    assert carried_out(items, in_force) == in_force
    put_back: dict[str, dict[str, Any]] = {}
    for item in items:
        assert item.call is not None
        put_back[item.owned.seen.kind] = item.call.body
    assert put_back["key"]["max_budget"] == 2.0
    assert put_back["key"]["budget_limits"] == KEY["budget_limits"]
    assert put_back["key"]["metadata"] == {"cost_center": 7}
    assert put_back["team"] == {"team_id": "red", "max_budget": 5.0, "metadata": {}}
    assert put_back["user"] == {
        "user_id": "ann",
        "max_budget": 3.0,
        "metadata": {"spendmeter_taken_over": {}},
    }
    assert put_back["tag"] == {"budget_id": "b2", "max_budget": 0.6}
    assert import_of(rows(), in_force, "undo", NOON)[0].call is None, "nothing was moved"


def test_a_limit_set_anew_after_the_take_over_is_neither_overwritten_nor_lost() -> None:
    key = taken_over()[0]
    anew = key._replace(seen=key.seen._replace(max_budget=9.0))

    (undone,) = import_of([anew], done("take over", rows()), "undo", NOON)
    (again,) = import_of([anew], {}, "take over", NOON)

    assert undone.call is not None
    assert "max_budget" not in undone.call.body
    assert again.call is not None
    assert again.call.body["metadata"]["spendmeter_taken_over"]["max_budget"] == 9.0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"key": {"budget_duration": "banana"}}, "banana"),
        ({"key": {"metadata": {"spendmeter_budget": {"limit_usd": 0}}}}, "spendmeter_budget"),
        ({"user": {"teams": ["red"]}}, "through teams"),
    ],
)
def test_what_cannot_be_taken_in_keeps_its_limit_in_litellm(changed: Any, told: str) -> None:
    items = [item for item in import_of(rows(**changed), {}, "take over", NOON) if item.problems]

    (item,) = items
    assert told in item.problems[0]
    assert item.call is None
