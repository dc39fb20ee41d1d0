"""What the page holds in memory: who stands how, in which order, for whom."""

from datetime import timedelta

import pytest

from spendmeter.contract.signal import Signal
from spendmeter.settings import Settings
from spendmeter.values.account import account_name
from spendmeter_console.live.board import ORDER_FRESH_SECONDS, Board, Selection
from spendmeter_console.viewer import EVERYTHING, ViewScope
from tests.builders import NOON, budget

RED = ViewScope(frozenset({"red"}))


class Held:
    """A board that a test feeds, with clocks that it moves on."""

    def __init__(self) -> None:
        self.now, self.seconds = NOON, 0.0
        self.board = Board(Settings(), lambda: self.now, lambda: self.seconds)

    def budget(self, **fields: object) -> None:
        one = budget(**fields)
        self.board._topic.book.put(one)
        self.board._on_budget(one.id, one)

    def signal(self, budget_id: str, spent: int, version: int = 1, **subject: str) -> None:
        start = NOON.replace(hour=0)
        self.board._on_signal(
            account_name(budget_id, subject.items()),
            Signal.model_validate(
                {
                    "budget_id": budget_id,
                    "account": account_name(budget_id, subject.items()),
                    "subject": subject,
                    "window_start": start,
                    "window_end": start + timedelta(days=1),
                    "limit_nanousd": 1_000_000,
                    "spent_nanousd": spent,
                    "state": "ok",
                    "watermark": {},
                    "revision": 1,
                    "version": version,
                    "emitted_at": NOON,
                }
            ),
        )

    def accounts(self, scope: ViewScope = EVERYTHING, **wanted: str) -> list[str]:
        return [one.account for one in self.board.select(Selection(scope, **wanted))]


def test_whoever_is_closest_to_their_limit_comes_first() -> None:
    held = Held()
    held.budget(match={"team": "*"})
    held.signal("per-key", 100, team="blue")
    held.signal("per-key", 900_000, team="red")

    assert held.accounts() == ["per-key|team=red", "per-key|team=blue"]
    assert held.accounts(RED) == ["per-key|team=red"]
    assert held.accounts(text="BLU") == ["per-key|team=blue"]
    assert held.accounts(state="warning") == ["per-key|team=red"]


def test_what_was_chosen_from_an_order_of_a_moment_ago_does_not_stay() -> None:
    held = Held()
    held.budget(match={"team": "*"})
    assert held.accounts() == []
    held.signal("per-key", 100, team="red")
    held.seconds = ORDER_FRESH_SECONDS * 0.9
    held.accounts(RED)

    held.seconds = ORDER_FRESH_SECONDS * 2
    assert held.accounts(RED) == ["per-key|team=red"]


def test_an_older_signal_changes_nothing_and_a_tombstone_removes_the_account() -> None:
    held = Held()
    held.budget(match={"team": "*"})
    held.signal("per-key", 200, version=2, team="red")
    held.signal("per-key", 100, version=1, team="red")
    standing = held.board.standing("per-key|team=red")
    assert standing is not None
    assert standing.spent_nanousd == 200

    held.board._on_signal("per-key|team=red", None)
    assert held.board.standing("per-key|team=red") is None


def test_only_who_may_see_it_is_woken_by_a_change() -> None:
    held = Held()
    held.budget(match={"team": "*"})
    before = held.board.edition(RED), held.board.edition(EVERYTHING)
    held.signal("per-key", 100, team="blue")

    assert held.board.edition(RED) == before[0]
    assert held.board.edition(EVERYTHING) > before[1]
    held.signal("per-key", 100, team="red")
    assert held.board.edition(RED) > before[0]


def test_a_budget_that_is_removed_removes_its_accounts() -> None:
    held = Held()
    held.budget(match={"team": "red"})
    assert held.accounts() == ["per-key|team=red"]
    held.board._topic.book.remove("per-key")
    held.board._on_budget("per-key", None)

    held.seconds = 10
    assert held.accounts() == []
    assert held.board.budgets(EVERYTHING) == []


@pytest.mark.parametrize(("spent", "state"), [(66_999_999, "ok"), (67_000_000, "warning")])
def test_a_threshold_is_reached_where_the_judge_says_so(spent: int, state: str) -> None:
    """A float times a limit may be a little more than the share: 0.067 of a dollar."""
    held = Held()
    held.budget(match={"team": "*"}, limit_nanousd=10**9, warn_at=(0.067,))
    held.signal("per-key", spent, team="red")

    assert held.accounts(state=state) == ["per-key|team=red"]
