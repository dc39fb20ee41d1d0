"""`spendmeter import litellm` on the real thing: the plan, the import, the take-over, and back."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from click.testing import CliRunner

from spendmeter.cli.main import main
from spendmeter.client import connect
from spendmeter.contract.money import from_usd
from spendmeter_local.probes import wait_until
from tests.litellm_postgres.real import MASTER_KEY, Real
from tests.patience import WITHIN_SECONDS


def name() -> str:
    return f"n{uuid4().hex[:8]}"


@pytest.fixture
def spendmeter(real: Real, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", real.settings.kafka_bootstrap)
    monkeypatch.setenv("SPENDMETER_TOPIC_PREFIX", real.settings.topic_prefix)

    def run(*arguments: str) -> dict[str, Any]:
        where = ["--url", real.url, "--api-key", MASTER_KEY]
        done = CliRunner().invoke(main, ["import", "litellm", *where, "--json", *arguments])
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def objects(real: Real) -> dict[str, str]:
    """One of each kind; returns the ids of their budgets."""
    user, team, customer, tag, alone = name(), name(), name(), name(), name()
    real.post("/user/new", user_id=user, user_role="internal_user", auto_create_key=False)
    real.post("/user/new", user_id=alone, user_role="internal_user", max_budget=3, auto_create_key=False)
    real.post("/team/new", team_id=team, max_budget=5, budget_duration="30d", metadata={"cost_center": "42"})
    member = {"role": "user", "user_id": user}
    real.post("/team/member_add", team_id=team, member=member, max_budget_in_team=0.5)
    real.post("/customer/new", user_id=customer, max_budget=0.7)
    real.post("/tag/new", name=tag, max_budget=0.6)
    windows = [{"budget_duration": "1h", "max_budget": 0.3}]
    key = real.key(key_alias=name(), team_id=team, user_id=user, max_budget=2, budget_limits=windows)
    return {
        "key": f"litellm:key:{key['token_id']}",
        "window": f"litellm:key:{key['token_id']}:window:1h",
        "team": f"litellm:team:{team}",
        "member": f"litellm:member:{team}/{user}",
        "user": f"litellm:user:{alone}",
        "end_user": f"litellm:end_user:{customer}",
        "tag": f"litellm:tag:{tag}",
        "secret": key["key"],
        "asks": json.dumps({"user": customer, "metadata": {"tags": [tag]}}),
    }


KINDS = ("key", "window", "team", "member", "user", "end_user", "tag")


def test_the_plan_changes_nothing_and_a_second_import_finds_nothing_to_do(
    real: Real, spendmeter: Any
) -> None:
    made = objects(real)
    ids = {made[kind] for kind in KINDS}

    planned = spendmeter()
    assert ids <= set(planned["created"])
    assert not ids & set(real.budgets()), "a plan is only shown"

    done = spendmeter("--apply")
    assert ids <= set(done["created"])
    found = real.budgets()
    assert {found[one].updated_by for one in ids} == {"spendmeter import litellm"}
    assert found[made["team"]].limit_nanousd == from_usd("5")

    again = spendmeter("--apply")
    assert (again["created"], again["changed"], again["removed"], again["litellm"]) == ([], [], [], [])
    assert ids <= set(again["unchanged"])


def test_what_was_taken_over_stays_in_force_and_can_be_put_back(real: Real, spendmeter: Any) -> None:
    made = objects(real)
    ids = {made[kind] for kind in KINDS}
    key_hash = made["key"].removeprefix("litellm:key:")
    asks = json.loads(made["asks"])
    # Adopted first: the take-over must not look like limits that were lifted.
    assert real.ask(made["secret"], **asks).status_code == 200
    real.until(made["tag"], lambda budget: budget is not None)

    taken = spendmeter("--take-over", "--apply")
    assert taken["failed"] == []
    info = real.get("/key/info", key=key_hash)["info"]
    assert (info["max_budget"], info["budget_limits"] or None) == (None, None)
    team = made["team"].removeprefix("litellm:team:")
    team_info = real.get("/team/info", team_id=team)["team_info"]
    assert team_info["max_budget"] is None
    assert team_info["metadata"] == {"cost_center": "42", "spendmeter_taken_over": {"max_budget": 5.0}}
    (tag,) = [one for one in real.get("/tag/list") if made["tag"].endswith(one["name"])]
    assert tag["litellm_budget_table"]["max_budget"] is None

    # LiteLLM's own caches let go of the limits by and by; ours must outlive that.
    def asks_show_no_limit() -> bool:
        assert real.ask(made["secret"], **asks).status_code == 200
        return ids <= set(real.budgets())

    assert wait_until(asks_show_no_limit, timeout_seconds=WITHIN_SECONDS)
    assert spendmeter("--take-over", "--apply")["litellm"] == []
    assert ids <= set(real.budgets())

    back = spendmeter("--undo", "--apply")
    assert back["failed"] == []
    info = real.get("/key/info", key=key_hash)["info"]
    assert info["max_budget"] == 2
    assert [one["max_budget"] for one in info["budget_limits"]] == [0.3]
    assert "spendmeter_taken_over" not in info["metadata"]
    team_info = real.get("/team/info", team_id=team)["team_info"]
    assert (team_info["max_budget"], team_info["metadata"]) == (5, {"cost_center": "42"})
    (tag,) = [one for one in real.get("/tag/list") if made["tag"].endswith(one["name"])]
    assert tag["litellm_budget_table"]["max_budget"] == 0.6
    assert spendmeter("--undo", "--apply")["litellm"] == []


def test_after_a_take_over_ours_refuses_and_a_raise_here_is_enough(real: Real, spendmeter: Any) -> None:
    # Two requests' worth: LiteLLM itself would refuse the third, and go on doing so.
    key = real.key(key_alias=name(), max_budget=0.001)
    budget_id = f"litellm:key:{key['token_id']}"
    spendmeter("--take-over", "--apply")

    answers: list[httpx.Response] = []

    def is_refused() -> bool:
        answers.append(real.ask(key["key"]))
        return answers[-1].status_code != 200

    assert wait_until(is_refused, timeout_seconds=WITHIN_SECONDS), real.tail()
    assert answers[-1].headers.get("x-spendmeter-budget") == budget_id, answers[-1].text

    async def raise_it() -> None:
        async with connect(real.settings) as client:
            await client.raise_limit(budget_id, from_usd("1"), datetime.now(UTC) + timedelta(hours=1))

    asyncio.run(raise_it())
    assert wait_until(lambda: real.ask(key["key"]).status_code == 200, timeout_seconds=WITHIN_SECONDS)
    assert real.ask(key["key"]).status_code == 200
