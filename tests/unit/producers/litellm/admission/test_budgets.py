"""What the callback can see of LiteLLM's budgets: on LiteLLM's own objects, in the memory of its auth."""

from datetime import UTC, datetime
from typing import Any

import pytest
from litellm.caching.caching import DualCache
from litellm.proxy._types import LiteLLM_TeamMembership, LiteLLM_TeamTable, UserAPIKeyAuth

from spendmeter.domain.matching import Subject
from spendmeter.litellm.entities import LitellmEntity
from spendmeter_gateway.litellm.admission.budgets import Around, memory_of, seen_of_key, seen_of_request
from spendmeter_gateway.litellm.fields import fields_of

RESET = datetime(2026, 11, 23, tzinfo=UTC)
TABLE = {"max_budget": 0.5, "budget_duration": "1d", "soft_budget": None}


def seen_by(auth: object, cache: object, subject: Subject, around: Around) -> list[LitellmEntity]:
    memory = memory_of(cache)
    of_key = seen_of_key(fields_of(auth), memory, subject, around)
    return [*of_key, *seen_of_request(memory, subject, around)]


def seen(
    subject: Subject, around: Around | None = None, auth: Any = None, **memory: Any
) -> list[LitellmEntity]:
    cache = DualCache()
    for name, value in memory.items():
        cache.in_memory_cache.cache_dict[name.replace("__", ":").replace("_ID", "_id")] = value
    return seen_by(auth or UserAPIKeyAuth(), cache, subject, around or Around())


def test_a_keys_limits_stand_on_the_key() -> None:
    auth = UserAPIKeyAuth(
        api_key="sk-0123456789",
        key_alias="vip",
        max_budget=5.0,
        soft_budget=1.0,
        budget_duration="1d",
        budget_reset_at=RESET,
        budget_limits=[{"budget_duration": "1h", "max_budget": 0.3}],
        model_max_budget={"gpt-4o": {"budget_limit": 1}},
        metadata={
            "temp_budget_increase": 3,
            "temp_budget_expiry": "2026-12-01T00:00:00+00:00",
            "spendmeter_budget": {"limit_usd": 1},
        },
    )

    (key,) = seen(Subject(key="h"), auth=auth)

    assert key == LitellmEntity(
        "key",
        ("h",),
        max_budget=5.0,
        soft_budget=1.0,
        budget_duration="1d",
        budget_reset_at=RESET,
        budget_limits=[{"budget_duration": "1h", "max_budget": 0.3}],
        model_max_budget={"gpt-4o": {"budget_limit": 1}},
        temp_budget_increase=3,
        temp_budget_expiry="2026-12-01T00:00:00+00:00",
        metadata_budget={"limit_usd": 1},
        is_raised=True,
        alias="vip",
    )


@pytest.mark.parametrize("as_read", [lambda model: model, lambda model: model.model_dump(mode="json")])
def test_a_teams_and_a_members_limits_stand_in_memory_as_models_or_as_json(as_read: Any) -> None:
    team = as_read(
        LiteLLM_TeamTable(
            team_id="red", max_budget=5, budget_duration="30d", metadata={"spendmeter_budget": 1}
        )
    )
    member = as_read(LiteLLM_TeamMembership(user_id="ann", team_id="red", litellm_budget_table=TABLE))
    memory = {"team_id__red": team, "team_membership__ann__red": member}

    found = {one.kind: one for one in seen(Subject(team="red", user="ann"), **memory)}

    assert (found["team"].max_budget, found["team"].budget_duration, found["team"].metadata_budget) == (
        5.0,
        "30d",
        1,
    )
    assert (found["member"].names, found["member"].max_budget) == (("red", "ann"), 0.5)


def test_what_is_not_in_memory_is_not_taken_for_unlimited() -> None:
    (team,) = seen(Subject(team="red", user="ann", end_user="c", project="p", organization="o", tags=("t",)))

    assert (team.kind, team.shows_limits) == ("team", False)


def test_a_table_row_limits_whom_it_was_read_for() -> None:
    row = {"litellm_budget_table": TABLE}
    found = seen(
        Subject(end_user="c", tags=("t", "u"), project="p", organization="o"),
        end_user_id__c=row | {"budget_id": "b"},
        tag__t=row,
        tag__u={"litellm_budget_table": None},
        project_id__p=row,
        org_id__o__with_budget=row,
    )

    assert [(one.kind, one.names, one.max_budget) for one in found] == [
        ("organization", ("o",), 0.5),
        ("project", ("p",), 0.5),
        ("end_user", ("c",), 0.5),
        ("tag", ("t",), 0.5),
        ("tag", ("u",), None),
    ]


def test_the_default_of_all_end_users_is_not_a_budget_of_each_name_that_a_client_thinks_of() -> None:
    row = {"user_id": "c", "budget_id": None, "litellm_budget_table": TABLE}

    (customer,) = seen(Subject(end_user="c"), end_user_id__c=row)

    assert customer == LitellmEntity("end_user", ("c",)), "it has no limit of its own"


@pytest.mark.parametrize(
    ("teams", "around", "max_budget"),
    [([], Around(), 3), (["red"], Around(), None), (["red"], Around(users_pay_for_teams=True), 3)],
)
def test_a_users_limit_is_adopted_where_it_means_the_same_here(
    teams: list[str], around: Around, max_budget: float | None
) -> None:
    row = {"user_role": "internal_user", "teams": teams, "max_budget": 3, "budget_duration": "7d"}

    (user,) = seen(Subject(user="ann"), around, ann=row)

    assert user.max_budget == max_budget


def test_the_proxys_own_limit_is_in_its_configuration() -> None:
    (proxy,) = seen(Subject(), Around("Europe/Berlin", 100.0, "30d"))

    assert proxy == LitellmEntity(
        "proxy", (), max_budget=100.0, budget_duration="30d", timezone="Europe/Berlin"
    )


@pytest.mark.parametrize("cache", [None, object(), DualCache()])
def test_a_memory_of_another_shape_shows_nothing_and_breaks_nothing(cache: object) -> None:
    found = seen_by(UserAPIKeyAuth(), cache, Subject(key="h", user="ann", end_user="c"), Around())

    assert [one.kind for one in found] == ["key"]


def test_a_dashboard_session_has_no_budget_of_its_own() -> None:
    assert seen(Subject(key="h"), auth=UserAPIKeyAuth(is_session_token=True, max_budget=1)) == []
