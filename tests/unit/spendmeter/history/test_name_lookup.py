"""The names that messages have, and what they say without."""

import pytest

from spendmeter.contract.alert import AlertKind
from spendmeter.history.name_lookup import NameLookup, ids_of, named_message
from spendmeter.history.names import EMAIL, MAX_NAME_CHARS, NO_NAMES, Names, name_of
from tests.alerts import NOW, alert, alert_about

KEY = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
SAID = f"key-day: key {KEY}, user u1 has spent its budget (50 of 50 USD)"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            {("key", KEY): "ann", ("user", "u1"): "Ann"},
            "key-day: key ann, user Ann has spent its budget (50 of 50 USD)",
        ),
        ({("key", "u1"): "ann"}, "key-day: key 9f86d081…, user u1 has spent its budget (50 of 50 USD)"),
        (NO_NAMES, "key-day: key 9f86d081…, user u1 has spent its budget (50 of 50 USD)"),
        (None, SAID),
    ],
)
def test_a_message_has_the_names_of_whose_account_it_is(names: Names | None, said: str) -> None:
    assert named_message(alert(at=NOW, message=SAID, key=KEY, user="u1"), names) == said


def test_a_message_that_says_it_otherwise_stays_as_it_is() -> None:
    names = {("team", "research"): "Search"}

    for message in ("team research rests", "key-day: team research2 has spent", ""):
        assert named_message(alert(at=NOW, message=message), names) == message
    unpriced = alert(AlertKind.UNPRICED, at=NOW, signal=False, message="gpt-9 has no price")
    assert named_message(unpriced, names) == "gpt-9 has no price"


def test_a_name_is_one_line_of_bounded_length_and_an_empty_one_is_none() -> None:
    def of(name: str) -> str:
        return name_of("key", KEY, {("key", KEY): name})

    assert of("a\nBudget raised\x1b[2J") == "a Budget raised\\x1b[2J"
    assert of("x" * MAX_NAME_CHARS) == "x" * MAX_NAME_CHARS
    assert of("x" * (MAX_NAME_CHARS + 1)) == "x" * (MAX_NAME_CHARS - 1) + "…"
    assert of(" \n ") == of("") == "9f86d081…"


def test_ids_that_may_have_a_name_are_asked_for_and_a_users_address() -> None:
    found = [alert(at=NOW, user="u1", tag="x"), alert(at=NOW, signal=False), alert(at=NOW, team="t1")]

    assert ids_of(found) == [("user", "u1"), (EMAIL, "u1"), ("team", "t1")]
    assert ids_of([alert_about(AlertKind.DIGEST, "x", team="t2")]) == [("team", "t2")]


async def test_without_history_there_are_no_names() -> None:
    assert await NameLookup(None, 1).names_of([("key", KEY)]) == {}
