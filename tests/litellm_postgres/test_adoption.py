"""Budgets set where LiteLLM's users set them are ours at the first request that shows them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from spendmeter.contract.budget import Action
from spendmeter.contract.money import from_usd
from tests.litellm_postgres.real import Real


def name() -> str:
    return f"n{uuid4().hex[:8]}"


def test_every_limit_that_litellm_shows_with_a_request_becomes_a_budget(real: Real) -> None:
    user, team, customer, tag, alone = name(), name(), name(), name(), name()
    for one in (user, alone):
        real.post("/user/new", user_id=one, user_role="internal_user", auto_create_key=False)
    real.post("/user/update", user_id=alone, max_budget=3, budget_duration="7d")
    real.post("/team/new", team_id=team, max_budget=5, budget_duration="30d", soft_budget=4)
    member = {"role": "user", "user_id": user}
    real.post("/team/member_add", team_id=team, member=member, max_budget_in_team=0.5)
    real.post("/customer/new", user_id=customer, max_budget=0.7, budget_duration="1d")
    real.post("/tag/new", name=tag, max_budget=0.6, budget_duration="1d")
    windows = [{"budget_duration": "1h", "max_budget": 0.3}]
    key = real.key(
        key_alias=name(),
        team_id=team,
        user_id=user,
        max_budget=2,
        budget_duration="1d",
        budget_limits=windows,
        metadata={"spendmeter_budget": {"limit_usd": "1.25", "period": "week:sunday"}},
    )

    answer = real.ask(key["key"], user=customer, metadata={"tags": [tag]})
    assert answer.status_code == 200, answer.text
    assert real.ask(real.key(user_id=alone)["key"]).status_code == 200

    owner = f"litellm:key:{key['token_id']}"
    wanted = {
        owner: ({"key": key["token_id"]}, "2", "day"),
        f"{owner}:window:1h": ({"key": key["token_id"]}, "0.3", "hour"),
        f"{owner}:metadata": ({"key": key["token_id"]}, "1.25", "week:sunday"),
        f"litellm:team:{team}": ({"team": team}, "5", "month"),
        f"litellm:member:{team}/{user}": ({"team": team, "user": user}, "0.5", "lifetime"),
        f"litellm:end_user:{customer}": ({"end_user": customer}, "0.7", None),
        f"litellm:tag:{tag}": ({"tag": tag}, "0.6", "day"),
        f"litellm:user:{alone}": ({"user": alone}, "3", "week"),
    }
    for budget_id, (match, limit, period) in wanted.items():
        found = real.until(budget_id, lambda budget: budget is not None)
        assert found is not None
        assert (found.match, found.limit_nanousd, found.updated_by) == (match, from_usd(limit), "LiteLLM")
        assert period in (None, found.period)
        assert found.action is Action.BLOCK
    assert real.budgets()[f"litellm:team:{team}"].warn_at == (0.8,)
    assert f"litellm:user:{user}" not in real.budgets(), "what a member's team spends is not the user's there"


def test_a_limit_changed_raised_and_lifted_in_litellm_is_so_here(real: Real) -> None:
    key = real.key(key_alias=name(), max_budget=2, budget_duration="1d")
    budget_id = f"litellm:key:{key['token_id']}"
    assert real.ask(key["key"]).status_code == 200
    first = real.until(budget_id, lambda budget: budget is not None)
    assert first is not None

    real.post("/key/update", key=key["key"], max_budget=7, budget_duration="30d")
    real.ask(key["key"])
    changed = real.until(budget_id, lambda b: b is not None and b.limit_nanousd == from_usd("7"))
    assert changed is not None
    assert (changed.period, changed.revision > first.revision) == ("month", True)

    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    real.post("/key/update", key=key["key"], temp_budget_increase=3, temp_budget_expiry=until.isoformat())
    real.ask(key["key"])
    raised = real.until(budget_id, lambda b: b is not None and bool(b.raises))
    assert raised is not None
    assert (raised.limit_nanousd, raised.limit_at(datetime.now(UTC))) == (from_usd("7"), from_usd("10"))
    assert raised.limit_at(until) == from_usd("7")

    real.post("/key/update", key=key["key"], max_budget=None)
    real.ask(key["key"])
    real.until(budget_id, lambda budget: budget is None)


def test_the_adopted_budget_refuses_where_litellm_lets_pass(real: Real) -> None:
    wanted = {"limit_usd": "0.0007", "period": "day"}
    key = real.key(key_alias=name(), metadata={"spendmeter_budget": wanted})["key"]

    answers = [real.ask(key) for _ in range(20)]

    refused = [one for one in answers if one.status_code != 200]
    assert answers[0].status_code == 200, answers[0].text
    assert refused, real.tail()
    assert refused[-1].json()["error"]["type"] == "budget_exceeded"
    assert refused[-1].headers["x-spendmeter-budget"].endswith(":metadata")
