"""How refusals are classed, at the boundaries: what was spent, running and asked for, against the limit."""

import pytest

from bench.admission.verdict import KeyResult, Refusal, cell_of
from bench.admission.workload import MAX_IN, MAX_OUT, MIN_IN, MIN_OUT, Ask, asks

LIMIT = 100


def classed(*refusals: Refusal) -> tuple[int, int, int, int, int]:
    cell = cell_of("us", 1, False, [KeyResult(LIMIT, refusals=list(refusals))])
    return (
        cell.refused,
        cell.below_limit,
        cell.would_fit,
        cell.would_fit_beside_running,
        cell.no_room,
    )


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (Refusal(100, 0, 1, 1), (1, 0, 0, 0, 0)),
        (Refusal(99, 0, 2, 1), (1, 1, 0, 0, 0)),
        (Refusal(99, 0, 2, 2), (1, 1, 0, 0, 1)),
        (Refusal(99, 0, 1, 1), (1, 1, 1, 1, 0)),
        (Refusal(90, 5, 6, 5), (1, 1, 1, 0, 0)),
        (Refusal(90, 5, 6, 6), (1, 1, 1, 0, 1)),
        (Refusal(90, 5, 5, 1), (1, 1, 1, 1, 0)),
    ],
)
def test_a_refusal_is_classed_by_what_was_true_when_it_came(
    refusal: Refusal, expected: tuple[int, int, int, int, int]
) -> None:
    assert classed(refusal) == expected


def test_a_row_tells_the_worst_key_and_the_mean() -> None:
    keys = [KeyResult(LIMIT, served=3, spent_nanousd=spent) for spent in (90, 100, 130)]
    cell = cell_of("us", 8, True, keys)

    assert (cell.served, cell.overspend_max_nanousd) == (9, 30)
    assert cell.overspend_max_percent == pytest.approx(30)
    assert cell.overspend_mean_percent == pytest.approx(10)
    assert cell.spent_mean_percent == pytest.approx(320 / 3)


def test_every_contender_is_asked_the_same_and_what_is_stated() -> None:
    first, again, other = (asks(1, key, 0) for key in (5, 5, 6))
    some = [next(first) for _ in range(200)]

    assert some == [next(again) for _ in range(200)]
    assert some != [next(other) for _ in range(200)]
    assert all(MIN_IN <= one.input_tokens <= MAX_IN for one in some)
    assert all(MIN_OUT <= one.output_tokens <= MAX_OUT for one in some)


def test_the_text_has_at_least_the_tokens_that_are_billed() -> None:
    content = Ask(400, 10).body(1, max_tokens=False, delay_ms=50)["messages"][0]["content"]

    assert len(content.split()) >= 360, "and a directive and a frame of more than 40 tokens"
