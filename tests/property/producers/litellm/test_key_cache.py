"""A remembered key is as good as one that is looked at anew, whatever LiteLLM shows next."""

from copy import deepcopy
from typing import Any
from unittest.mock import patch

import litellm
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litellm.caching.caching import DualCache
from litellm.litellm_core_utils.litellm_logging import StandardLoggingPayloadSetup
from litellm.proxy._types import (
    LiteLLM_EndUserTable,
    LiteLLM_TeamMembership,
    LiteLLM_TeamTable,
    LiteLLM_UserTable,
    UserAPIKeyAuth,
)

from spendmeter_gateway.adoption import Adopter
from spendmeter_gateway.litellm.admission.budgets import Around, memory_of, seen_of_key, seen_of_request
from spendmeter_gateway.litellm.admission.key_cache import KeyCache
from spendmeter_gateway.litellm.fields import fields_of, tags
from spendmeter_gateway.litellm.payload.logged_call import read_log_event
from spendmeter_gateway.litellm.request.caller import caller_of, request_fields, who_asks
from spendmeter_gateway.settings import GatewaySettings

LIMITS = {"max_budget": 5.0, "soft_budget": 1.0, "budget_duration": "1d", "model_max_budget": {}}
METADATA = {"spendmeter_budget": {"limit_usd": 1}, "temp_budget_increase": 1}
TABLE = {"max_budget": 0.5, "budget_duration": "1d", "soft_budget": None}
KEY = {
    **LIMITS,
    "key_alias": "vip",
    "user_id": "ann",
    "team_id": "red",
    "org_id": "o",
    "project_id": "p",
    "end_user_id": None,
    "team_alias": "Red",
    "metadata": METADATA,
    "team_metadata": None,
    "is_session_token": False,
}
SHOWN: dict[str, Any] = {
    "one": {**KEY, "api_key": "sk-one"},
    "two": {**KEY, "api_key": "sk-two"},
    "team": {**LIMITS, "team_id": "red", "metadata": METADATA},
    "member": {"user_id": "ann", "team_id": "red", "litellm_budget_table": TABLE},
    "user": {
        "user_id": "ann",
        "max_budget": 3,
        "user_role": "internal_user",
        "teams": [],
        "metadata": {},
    },
    "organization": {"litellm_budget_table": TABLE},
    "project": {"litellm_budget_table": TABLE, "metadata": {}},
    "end_user": {"user_id": "e", "blocked": False, "budget_id": "b", "litellm_budget_table": TABLE},
    "tag": {"litellm_budget_table": TABLE},
    "data": {"model": "m", "litellm_session_id": None},
    "metadata": {"tags": ["t"], "session_id": "s1"},
    "litellm_metadata": {"tags": ["u"]},
    "body": {"user": "e"},
    "around": {
        "timezone": "UTC",
        "max_budget": 100.0,
        "budget_duration": "30d",
        "users_pay_for_teams": False,
    },
}
"""All that LiteLLM has of two keys of one team, and of what their requests name."""

OTHERS: list[tuple[str, str, Any]] = [
    *((key, name, value) for key in ("one", "team") for name, value in (
        ("max_budget", 6.0), ("max_budget", None), ("soft_budget", 2.0), ("budget_duration", "30d"),
        ("budget_limits", [{"budget_duration": "1h", "max_budget": 0.3}]),
        ("model_max_budget", {"gpt-4o": {"budget_limit": 1}}), ("budget_reset_at", "2026-12-01T00:00:00Z"),
        ("metadata", {}), ("metadata", {**METADATA, "spendmeter_taken_over": {"max_budget": 1}}),
    )),
    ("one", "metadata", {**METADATA, "temp_budget_increase": 2}),
    ("one", "metadata", {**METADATA, "temp_budget_expiry": "2026-12-01T00:00:00Z"}),
    *(("one", name, None) for name in ("key_alias", "user_id", "team_id", "org_id", "project_id")),
    ("one", "team_alias", "Rouge"),
    ("one", "is_session_token", True),
    ("one", "end_user_id", "f"),
    ("one", "user_id", "bob"),
    ("one", "team_metadata", {"spendmeter_budget": {"limit_usd": 2}}),
    ("two", "team_metadata", {"spendmeter_budget": {"limit_usd": 3}}),
    *((one, "litellm_budget_table", {**TABLE, **table})
      for one in ("member", "organization", "project", "end_user", "tag")
      for table in ({"max_budget": 7}, {"temp_budget_increase": 1.0}, {"temp_budget_expiry": "2026-12-01"})),
    ("end_user", "budget_id", None),
    ("user", "max_budget", 4),
    ("user", "user_role", None),
    ("user", "teams", ["red"]),
    ("project", "metadata", {"spendmeter_taken_over": {"max_budget": 1}}),
    ("data", "model", "n"),
    ("data", "model", None),
    ("data", "litellm_session_id", "s3"),
    ("metadata", "tags", []),
    ("metadata", "tags", ["v"]),
    ("metadata", "session_id", None),
    ("litellm_metadata", "session_id", "s2"),
    ("body", "user", "f"),
    ("around", "timezone", "Asia/Tokyo"),
    ("around", "max_budget", None),
    ("around", "budget_duration", "1d"),
    ("around", "users_pay_for_teams", True),
]  # fmt: skip
"""Things that can be otherwise at the next request, each alone."""


