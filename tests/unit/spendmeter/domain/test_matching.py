"""Which accounts an event falls under, and what they are called."""

from datetime import timedelta
from typing import Any

import pytest

from spendmeter.domain import matching
from spendmeter.domain.matching import BudgetBook, Subject, subject_of
from spendmeter.domain.window import window_of
from spendmeter.values.account import account_name, subject_in
from spendmeter.values.dimensions import DIMENSIONS, Dimension
from tests.builders import NOON, budget, usage


def names(book: BudgetBook, **dimensions: Any) -> list[str]:
    return sorted(account.name for account in book.accounts_of(Subject(**dimensions)))


def book_of(*matches: dict[str, str], **fields: Any) -> BudgetBook:
    return BudgetBook(budget(id=f"b{n}", match=match, **fields) for n, match in enumerate(matches))


def test_an_account_is_named_by_budget_and_subject() -> None:
    assert account_name("b", [("user", "ann"), ("key", "k1")]) == "b|key=k1&user=ann"
    assert account_name("b", []) == "b|"
    assert account_name("b", [("team", "a|b&c=d/é %")]) == "b|team=a%7Cb%26c%3Dd%2F%C3%A9%20%25"
    assert subject_in("b|team=a%7Cb%26c%3Dd%2F%C3%A9%20%25") == {"team": "a|b&c=d/é %"}
    assert subject_in("b|") == {}


def test_an_empty_match_is_one_account_of_everything() -> None:
    assert names(book_of({}), key="k1") == ["b0|"]
    assert names(book_of({})) == ["b0|"]


def test_a_value_selects_and_a_star_separates() -> None:
    book = book_of({"key": "k1"}, {"key": "*"}, {"team": "*", "key": "k1"})

    assert names(book, key="k1", team="red") == ["b0|key=k1", "b1|key=k1", "b2|key=k1&team=red"]
    assert names(book, key="k2", team="red") == ["b1|key=k2"]


@pytest.mark.parametrize("unknown", [None, ""])
def test_a_dimension_that_is_unknown_matches_nothing_not_even_a_star(unknown: str | None) -> None:
    assert names(book_of({"user": "*"}, {"user": "ann"}), key="k1", user=unknown) == []


@pytest.mark.parametrize("dimension", [d for d in DIMENSIONS if d != "tag"])
def test_each_dimension_of_an_event_can_be_matched(dimension: Dimension) -> None:
    named: dict[str, Any] = {dimension: "this one"}
    event = usage(**named)
    book = book_of({dimension: "this one"}, {dimension: "another"}, {dimension: "*"})

    found = [account.name for account in book.accounts_of(subject_of(event))]

    assert sorted(found) == [f"b0|{dimension}=this%20one", f"b2|{dimension}=this%20one"]


def test_an_event_of_several_tags_counts_once_for_each() -> None:
    book = book_of({"tag": "*"}, {"tag": "red"}, {"tag": "*", "key": "*"})
    subject = subject_of(usage(key="k1", tags=["red", "blue", "red"]))

    found = [account.name for account in book.accounts_of(subject)]

    assert sorted(found) == [
        "b0|tag=blue",
        "b0|tag=red",
        "b1|tag=red",
        "b2|key=k1&tag=blue",
        "b2|key=k1&tag=red",
    ]


def test_a_replacing_budget_takes_the_others_place_for_its_subjects_only() -> None:
    book = BudgetBook(
        [
            budget(id="all", match={"key": "*"}),
            budget(id="vip", match={"key": "k1"}, replaces="all"),
        ]
    )

    assert names(book, key="k1") == ["vip|key=k1"]
    assert names(book, key="k2") == ["all|key=k2"]


def test_a_replacement_for_one_tag_leaves_the_other_tags_of_an_event() -> None:
    book = BudgetBook(
        [
            budget(id="all", match={"tag": "*"}),
            budget(id="vip", match={"tag": "red"}, replaces="all"),
        ]
    )

    assert names(book, tags=("red", "blue")) == ["all|tag=blue", "vip|tag=red"]


def test_a_replacement_of_a_replacement_leaves_the_last_word() -> None:
    book = BudgetBook(
        [
            budget(id="a", match={"key": "*"}),
            budget(id="b", match={"team": "*"}, replaces="a"),
            budget(id="c", match={"user": "*"}, replaces="b"),
        ]
    )

    assert names(book, key="k", team="t", user="u") == ["c|user=u"]
    assert names(book, key="k", team="t") == ["b|team=t"]


def test_what_a_removed_budget_replaced_is_back_in_force() -> None:
    book = BudgetBook(
        [budget(id="all", match={"key": "*"}), budget(id="vip", match={"key": "k1"}, replaces="all")]
    )
    assert names(book, key="k1") == ["vip|key=k1"]

    removed = book.remove("vip")

    assert removed is not None
    assert removed.id == "vip"
    assert names(book, key="k1") == ["all|key=k1"]


def test_to_remove_what_is_not_there_changes_nothing() -> None:
    book = book_of({"key": "*"})

    assert book.remove("nobody") is None
    assert names(book, key="k1") == ["b0|key=k1"]


