"""Merging by offset: what history holds and what the stream counts meet without a gap, and never overlap."""

from typing import Any

import pytest

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.total import EARLIER
from spendmeter.domain.opening_balance import OpeningBalance
from spendmeter_stream.judge.merging import merge
from spendmeter_stream.state import TotalComponent
from tests.builders import NOON

BEFORE = {0: 10, 1: 5}


def part(first: int, last: int, spent: int) -> TotalComponent:
    return TotalComponent(last, NanoUsd(spent), 1, first, "a")


def history(spent: int) -> TotalComponent:
    return part(0, 15, spent)


def taken(**fields: Any) -> OpeningBalance:
    return OpeningBalance(**{"before": BEFORE, "shape": "a", "window_start": NOON, **fields})


def test_a_part_that_begins_at_the_opening_adds_to_history() -> None:
    merged = merge({0: part(10, 12, 3), "history": history(100)}, taken(), taken(), "a")
    assert (merged.spent_nanousd, merged.watermark, merged.is_whole) == (103, {0: 12, 1: 4}, True)


def test_a_part_that_ends_below_the_opening_is_inside_history() -> None:
    merged = merge({0: part(0, 9, 3), "history": history(100)}, taken(), taken(), "a")
    assert (merged.spent_nanousd, merged.watermark, merged.is_whole) == (100, {0: 9, 1: 4}, True)


@pytest.mark.parametrize(("first", "last"), [(9, 10), (0, 99)])
def test_a_part_that_straddles_the_opening_makes_history_wait(first: int, last: int) -> None:
    merged = merge({0: part(first, last, 3), "history": history(100)}, taken(), taken(), "a")
    assert (merged.spent_nanousd, merged.watermark, merged.is_whole) == (3, {0: last}, False)


def test_a_gap_behind_the_opening_is_said() -> None:
    merged = merge({0: part(11, 12, 3), "history": history(100)}, taken(), taken(), "a")
    assert (merged.spent_nanousd, merged.is_whole) == (103, False)


def test_without_a_part_of_history_an_account_had_spent_nothing_once_all_were_told() -> None:
    parts: dict[int | str, TotalComponent] = {0: part(10, 12, 3)}
    assert not merge(parts, None, None, "a").is_whole
    merged = merge(parts, None, taken(), "a")
    assert (merged.spent_nanousd, merged.watermark, merged.is_whole) == (3, {0: 12, 1: 4}, True)


def test_an_account_is_not_whole_before_it_is_told_that_these_were_all() -> None:
    merged = merge({"history": history(100)}, taken(), None, "a")
    assert (merged.spent_nanousd, merged.watermark, merged.is_whole) == (100, {0: 9, 1: 4}, False)


def test_a_part_that_was_counted_in_another_shape_is_not_the_whole() -> None:
    old = part(10, 12, 3)._replace(shape="b")
    assert merge({0: part(10, 12, 3)}, None, taken(), "a").is_whole
    assert not merge({0: old}, None, taken(), "a").is_whole


def test_what_was_taken_for_another_shape_is_not_the_whole() -> None:
    assert not merge({"history": history(100)}, taken(), taken(), "b").is_whole


def test_what_an_earlier_opening_took_is_void_once_a_later_one_was_told() -> None:
    later = taken(before={0: 20, 1: 5})
    merged = merge({0: part(10, 12, 3), "history": history(100)}, taken(), later, "a")
    assert (merged.spent_nanousd, merged.watermark, merged.is_whole) == (0, {0: 19, 1: 4}, True)


def test_a_later_opening_of_the_account_counts_before_that_of_its_budget_is_told() -> None:
    later = taken(before={0: 20, 1: 5})
    merged = merge({0: part(10, 12, 3), "history": history(100)}, later, taken(), "a")
    assert (merged.spent_nanousd, merged.watermark, merged.is_whole) == (100, {0: 19, 1: 4}, False)


def test_of_two_openings_at_the_same_offsets_that_of_the_present_shape_counts() -> None:
    parts: dict[int | str, TotalComponent] = {"history": history(100)}
    assert merge(parts, taken(shape="a"), taken(shape="b"), "b").spent_nanousd == 0
    assert merge(parts, taken(shape="a"), taken(shape="b"), "a").spent_nanousd == 100


def test_of_two_openings_at_the_same_offsets_that_of_the_later_revision_counts() -> None:
    parts: dict[int | str, TotalComponent] = {"history": history(100)}
    held, whole = taken(shape="b", revision=2), taken(shape="a", revision=1)
    merged = merge(parts, held, whole, "a")
    assert (merged.spent_nanousd, merged.is_whole) == (100, False)
    held, whole = taken(shape="a", revision=1), taken(shape="b", revision=2)
    merged = merge(parts, held, whole, "b")
    assert (merged.spent_nanousd, merged.is_whole) == (0, True)


def test_merging_raises_the_version_and_so_does_a_later_opening() -> None:
    parts: dict[int | str, TotalComponent] = {0: part(10, 12, 3)}
    alone = merge(parts, None, None, "a").version
    first = merge(parts, None, taken(before={}), "a").version
    later = merge(parts, None, taken(), "a").version
    assert alone < first < later


def test_what_history_has_of_earlier_incarnations_adds_and_is_in_no_watermark() -> None:
    before = {EARLIER: 1_000, 0: 10}
    whole = taken(before=before)
    parts: dict[int | str, TotalComponent] = {0: part(10, 12, 3), "history": part(0, 1_010, 100)}
    merged = merge(parts, whole, whole, "a")
    assert (merged.spent_nanousd, merged.watermark, merged.is_whole) == (103, {0: 12}, True)


def test_a_balance_with_more_of_earlier_incarnations_takes_the_place_of_one_with_less() -> None:
    less, more = taken(before={EARLIER: 1_000, 0: 10}), taken(before={EARLIER: 1_001, 0: 10})
    parts: dict[int | str, TotalComponent] = {0: part(10, 12, 3), "history": part(0, 1_011, 107)}
    before = merge(parts, less, less, "a")
    between, after = merge(parts, more, less, "a"), merge(parts, more, more, "a")
    # All accounts of the budget need not have theirs yet.
    assert (between.spent_nanousd, between.is_whole) == (110, False)
    assert (after.spent_nanousd, after.is_whole) == (110, True)
    assert before.version < between.version == after.version
    # One that history has nothing of any more: all it had has a copy that the stream counts here.
    assert merge({0: part(10, 12, 3), "history": part(0, 1_010, 7)}, less, more, "a").spent_nanousd == 3
