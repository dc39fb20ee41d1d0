"""What of LiteLLM's has a budget: the callback and the import make the same one, whatever LiteLLM is told."""

from typing import Any

import pytest

from spendmeter.domain.matching import Subject
from spendmeter.litellm.api import LitellmApi, NotAnswered
from spendmeter.litellm.budgets import adopted
from spendmeter.litellm.rows import read_litellm
from spendmeter.litellm.whole_import import import_of, whole_plan
from spendmeter_gateway.litellm.admission.budgets import Around, seen_of_key
from tests.builders import NOON

ANN: dict[str, Any] = {"user_id": "ann", "user_role": "internal_user", "max_budget": 5.0}


class Api(LitellmApi):
    """A LiteLLM with one user; `settings` None: one that does not show its general settings."""

    def __init__(self, user: dict[str, Any], settings: dict[str, Any] | None) -> None:
        super().__init__("http://127.0.0.1:4000", "sk-master")
        self.user, self.settings = user, settings

    def _get(self, path: str, **query: object) -> Any:
        if path == "/user/list":
            return {"users": [self.user]}
        if path != "/config/list":
            return []
        if self.settings is None:
            raise NotAnswered("no such path")
        assert query == {"config_type": "general_settings"}
        return [{"field_name": name, "field_value": value} for name, value in self.settings.items()]


def limits_by_callback(user: dict[str, Any], *, users_pay_for_teams: bool) -> dict[str, int]:
    around = Around(users_pay_for_teams=users_pay_for_teams)
    seen = list(seen_of_key({}, {"ann": user}, Subject(user="ann"), around))
    budgets = [budget for one in seen for budget in adopted(one, "both", NOON).budgets]
    return {budget.id: budget.limit_nanousd for budget in budgets}


def limits_by_import(api: Api) -> dict[str, int]:
    found, _ = read_litellm(api, "UTC")
    return {b.id: b.limit_nanousd for b in whole_plan(import_of(found, {}, "budgets", NOON)).created}


@pytest.mark.parametrize("teams", [None, [], ["red"]])
@pytest.mark.parametrize("value", [True, False, None])
def test_a_users_limit_is_a_budget_for_both_or_for_neither(teams: object, value: object) -> None:
    user = ANN | {"teams": teams}

    imported = limits_by_import(Api(user, {"apply_user_budget_to_team_keys": value}))

    assert imported == limits_by_callback(user, users_pay_for_teams=value is True)
    assert bool(imported) == (value is True or not teams)


def test_where_litellm_does_not_show_the_setting_the_limit_of_a_user_in_a_team_stays_its_own() -> None:
    api = Api(ANN | {"teams": ["red"]}, None)

    (ann,), untold = read_litellm(api, "UTC")

    assert ann.left_because is not None
    assert ann.seen.max_budget is None
    assert [what.partition(":")[0] for what in untold] == ["general settings"]
