"""What an object that LiteLLM shows changes of the budgets in force: its own, and only where they differ."""

from datetime import timedelta
from typing import Any

import pytest

from spendmeter.budgets.plan import BudgetPlan
from spendmeter.contract.budget import Budget, Raise
from spendmeter.contract.money import from_usd
from spendmeter.litellm.budgets import ADOPTED_BY, Adopt, adopted, changes, is_nothing
from spendmeter.litellm.entities import LitellmEntity
from tests.builders import NOON

LATER = NOON + timedelta(days=1)


def made(seen: LitellmEntity, in_force: list[Budget], adopt: Adopt = "both") -> BudgetPlan:
    return changes(adopted(seen, adopt, LATER), in_force, LATER)


def in_force(seen: LitellmEntity, **changed: Any) -> list[Budget]:
    return [
        budget.model_copy(update={"revision": 7, "updated_by": ADOPTED_BY, **changed})
        for budget in adopted(seen, "both", NOON).budgets
    ]


TEAM = LitellmEntity("team", ("red",), max_budget=5, budget_duration="30d")


def test_what_is_in_force_as_it_should_be_is_not_written_again() -> None:
    assert is_nothing(made(TEAM, in_force(TEAM)))
    assert is_nothing(made(TEAM, in_force(TEAM, updated_by="another gateway")))
    assert [budget.id for budget in made(TEAM, []).created] == ["litellm:team:red"]


@pytest.mark.parametrize(
    ("changed", "field", "value"),
    [({"max_budget": 6}, "limit_nanousd", from_usd("6")), ({"budget_duration": "1d"}, "period", "day")],
)
def test_what_was_changed_in_litellm_is_changed(changed: dict[str, Any], field: str, value: Any) -> None:
    ((before, after),) = made(TEAM._replace(**changed), in_force(TEAM)).changed

    assert getattr(after, field) == value
    assert before.id == after.id == "litellm:team:red"


def test_what_people_did_here_stays() -> None:
    raised = Raise(amount_nanousd=from_usd("1"), until=LATER + timedelta(days=1))
    mine = {"raises": (raised,), "reset_at": NOON, "paused": True}

    assert is_nothing(made(TEAM, in_force(TEAM, **mine)))
    ((_, after),) = made(TEAM._replace(max_budget=6), in_force(TEAM, **mine)).changed
    assert (after.raises, after.reset_at, after.paused) == ((raised,), NOON, True)


def test_what_litellm_no_longer_limits_goes_with_all_its_windows() -> None:
    had = TEAM._replace(budget_limits=[{"budget_duration": "1h", "max_budget": 1}])

    removed = made(TEAM._replace(max_budget=None), in_force(had)).removed

    assert [budget.id for budget in removed] == ["litellm:team:red", "litellm:team:red:window:1h"]


def test_what_cannot_be_seen_or_is_not_asked_for_stays() -> None:
    had = TEAM._replace(metadata_budget={"limit_usd": 1, "period": "day"})

    assert is_nothing(made(LitellmEntity("team", ("red",), shows_limits=False), in_force(TEAM)))
    assert [b.id for b in made(LitellmEntity("team", ("red",)), in_force(had), "native").removed] == [
        "litellm:team:red"
    ]
    gone = made(LitellmEntity("team", ("red",)), in_force(had), "metadata").removed
    assert [b.id for b in gone] == ["litellm:team:red:metadata"]


def test_a_mistake_leaves_in_force_what_is() -> None:
    had = TEAM._replace(metadata_budget={"limit_usd": 1, "period": "day"})
    wrong = had._replace(metadata_budget={"limit_usd": 0, "period": "day"})

    assert is_nothing(made(wrong, in_force(had)))


@pytest.mark.parametrize(
    ("kind", "names"), [("tag", ("t",)), ("end_user", ("c",)), ("member", ("red", "ann"))]
)
def test_where_litellm_can_keep_no_mark_only_what_was_adopted_goes(kind: Any, names: tuple[str, ...]) -> None:
    had = LitellmEntity(kind, names, max_budget=5)

    assert made(had._replace(max_budget=None), in_force(had)).removed
    assert is_nothing(made(had._replace(max_budget=None), in_force(had, updated_by="import")))
