"""LiteLLM's budgets as ours: the same limit, over the windows that LiteLLM's own resets make."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litellm.litellm_core_utils.duration_parser import get_next_standardized_reset_time

from spendmeter.contract.budget import Action, Budget
from spendmeter.contract.money import from_usd
from spendmeter.domain.window import window_of
from spendmeter.litellm.budgets import MAX_METADATA_BUDGETS, Adopt, Adopted, adopted
from spendmeter.litellm.entities import LitellmEntity, owner_of
from tests.builders import NOON

HASH = "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b"


def key(**given: Any) -> LitellmEntity:
    return LitellmEntity("key", (HASH,), **given)


def only(seen: LitellmEntity, adopt: Adopt = "both", now: datetime = NOON) -> Budget:
    found = adopted(seen, adopt, now)
    assert found.problems == ()
    (budget,) = found.budgets
    return budget


@pytest.mark.parametrize(
    ("seen", "budget_id", "match"),
    [
        (LitellmEntity("proxy", (), max_budget=1.5), "litellm:proxy", {}),
        (key(max_budget=1.5), f"litellm:key:{HASH}", {"key": HASH}),
        (LitellmEntity("team", ("red",), max_budget=1.5), "litellm:team:red", {"team": "red"}),
        (
            LitellmEntity("member", ("red", "ann@x.org"), max_budget=1.5),
            "litellm:member:red/ann@x.org",
            {"team": "red", "user": "ann@x.org"},
        ),
        (LitellmEntity("user", ("ann",), max_budget=1.5), "litellm:user:ann", {"user": "ann"}),
        (
            LitellmEntity("organization", ("o",), max_budget=1.5),
            "litellm:organization:o",
            {"organization": "o"},
        ),
        (LitellmEntity("project", ("p",), max_budget=1.5), "litellm:project:p", {"project": "p"}),
        (LitellmEntity("end_user", ("c",), max_budget=1.5), "litellm:end_user:c", {"end_user": "c"}),
        (LitellmEntity("tag", ("t",), max_budget=1.5), "litellm:tag:t", {"tag": "t"}),
    ],
)
def test_each_kind_has_its_id_and_its_match(
    seen: LitellmEntity, budget_id: str, match: dict[str, str]
) -> None:
    budget = only(seen)

    assert (budget.id, budget.match, budget.limit_nanousd) == (budget_id, match, from_usd("1.5"))
    assert (budget.action, budget.period) == (Action.BLOCK, "lifetime")
    assert owner_of(budget.id) == seen.owner


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_any_name_makes_an_id_that_leads_back_to_its_owner_alone(team: str, user: str) -> None:
    seen = LitellmEntity("member", (team, user), max_budget=1)
    other = LitellmEntity("member", (team + "/", user), max_budget=1)

    assert owner_of(only(seen).id) == seen.owner
    assert seen.owner != other.owner


@given(
    st.sampled_from(["1h", "1d", "7d", "30d", "1mo", "2h", "12h", "15m", "30s", "14d", "3d", "36h"]),
    st.integers(0, 10 * 365 * 86_400).map(lambda seconds: NOON + timedelta(seconds=seconds)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
)
def test_the_window_ends_at_the_reset_that_litellm_has_named(
    duration: str, now: datetime, timezone: str
) -> None:
    reset_at = get_next_standardized_reset_time(duration, now, timezone).astimezone(UTC)

    window = window_of(
        only(
            key(max_budget=1, budget_duration=duration, budget_reset_at=reset_at, timezone=timezone), now=now
        ),
        reset_at - timedelta(microseconds=1),
    )

    assert window is not None
    assert window.end == reset_at


@pytest.mark.parametrize("duration", ["1d", "14d", "12h"])
def test_a_reset_that_is_one_window_on_makes_the_same_budget(duration: str) -> None:
    length = timedelta(hours=12) if duration == "12h" else timedelta(days=int(duration[:-1]))
    first = datetime(2026, 11, 23, 15, 4, 37, 185_000, tzinfo=UTC)

    def at(reset_at: object) -> Budget:
        return only(key(max_budget=1, budget_duration=duration, budget_reset_at=reset_at))

    assert at(first) == at(first + length) == at((first + 7 * length).isoformat())
    window = window_of(at(first), first)
    assert window is not None
    assert window.start == first


def test_a_soft_budget_is_a_warning_or_alone_a_budget_that_only_warns() -> None:
    assert only(key(max_budget=5, soft_budget=4)).warn_at == (0.8,)
    assert only(key(max_budget=5, soft_budget=5)).warn_at == (0.8,), "at the limit it would tell nothing new"
    alone = only(key(soft_budget=4))
    assert (alone.action, alone.limit_nanousd) == (Action.WARN, from_usd("4"))


@pytest.mark.parametrize(("is_raised", "max_budget"), [(True, 5.0), (False, 2.0)])
def test_a_temporary_increase_is_a_raise_that_ends_with_it(is_raised: bool, max_budget: float) -> None:
    until = NOON + timedelta(days=3)
    seen = key(
        max_budget=max_budget,
        temp_budget_increase=3,
        temp_budget_expiry=until.isoformat(),
        is_raised=is_raised,
    )
    budget = only(seen)

    assert budget.limit_nanousd == from_usd("2")
    assert budget.limit_at(until - timedelta(microseconds=1)) == from_usd("5")
    assert budget.limit_at(until) == from_usd("2")
    assert "raises" not in only(key(max_budget=2)).model_fields_set, "what people raised here must stay"


def test_a_temporary_increase_that_has_ended_is_none() -> None:
    budget = only(key(max_budget=2, temp_budget_increase=3, temp_budget_expiry=NOON, is_raised=True))

    assert (budget.limit_nanousd, budget.raises) == (from_usd("2"), ())


def test_several_windows_and_models_are_budgets_of_their_own() -> None:
    seen = key(
        budget_limits=[
            {"budget_duration": "1h", "max_budget": 0.3, "reset_at": "2026-11-22T16:00:00+00:00"},
            {"budget_duration": "30d", "max_budget": 9},
        ],
        model_max_budget={"gpt-4o": {"budget_limit": 1, "time_period": "1d"}, "a/b:c": {"max_budget": 2}},
    )

    found = {b.id.removeprefix(seen.owner): b for b in adopted(seen, "both", NOON).budgets}

    assert {part: b.period for part, b in found.items()} == {
        ":window:1h": "hour",
        ":window:30d": "month",
        ":model:gpt-4o": "day",
        found_id(found, "model:@"): "lifetime",
    }
    assert found[":model:gpt-4o"].match == {"key": HASH, "model_group": "gpt-4o"}


def found_id(found: dict[str, Budget], part: str) -> str:
    (found_one,) = [name for name in found if part in name]
    return found_one


def test_metadata_says_what_litellm_cannot() -> None:
    seen = key(
        metadata_budget=[
            {"limit_usd": "0.25", "period": "week:sunday", "timezone": "Asia/Tokyo", "enforcement": "strict"},
            {"limit_usd": 1e-05, "period": "hour", "match": {"model_group": "gpt-4*"}, "action": "warn"},
        ]
    )

    first, second = adopted(seen, "both", NOON).budgets

    assert (first.id, first.match) == (f"litellm:key:{HASH}:metadata", {"key": HASH})
    assert (first.period, first.timezone, first.enforcement) == ("week:sunday", "Asia/Tokyo", "strict")
    assert second.id == f"litellm:key:{HASH}:metadata:2"
    assert second.match == {"key": HASH, "model_group": "gpt-4*"}
    assert second.limit_nanousd == 10_000


@dataclass
class Mistake:
    given: dict[str, Any]
    told: str
    unread: str = field(default="metadata")


@pytest.mark.parametrize(
    "mistake",
    [
        Mistake({"metadata_budget": {"period": "day"}}, "limit_usd is missing"),
        Mistake({"metadata_budget": {"limit_usd": 5}}, "period is missing"),
        Mistake({"metadata_budget": {"limit_usd": -5, "period": "day"}}, "not above 0"),
        Mistake({"metadata_budget": {"limit_usd": 5, "period": "dya"}}, "period 'dya'"),
        Mistake({"metadata_budget": {"limit_usd": 5, "period": "day", "limit": 1}}, "limit"),
        Mistake({"metadata_budget": {"limit_usd": 5, "period": "day", "id": "mine"}}, "leave out id"),
        Mistake({"metadata_budget": {"limit_usd": 5, "period": "day", "replaces": "b"}}, "replaces"),
        Mistake({"metadata_budget": {"limit_usd": 5, "period": "day", "match": {"key": "k"}}}, "match"),
        Mistake({"metadata_budget": {"limit_usd": 5, "period": "day", "match": {"keys": "k"}}}, "key"),
        Mistake({"metadata_budget": {"limit_usd": 5, "period": "day", "match": "all"}}, "match"),
        Mistake({"metadata_budget": 5}, "is a budget, such as"),
        Mistake({"metadata_budget": [{}] * (MAX_METADATA_BUDGETS + 1)}, "has 21 budgets"),
        Mistake({"metadata_budget": {"limit_usd": object(), "period": "day"}}, "no text or number"),
        Mistake({"max_budget": -1}, "max_budget -1 is no amount", ""),
        Mistake({"max_budget": float("nan")}, "is no amount", ""),
        Mistake({"max_budget": 10**400}, "is no amount", ""),
        Mistake({"max_budget": 1, "budget_duration": "banana"}, "budget_duration 'banana'", ""),
        Mistake({"max_budget": 1, "budget_duration": "12h", "budget_reset_at": "soon"}, "no time", ""),
        Mistake({"model_max_budget": ["gpt-4o"]}, "model_max_budget is a mapping", "model"),
    ],
)
def test_a_mistake_names_whose_it_is_and_what_to_do_and_spoils_nothing_else(mistake: Mistake) -> None:
    good = {"budget_limits": [{"budget_duration": "1h", "max_budget": 1}]}

    found = adopted(key(**good, **mistake.given, alias="vip"), "both", NOON)

    assert [budget.id for budget in found.budgets] == [f"litellm:key:{HASH}:window:1h"]
    (problem,) = found.problems
    assert problem.startswith(f"key vip ({HASH}): ")
    assert mistake.told in problem
    assert found.unread == {mistake.unread}


@pytest.mark.parametrize("duration", ["1d", "3d"])
def test_a_time_zone_that_is_none_is_told_and_no_other_is_guessed(duration: str) -> None:
    found = adopted(key(max_budget=1, budget_duration=duration, timezone="Mars/Olympus"), "both", NOON)

    assert found.budgets == ()
    assert ["Mars/Olympus" in problem for problem in found.problems] == [True]


def test_what_is_not_adopted_or_not_visible_is_left_alone() -> None:
    seen = key(max_budget=1, metadata_budget={"limit_usd": 1, "period": "day"})

    def parts(found: Adopted) -> list[str]:
        return [budget.id.removeprefix(seen.owner) for budget in found.budgets]

    assert parts(adopted(seen, "both", NOON)) == ["", ":metadata"]
    assert parts(adopted(seen, "native", NOON)) == [""]
    assert adopted(seen, "native", NOON).unread == {"metadata"}
    assert parts(adopted(seen, "metadata", NOON)) == [":metadata"]
    assert adopted(seen, "metadata", NOON).unread == {"", "window", "model"}
    assert adopted(seen._replace(shows_limits=False), "both", NOON).unread == {"", "window", "model"}
    assert adopted(seen, "off", NOON).budgets == ()


def test_limits_that_were_moved_aside_are_limits_here() -> None:
    aside = {
        "max_budget": 3.5,
        "soft_budget": 1.75,
        "budget_limits": [{"budget_duration": "1d", "max_budget": 1}],
    }

    found = adopted(key(taken_over=aside, budget_duration="30d"), "both", NOON).budgets

    assert [(b.limit_nanousd, b.period) for b in found] == [
        (from_usd("3.5"), "month"),
        (from_usd("1"), "day"),
    ]
    assert found[0].warn_at == (0.5,)
    assert only(key(taken_over={"max_budget": 3.5}, max_budget=8)).limit_nanousd == from_usd("8"), "set anew"