class Proxy:
    """Asks with two keys in turn, and holds what is remembered against what is to be seen."""

    def __init__(self) -> None:
        settings = GatewaySettings(kafka_bootstrap="nowhere:1")
        # Adoption that takes in and never gets to work.
        self.adopter = Adopter(settings, None)  # type: ignore[arg-type]
        self.keys = KeyCache(self.adopter, "g")
        self.shown = deepcopy(SHOWN)

    def asks(self, which: str) -> None:
        shown = deepcopy(self.shown)
        auth, cache, data = UserAPIKeyAuth(**shown[which]), _cache(shown), _data(shown)
        around = Around(**shown["around"])
        told = request_fields(data, ())
        key = self.keys.key(vars(auth))
        request = self.keys.request(key, told)
        self.keys.note_budgets(key, request, vars(auth), cache, around)

        assert request.caller == caller_of(who_asks(vars(auth), "g"), told)
        memory, subject = memory_of(cache), request.caller.subject
        of_key = seen_of_key(fields_of(auth), memory, subject, around)
        for seen in (*of_key, *seen_of_request(memory, subject, around)):
            assert self.adopter._known[seen.kind, *seen.names] == seen


@pytest.mark.parametrize(("what", "field", "value"), OTHERS)
def test_one_thing_that_is_otherwise_is_seen_and_so_is_its_return(what: str, field: str, value: Any) -> None:
    proxy = Proxy()
    proxy.asks("one")
    proxy.asks("one")
    proxy.shown[what][field] = value
    proxy.asks("one")
    proxy.asks("two")
    proxy.asks("one")
    proxy.shown = deepcopy(SHOWN)
    proxy.asks("one")


@given(st.lists(st.sampled_from(["one", "two"]) | st.sampled_from(OTHERS), max_size=30))
def test_each_request_is_known_and_noted_as_if_it_were_the_first(steps: list[Any]) -> None:
    proxy = Proxy()
    for step in steps:
        if isinstance(step, str):
            proxy.asks(step)
        else:
            what, field, value = step
            proxy.shown[what][field] = value


@given(
    st.sampled_from([None, {}, {"tags": []}, {"tags": ["t", "t", "User-Agent: me"]}]),
    st.sampled_from([None, {}, {"tags": ["u"]}]),
    st.sampled_from([{}, {"user-agent": "curl/8", "x-cost": "1"}, {"x-cost": ""}]),
    st.sampled_from([[], ["x-cost", "x-none"]]),
)
def test_a_request_has_the_tags_that_its_event_will_have(
    metadata: Any, litellm_metadata: Any, headers: dict[str, str], tag_headers: list[str]
) -> None:
    both = {"metadata": metadata, "litellm_metadata": litellm_metadata}
    with patch.object(litellm, "extra_spend_tag_headers", tag_headers, create=True):
        logged = StandardLoggingPayloadSetup.get_request_tags(both, {"headers": headers})

    told = request_fields({**both, "proxy_server_request": {"headers": headers}}, tag_headers)
    assert set(tags(logged)) <= set(told.tags)
    event = {"litellm_params": both, "standard_logging_object": {"request_tags": logged}}
    assert told.tags == read_log_event(event).caller.subject.tags


def _cache(shown: dict[str, Any]) -> DualCache:
    cache = DualCache()
    cache.in_memory_cache.cache_dict |= {
        "team_id:red": LiteLLM_TeamTable(**shown["team"]),
        "team_membership:ann:red": LiteLLM_TeamMembership(**shown["member"]),
        "ann": LiteLLM_UserTable(**shown["user"]),
        "org_id:o:with_budget": shown["organization"],
        "project_id:p": shown["project"],
        "end_user_id:e": LiteLLM_EndUserTable(**shown["end_user"]),
        "tag:t": shown["tag"],
    }
    return cache


def _data(shown: dict[str, Any]) -> dict[str, Any]:
    metadata = {"metadata": shown["metadata"], "litellm_metadata": shown["litellm_metadata"]}
    return {**shown["data"], **metadata, "proxy_server_request": {"body": shown["body"]}}
