"""The plan: every budget is in one of its parts, and only what differs is written."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from spendmeter.budgets.plan import Change, Difference, differences, plan, wrong_replaces
from spendmeter.contract.budget import Budget
from tests.builders import NOON, budget

HOUR = timedelta(hours=1)
RAISE = {"amount_nanousd": 5, "until": NOON + HOUR}


def by_id(*budgets: Budget) -> dict[str, Budget]:
    return {one.id: one for one in budgets}


def ids(budgets: Iterable[Budget]) -> list[str]:
    return [one.id for one in budgets]


def planned(existing: Budget, **wanted: Any) -> Budget | None:
    """What becomes of the budget in force, None when nothing does."""
    made = plan(by_id(existing), [budget(**wanted)], NOON)
    return made.changed[0].after if made.changed else None


def test_each_budget_is_created_changed_removed_left_or_unchanged() -> None:
    existing = by_id(
        *(budget(id=i, revision=4) for i in ("same", "other", "gone", "key:ann", "litellm:team:1"))
    )
    wanted = [budget(id="same"), budget(id="other", limit_nanousd=7), budget(id="new")]

    kept = plan(existing, wanted, NOON)
    pruned = plan(existing, wanted, NOON, prune=True)

    assert ids(kept.created) == ids(pruned.created) == ["new"]
    assert [c.after.id for c in kept.changed] == ["other"]
    assert ids(kept.unchanged) == ["same"]
    assert (ids(kept.removed), ids(kept.left)) == ([], ["gone", "key:ann", "litellm:team:1"])
    assert (ids(pruned.removed), ids(pruned.left)) == (["gone"], ["key:ann", "litellm:team:1"])
    assert ids(pruned.writes) == ["new", "other"]


def test_what_people_change_meanwhile_stays_where_it_is_not_named() -> None:
    running = budget(reset_at=NOON, raises=[RAISE], paused=True)
    assert planned(running) is None

    after = planned(running, limit_nanousd=7)

    assert after is not None
    assert (after.reset_at, len(after.raises), after.paused, after.limit_nanousd) == (NOON, 1, True, 7)


@pytest.mark.parametrize("named", [{"raises": []}, {"paused": False}, {"raises": [RAISE, RAISE]}])
def test_what_is_named_is_as_named(named: dict[str, Any]) -> None:
    after = planned(budget(reset_at=NOON, raises=[RAISE], paused=True), **named)

    assert after is not None
    assert {field: after.model_dump()[field] for field in named} == budget(**named).model_dump(
        include=set(named)
    )
    assert after.reset_at == NOON


def test_a_raise_that_has_ended_makes_no_difference() -> None:
    ended = {"amount_nanousd": 5, "until": NOON}

    assert planned(budget(), raises=[ended]) is None
    assert planned(budget(raises=[ended]), raises=[]) is None
    assert plan({}, [budget(raises=[ended, RAISE])], NOON).created[0].raises == budget(raises=[RAISE]).raises


def test_a_change_is_told_field_by_field_as_people_write_it() -> None:
    before = budget(warn_at=(0.5,), raises=[RAISE], updated_by="ann")
    after = budget(
        limit_nanousd=2_000_000_001, match={"team": "red", "key": "*"}, period="week:sunday", paused=True
    )

    assert differences(Change(before, after)) == [
        Difference("match", "key=*", "key=*, team=red"),
        Difference("limit_usd", "0.001", "2.000000001"),
        Difference("period", "day", "week:sunday"),
        Difference("warn_at", "0.5", "0.8"),
        Difference("raises", "0.000000005 until 2026-11-22T13:00:00.000000Z", "none"),
        Difference("paused", "no", "yes"),
    ]


def test_whoever_replaces_nobody_is_told() -> None:
    lonely = budget(id="vip", replaces="all")

    assert list(wrong_replaces([lonely], by_id(lonely))) == ["vip"]
    assert "no budget 'all'; name one" in wrong_replaces([lonely], by_id(lonely))["vip"]
    assert wrong_replaces([lonely], by_id(lonely, budget(id="all"))) == {}


def test_a_circle_is_told_with_its_way() -> None:
    a, b, c = (budget(id=i, replaces=r) for i, r in (("a", "b"), ("b", "c"), ("c", "a")))
    beside = budget(id="d", replaces="a")

    found = wrong_replaces([a, beside], by_id(a, b, c, beside))

    assert found == {"a": "replaces goes round: a → b → c → a; leave replaces out of one of them"}
