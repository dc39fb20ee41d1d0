"""The key API on the real proxy, as a client written for LiteLLM's finds it; `spendmeter key` is one."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
import pytest
from click.testing import CliRunner
from litellm.proxy._types import GenerateKeyResponse, LiteLLM_VerificationToken

from spendmeter.cli.main import main
from spendmeter.domain.window import window_of
from spendmeter_local.probes import wait_until
from tests.builders import budget
from tests.patience import WITHIN_SECONDS

from .conftest import Proxy


def call(proxy: Proxy, method: str, path: str, *, key: str | None = None, **arguments: Any) -> httpx.Response:
    key = proxy.master_key if key is None else key
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.request(method, proxy.url + path, headers=headers, timeout=WITHIN_SECONDS, **arguments)


def complete(proxy: Proxy, key: str, model: str = "gpt-4o-mini") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi. [[in=1000 out=100]]"}]}
    return call(proxy, "POST", "/v1/chat/completions", key=key, json=body)


def alias() -> str:
    return f"alias-{uuid4().hex[:8]}"


def hash_of(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def refused(answer: httpx.Response, status: int, kind: str) -> str:
    """The message of a refusal in LiteLLM's shape."""
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (status, kind, str(status))
    return str(error["message"])


def test_generate_answers_as_litellm_does(proxy: Proxy) -> None:
    name = alias()

    asked = {
        "key_alias": name,
        "user_id": "ann",
        "team_id": "research",
        "organization_id": "acme",
        "max_budget": 0.5,
        "budget_duration": "1d",
        "metadata": {"cost_center": 7},
    }
    made = call(proxy, "POST", "/key/generate", json=asked).json()

    shape = GenerateKeyResponse(**{k: v for k, v in made.items() if k != "token"})
    assert set(LiteLLM_VerificationToken.model_fields) - set(made) <= LITELLMS_OWN
    assert shape.key.startswith("sk-")
    assert made["token"] == made["token_id"] == hash_of(made["key"])
    assert made["key_name"] == f"sk-...{made['key'][-4:]}"
    assert {field: made[field] for field in asked} == asked
    assert made["expires"] is None


# What LiteLLM keeps for features that this proxy has not, and says in /key/info at most.
LITELLMS_OWN = {
    "spend",
    "total_spend",
    "agent_id",
    "tpd_limit",
    "budget_reset_at",
    "allowed_cache_controls",
    "allowed_routes",
    "key_type",
    "model_spend",
    "model_max_budget",
    "budget_fallbacks",
    "soft_budget_cooldown",
    "settings_updated_at",
    "last_active",
    "object_permission_id",
    "object_permission",
    "access_group_ids",
    "rotation_count",
    "auto_rotate",
    "rotation_interval",
    "last_rotation_at",
    "key_rotation_at",
    "router_settings",
    "budget_limits",
}


def test_a_budget_is_enforced_from_the_first_request_on(proxy: Proxy) -> None:
    made = proxy.key(key_alias=alias(), max_budget=0.0002)

    # Each costs 1000 × $0.15 + 100 × $0.60 per million: $0.00021.
    first = complete(proxy, made["key"])
    wait_for_spend(proxy, made["key"], 0.00021)
    second = complete(proxy, made["key"])

    assert first.status_code == 200
    message = refused(second, 422, "budget_exceeded")
    assert "Budget has been exceeded!" in message
    assert "Current cost: 0.00021, Max budget: 0.0002" in message


def wait_for_spend(proxy: Proxy, key: str, spend: float) -> None:
    found: list[float] = []

    def look() -> bool:
        found.append(info(proxy, key)["spend"])
        return found[-1] == spend

    assert wait_until(look, timeout_seconds=WITHIN_SECONDS), found[-1]


def info(proxy: Proxy, key: str, **arguments: Any) -> dict[str, Any]:
    answer = call(proxy, "GET", "/key/info", params={"key": key}, **arguments)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["info"]
    return found


def test_info_takes_the_key_or_its_hash_and_shows_neither_more_than_asked(proxy: Proxy) -> None:
    made = proxy.key(key_alias=alias(), max_budget=1, budget_duration="1d")

    by_key, by_hash = (info(proxy, made["key"]), info(proxy, made["token"]))

    assert by_key == by_hash
    assert made["token"] not in json.dumps(by_key)
    assert (by_key["spend"], by_key["max_budget"], by_key["status"]) == (0.0, 1.0, "active")
    window = window_of(budget(period="day"), datetime.now(UTC))
    assert window is not None
    assert window.end is not None
    assert datetime.fromisoformat(by_key["budget_reset_at"]) == window.end


def test_a_key_reads_itself_and_no_other(proxy: Proxy) -> None:
    mine, other = proxy.key(key_alias=alias()), proxy.key(key_alias=alias())

    itself = call(proxy, "GET", "/key/info", key=mine["key"])
    another = call(proxy, "GET", "/key/info", key=mine["key"], params={"key": other["key"]})

    assert itself.json()["info"]["key_alias"] == mine["key_alias"]
    assert another.status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/key/generate", {}),
        ("POST", "/key/update", {"key": "x"}),
        ("GET", "/key/list", None),
        ("POST", "/key/delete", {"keys": ["x"]}),
    ],
)
def test_all_else_needs_the_master_key(proxy: Proxy, method: str, path: str, body: Any) -> None:
    made = proxy.key(key_alias=alias())

    assert call(proxy, method, path, key=made["key"], json=body).status_code in (401, 403)
    refused(call(proxy, method, path, key="sk-nobody-0123456789", json=body), 401, "token_not_found_in_db")
    refused(call(proxy, method, path, key="", json=body), 401, "auth_error")