def test_a_budget_gives_way_to_its_own_or_a_later_revision_and_to_no_earlier_one() -> None:
    book = BudgetBook([budget(revision=5, limit_nanousd=50)])

    assert not book.put(budget(revision=4, limit_nanousd=40))
    assert [b.limit_nanousd for b in book] == [50]
    assert book.put(budget(revision=5, limit_nanousd=55))
    assert book.put(budget(revision=6, limit_nanousd=60))
    assert [b.limit_nanousd for b in book] == [60]
    assert len(book) == 1


def test_a_budget_that_matches_otherwise_now_is_no_longer_found_where_it_was() -> None:
    book = BudgetBook([budget(revision=1, match={"key": "k1"})])
    assert names(book, key="k1") == ["per-key|key=k1"]

    book.put(budget(revision=2, match={"key": "k2"}))

    assert names(book, key="k1") == []
    assert names(book, key="k2") == ["per-key|key=k2"]


def test_an_account_carries_the_budget_that_is_in_force() -> None:
    book = BudgetBook([budget(revision=1, limit_nanousd=10)])
    assert book.accounts_of(Subject(key="k1"))[0].budget.limit_nanousd == 10

    book.put(budget(revision=2, limit_nanousd=20))

    assert book.accounts_of(Subject(key="k1"))[0].budget.limit_nanousd == 20


def test_the_memory_of_subjects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "MAX_REMEMBERED_SUBJECTS", 10)
    book = book_of({"key": "*"})

    for n in range(25):
        assert names(book, key=f"k{n}") == [f"b0|key=k{n}"]
        assert len(book._accounts) <= 10


def test_a_book_that_budgets_come_and_go_in_keeps_nothing_of_those_that_went() -> None:
    book = BudgetBook()

    for n in range(100):
        book.put(budget(id=f"b{n}", match={"key": f"k{n}"}))
        book.window_of(book.get(f"b{n}") or budget(), NOON)
        book.remove(f"b{n}")

        book.put(budget(id=f"g{n}", match={"model": f"m{n}*"}))
        book.remove(f"g{n}")

    assert (len(book), len(book._index), book._windows) == (0, 0, {})


def test_the_remembered_window_ends_when_it_ends() -> None:
    of = budget(period="hour")
    book = BudgetBook([of])
    hour = timedelta(hours=1)

    assert [book.window_of(of, NOON + n * hour / 2) for n in range(4)] == [
        window_of(of, NOON + n * hour / 2) for n in range(4)
    ]
    assert book.window_of(of, NOON - hour) == window_of(of, NOON - hour)


@pytest.mark.parametrize("dimension", ["model", "model_group"])
def test_a_glob_is_one_account_of_all_that_fits(dimension: str) -> None:
    book = book_of({dimension: "gpt-4*"}, {dimension: "*mini"}, {dimension: "*"}, {dimension: "*-4*m*i"})

    assert names(book, **{dimension: "gpt-4o-mini"}) == [
        f"b0|{dimension}=gpt-4%2A",
        f"b1|{dimension}=%2Amini",
        f"b2|{dimension}=gpt-4o-mini",
        f"b3|{dimension}=%2A-4%2Am%2Ai",
    ]
    assert names(book, **{dimension: "claude"}) == [f"b2|{dimension}=claude"]
    assert names(book) == []


def test_a_glob_is_the_account_of_each_of_the_other_dimensions() -> None:
    book = book_of({"key": "*", "model": "gpt-4*"}, {"team": "red", "model": "gpt-4*"})

    assert names(book, key="k1", team="red", model="gpt-4o") == [
        "b0|key=k1&model=gpt-4%2A",
        "b1|model=gpt-4%2A&team=red",
    ]


@pytest.mark.parametrize("dimension", [d for d in DIMENSIONS if d not in ("model", "model_group", "tag")])
def test_elsewhere_a_star_within_a_value_is_a_star(dimension: str) -> None:
    book = book_of({dimension: "a*"})

    assert names(book, **{dimension: "a*"}) == [f"b0|{dimension}=a%2A"]
    assert names(book, **{dimension: "ab"}) == []


def test_budgets_that_replace_one_another_in_a_circle_stay_in_force() -> None:
    """Each would hide the next, and nothing would be limited."""
    circle = [
        budget(id="a", match={"key": "*"}, replaces="b"),
        budget(id="b", match={"key": "*"}, replaces="c"),
        budget(id="c", match={"key": "*"}, replaces="a"),
    ]
    leads_into_it = budget(id="d", match={"key": "*"}, replaces="a")

    assert names(BudgetBook(circle), key="k") == ["a|key=k", "b|key=k", "c|key=k"]
    assert names(BudgetBook([*circle, leads_into_it]), key="k") == ["b|key=k", "c|key=k", "d|key=k"]
    assert names(BudgetBook(circle[:2]), key="k") == ["a|key=k"]


def test_subjects_that_differ_where_no_budget_looks_are_one() -> None:
    book = book_of({"key": "*"}, {"user": "ann"})
    one, other = Subject(key="k1", session="s1"), Subject(key="k1", session="s2")
    assert book.subject_key(one) == book.subject_key(other)
    assert book.accounts_of(one) is book.accounts_of(other)

    book.put(budget(id="per-session", match={"session": "*"}))
    assert book.subject_key(one) != book.subject_key(other)
    assert names(book, key="k1", session="s2") == ["b0|key=k1", "per-session|session=s2"]

    book.remove("per-session")
    assert book.accounts_of(one) is book.accounts_of(other)
