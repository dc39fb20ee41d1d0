"""What a change would do, and what it makes of a budget."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendmeter.budgets.change import InvalidChange
from spendmeter.budgets.file import InvalidBudgetFile
from spendmeter.contract.budget import Action, Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.thresholds import state_at
from spendmeter.domain.window import window_of
from spendmeter_console.changes.preview import account_of, counted_by, effect
from spendmeter_console.changes.wanted import ChangeKind, WantedChange, changed, new_budget
from spendmeter_console.live.standing import Standing
from spendmeter_console.pages.render import environment
from spendmeter_console.viewer import Viewer
from tests.builders import budget

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
AMOUNTS = st.integers(1, 20)


def standing(of: Budget, name: str, spent: int) -> Standing:
    window = window_of(of, NOW)
    assert window is not None
    limit = of.limit_at(NOW)
    return Standing(
        f"{of.id}|team={name}",
        of.id,
        {"team": name},
        window,
        limit,
        NanoUsd(spent),
        state_at(NanoUsd(spent), limit, of.warn_at)[0],
        of.refuses,
        of.paused,
        False,
        None,
        NOW,
    )


@given(
    limit=AMOUNTS,
    spent=st.lists(AMOUNTS, max_size=6),
    paused=st.booleans(),
    action=st.sampled_from([*Action]),
    kind=st.sampled_from([*ChangeKind]),
    amount=AMOUNTS,
)
def test_whoever_the_change_refuses_or_lets_in_is_named_and_nobody_else(
    limit: int, spent: list[int], paused: bool, action: Action, kind: ChangeKind, amount: int
) -> None:
    before = budget(
        match={"team": "*"}, limit_nanousd=limit, paused=paused, action=action, period="month", updated_at=NOW
    )
    wanted = WantedChange(kind, NanoUsd(amount), NOW + timedelta(hours=1))
    try:
        after = changed(before, wanted, NOW)
    except InvalidChange:
        return
    standings = [standing(before, str(number), one) for number, one in enumerate(spent)]
    found = effect(standings, before, after, NOW)

    def refused(of: Budget | None, one: int) -> bool:
        return of is not None and of.refuses and one >= of.limit_at(NOW)

    now = [0 if kind is ChangeKind.RESET else one for one in spent]
    pairs = [(refused(before, old), refused(after, new)) for old, new in zip(spent, now, strict=True)]
    names = [one.account for one in standings]
    assert {one.account for one in found.refused} == {
        name for name, pair in zip(names, pairs, strict=True) if pair == (False, True)
    }
    assert {one.account for one in found.admitted} == {
        name for name, pair in zip(names, pairs, strict=True) if pair == (True, False)
    }
    assert found.still_refused == pairs.count((True, True))
    assert found.accounts == len(spent)


def test_a_reset_shows_the_window_that_begins() -> None:
    before = budget(match={}, period="month", updated_at=NOW)
    after = changed(before, WantedChange(ChangeKind.RESET), NOW)
    window = effect([], before, after, NOW).window

    assert window is not None
    assert window.start == NOW
    assert effect([], before, None, NOW).window is None


def test_what_would_change_nothing_is_refused() -> None:
    of = budget(match={}, limit_nanousd=5, updated_at=NOW)
    for wanted in (WantedChange(ChangeKind.LIMIT, NanoUsd(5)), WantedChange(ChangeKind.RESUME)):
        with pytest.raises(InvalidChange):
            changed(of, wanted, NOW)
    with pytest.raises(InvalidChange, match="say when"):
        changed(of, WantedChange(ChangeKind.RAISE, NanoUsd(5)), NOW)


def test_the_accounts_of_a_match_are_asked_by_its_dimensions() -> None:
    of = budget(id="b", match={"team": "red", "user": "*"}, updated_at=NOW)

    assert counted_by(of) == (["user"], {"team": "red"})
    assert account_of(of, ["user"], ["ann"]) == "b|team=red&user=ann"
    assert account_of(of, ["user"], [""]) is None
    assert counted_by(budget(match={"model": "gpt-*"}, updated_at=NOW)) is None


@pytest.mark.parametrize(
    "value",
    ["a: b", "- x", "'\"", "{}", "\n- id: other", "&a", "!!python/name:os.system", "~", "true", "x1"],
)
def test_what_is_written_in_a_form_is_no_yaml(value: str) -> None:
    fields = {"id": "b", "match": {"team": value}, "limit_usd": "1", "period": "day", "warn_at": []}

    assert new_budget(fields, NOW).match == {"team": value}
    with pytest.raises(InvalidBudgetFile):
        new_budget(fields | {"limit_usd": value}, NOW)


def test_without_a_key_the_page_says_what_the_name_is_worth() -> None:
    author = environment().get_template("effect.html").module.author  # type: ignore[attr-defined]

    assert "claimed: <bdi>ann</bdi>" in author(Viewer("ann"), False)
    assert "SPENDMETER_SIGNING_KEYS" in author(Viewer("ann"), False)
    assert "claimed" not in author(Viewer("ann"), True)