def test_an_alias_is_given_once(proxy: Proxy) -> None:
    made = proxy.key(key_alias=alias())

    again = call(proxy, "POST", "/key/generate", json={"key_alias": made["key_alias"]})

    message = refused(again, 400, "bad_request_error")
    assert message == (
        f"Key with alias '{made['key_alias']}' already exists."
        " Unique key aliases across all keys are required."
    )


def test_the_list_is_paged_filtered_and_holds_hashes(proxy: Proxy) -> None:
    team = alias()
    made = [proxy.key(key_alias=alias(), team_id=team) for _ in range(3)]

    first = call(proxy, "GET", "/key/list", params={"team_id": team, "size": 2}).json()
    whole = call(proxy, "GET", "/key/list", params={"team_id": team, "return_full_object": "true"}).json()

    assert first["keys"] == [made[2]["token"], made[1]["token"]]
    assert (first["total_count"], first["current_page"], first["total_pages"]) == (3, 1, 2)
    assert [one["key_alias"] for one in whole["keys"]] == [one["key_alias"] for one in reversed(made)]
    assert not any(one["key"] in json.dumps(whole) for one in made)


def test_a_raised_key_is_served_again_by_the_next_request(proxy: Proxy) -> None:
    made = proxy.key(key_alias=alias(), max_budget=0.0002)
    complete(proxy, made["key"])
    wait_for_spend(proxy, made["key"], 0.00021)
    refused(complete(proxy, made["key"]), 422, "budget_exceeded")

    updated = call(proxy, "POST", "/key/update", json={"key": made["key"], "max_budget": 0.01})

    assert updated.json()["max_budget"] == 0.01
    assert complete(proxy, made["key"]).status_code == 200


def test_a_limit_can_be_lifted(proxy: Proxy) -> None:
    made = proxy.key(key_alias=alias(), max_budget=0.0002)

    call(proxy, "POST", "/key/update", json={"key": made["token"], "max_budget": None})

    assert info(proxy, made["key"])["max_budget"] is None


def test_a_deleted_key_opens_nothing_and_its_alias_is_free(proxy: Proxy) -> None:
    made = proxy.key(key_alias=alias(), max_budget=1)

    answer = call(proxy, "POST", "/key/delete", json={"keys": [made["key"]]})

    assert answer.json() == {"deleted_keys": [made["key"]]}
    message = refused(complete(proxy, made["key"]), 401, "token_not_found_in_db")
    assert made["token"] in message
    assert made["key"] not in message
    refused(call(proxy, "GET", "/key/info", params={"key": made["key"]}), 404, "not_found_error")
    again = proxy.key(key_alias=made["key_alias"], max_budget=1)
    assert info(proxy, again["key"])["spend"] == 0


def test_keys_are_deleted_by_alias(proxy: Proxy) -> None:
    made = proxy.key(key_alias=alias())

    call(proxy, "POST", "/key/delete", json={"key_aliases": [made["key_alias"]]})

    refused(complete(proxy, made["key"]), 401, "token_not_found_in_db")
    nothing_left = call(proxy, "POST", "/key/delete", json={"key_aliases": [made["key_alias"]]})
    refused(nothing_left, 404, "not_found_error")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"max_budget": -1}, "above 0"),
        ({"max_budget": 0}, "above 0"),
        ({"max_budget": 1e12}, "above 0"),
        ({"max_budget": 1, "budget_duration": "banana"}, "budget_duration"),
        ({"duration": "banana"}, "duration"),
        ({"model_max_budget": {"gpt-4o": {"budget_limit": 1}}}, "model_max_budget"),
        ({"soft_budget": 0.5}, "soft_budget"),
        ({"key": "not-a-key-0123456789"}, "must start with 'sk-'"),
        ({"key": "sk-short"}, "at least 16"),
    ],
)
def test_a_limit_that_could_not_be_kept_is_refused(proxy: Proxy, body: dict[str, Any], told: str) -> None:
    answer = call(proxy, "POST", "/key/generate", json=body)

    assert told in refused(answer, 400, "bad_request_error")


def test_models_and_expiry_are_limits_too(proxy: Proxy) -> None:
    narrow = proxy.key(key_alias=alias(), models=["gpt-4o"])
    ended = proxy.key(key_alias=alias(), duration="0s")

    assert complete(proxy, narrow["key"], "gpt-4o").status_code == 200
    refused(complete(proxy, narrow["key"], "gpt-4o-mini"), 403, "key_model_access_denied")
    refused(complete(proxy, ended["key"]), 401, "expired_key")


def test_the_command_is_a_client_of_it(proxy: Proxy) -> None:
    name = alias()
    where = ["--url", proxy.url, "--master-key", proxy.master_key]
    asked = [
        "--alias",
        name,
        "--user",
        "ann",
        "--team",
        "t",
        "--max-budget",
        "0.25",
        "--budget-duration",
        "1d",
    ]

    made = json.loads(spendmeter("key", "create", *asked, *where, "--json"))
    listed = json.loads(spendmeter("key", "list", *where, "--json"))
    spendmeter("key", "delete", name, *where)

    assert made.pop("key").startswith("sk-")
    assert made == {
        "hash": made["hash"],
        "alias": name,
        "user": "ann",
        "team": "t",
        "max_budget_usd": "0.25",
        "budget_duration": "1d",
    }
    (mine,) = [one for one in listed if one["token"] == made["hash"]]
    assert (mine["user_id"], mine["max_budget"]) == ("ann", 0.25)
    assert "No keys found" in spendmeter("key", "delete", name, *where, exit_code=1)


def spendmeter(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == exit_code, result.output
    return result.output
