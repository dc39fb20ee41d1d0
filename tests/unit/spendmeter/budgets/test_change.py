"""Changes of a budget in force: what they change, what they leave, and what they refuse."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from spendmeter.budgets.change import InvalidChange, raised, reset, with_fields, without_ended_raises
from spendmeter.contract.budget import MAX_RAISES, Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.window import window_of
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
