"""Changes of a budget in force: what they change, what they leave, and what they refuse."""

import re
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from spendmeter.budgets.change import (
    InvalidChange,
    exception_for,
    raised,
    reset,
    with_fields,
    without_ended_raises,
)
from spendmeter.contract.budget import MAX_RAISES, Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.window import window_of
from spendmeter.values.dimensions import Dimension
from tests.builders import NOON, budget

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
MIDNIGHT = NOON.replace(hour=0)


def of_100(**fields: object) -> Budget:
    return budget(limit_nanousd=100, updated_by="ann", **fields)


def test_a_raise_adds_to_the_limit_and_ends_by_itself() -> None:
    after = raised(of_100(), NanoUsd(30), NOON + HOUR, NOON)

    assert [after.limit_at(NOON + n * HOUR) for n in (0, 1)] == [130, 100]
    assert after.limit_nanousd == 100


def test_raises_add_up_and_those_that_have_ended_go() -> None:
    first = raised(of_100(), NanoUsd(30), NOON + HOUR, NOON)
    second = raised(first, NanoUsd(5), NOON + 3 * HOUR, NOON + HOUR / 2)
    third = raised(second, NanoUsd(1), NOON + 4 * HOUR, NOON + HOUR)

    assert second.limit_at(NOON + HOUR / 2) == 135
    assert [r.amount_nanousd for r in third.raises] == [5, 1]
    assert without_ended_raises(third, NOON + 4 * HOUR).raises == ()
    assert without_ended_raises(third, NOON + HOUR) is third


def test_a_raise_ends_after_it_begins() -> None:
    assert len(raised(of_100(), NanoUsd(1), NOON + MICROSECOND, NOON).raises) == 1
    with pytest.raises(InvalidChange, match="has ended already; name a time to come"):
        raised(of_100(), NanoUsd(1), NOON, NOON)


def test_raises_are_bounded_and_ended_ones_make_room() -> None:
    many = of_100(raises=[{"amount_nanousd": 1, "until": NOON + HOUR}] * MAX_RAISES)

    with pytest.raises(InvalidChange, match="has 100 raises already; set its limit, or wait"):
        raised(many, NanoUsd(1), NOON + 2 * HOUR, NOON)
    assert len(raised(many, NanoUsd(1), NOON + 2 * HOUR, NOON + HOUR).raises) == 1


def test_a_raise_that_can_not_be_held_is_refused() -> None:
    with pytest.raises(ValidationError, match="beyond the largest amount"):
        raised(of_100(), NanoUsd(10**18 - 100), NOON + HOUR, NOON)


def test_a_reset_begins_a_window_now_or_at_an_earlier_moment_of_the_period() -> None:
    for at in (NOON, NOON - HOUR):
        window = window_of(reset(of_100(), at, NOON), NOON)
        assert window is not None
        assert window.start == at


def test_a_reset_can_be_taken_back_to_the_period_s_beginning() -> None:
    again = reset(reset(of_100(), NOON, NOON), MIDNIGHT, NOON)

    assert window_of(again, NOON) == window_of(of_100(), NOON)


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (NOON + MICROSECOND, "is to come; a reset is now or earlier"),
        (MIDNIGHT - MICROSECOND, "the present day of per-key began at 2026-11-22T00:00:00.000000Z"),
    ],
)
def test_a_reset_outside_the_present_period_is_refused(at: object, told: str) -> None:
    with pytest.raises(InvalidChange, match=told):
        reset(of_100(), at, NOON)  # type: ignore[arg-type]


def test_a_budget_that_has_not_begun_has_nothing_to_reset() -> None:
    with pytest.raises(InvalidChange, match="nothing to reset yet"):
        reset(of_100(starts_at=NOON + HOUR), NOON, NOON)


def test_a_change_leaves_the_rest_and_is_signed_by_whoever_writes_it() -> None:
    before = of_100(reset_at=NOON, raises=[{"amount_nanousd": 1, "until": NOON + HOUR}])
    after = with_fields(before, paused=True)

    assert after.paused
    assert after.updated_by == ""
    apart = {"paused", "updated_by"}
    assert after.model_dump(exclude=apart) == before.model_dump(exclude=apart)


HASH = "ab" * 32


def per_key(**fields: Any) -> Budget:
    return budget(id="key-day", match={"key": "*"}, **fields)


def test_an_exception_counts_as_its_budget_does_and_replaces_it_for_one_account() -> None:
    base = per_key(period="week:sunday", timezone="Asia/Tokyo", warn_at=(0.5,), unpriced="block", paused=True)
    base = raised(base, NanoUsd(5), NOON + timedelta(hours=1), NOON)

    made = exception_for(base, {"key": HASH}, NanoUsd(7), {base.id: base}, "laptop")

    assert made == base.model_copy(
        update={
            "id": "key-day:laptop",
            "match": {"key": HASH},
            "limit_nanousd": 7,
            "raises": (),
            "replaces": "key-day",
            "updated_by": "",
        }
    )


def test_an_exception_that_is_in_force_gets_the_limit_and_keeps_the_rest() -> None:
    vip = budget(id="vip", match={"key": HASH}, replaces="key-day", action="warn")

    made = exception_for(per_key(), {"key": HASH}, NanoUsd(7), {"vip": vip}, "laptop")

    assert made == vip.model_copy(update={"limit_nanousd": 7})


def test_an_exception_may_leave_other_dimensions_open() -> None:
    base = budget(id="both", match={"key": "*", "model_group": "*", "team": "red"})

    made = exception_for(base, {"key": HASH}, NanoUsd(7), {base.id: base})

    assert made.match == {"key": HASH, "model_group": "*", "team": "red"}


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("ann b", "key-day:ann-b"),
        ("taken", "key-day:taken-[0-9a-f]{8}"),
        ("日本 💥", "key-day:[0-9a-f]{8}"),
        ("x" * 300, "key-day:x{60}"),
        ("", f"key-day:{HASH[:60]}"),
    ],
)
def test_the_id_of_an_exception_has_the_accounts_name(name: str, id_: str) -> None:
    in_force = {"key-day:taken": budget(id="key-day:taken", match={})}

    made = exception_for(per_key(), {"key": HASH}, NanoUsd(7), in_force, name)

    assert re.fullmatch(id_, made.id)
    assert made == exception_for(per_key(), {"key": HASH}, NanoUsd(7), in_force, name)


@pytest.mark.parametrize(
    ("match", "account", "said"),
    [
        ({"key": "*"}, {"team": "red"}, "has no accounts by team; it has them by key"),
        ({}, {"team": "red"}, "it has them by nothing"),
        ({"key": "*"}, {"key": "*"}, "every account; name one"),
        ({"team": "red", "key": "*"}, {"team": "blue"}, "only of team=red; blue is in none of its accounts"),
        ({"team": "red"}, {"team": "red"}, "of that account alone; set its own limit"),
    ],
)
def test_an_account_that_a_budget_does_not_have_gets_no_exception(
    match: dict[str, str], account: dict[Dimension, str], said: str
) -> None:
    with pytest.raises(InvalidChange, match=re.escape(said)):
        exception_for(budget(match=match), account, NanoUsd(7), {})
