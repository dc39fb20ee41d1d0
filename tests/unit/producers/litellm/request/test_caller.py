"""Who asks, and by which name they are told so."""

from typing import Any

import pytest

from spendmeter.contract.usage import ALIASES
from spendmeter_gateway.litellm.request.caller import caller_of, request_fields, who_asks
from spendmeter_gateway.model import NO_ALIASES, Aliases

HASH = "ab" * 32


@pytest.mark.parametrize(
    ("auth", "name"),
    [
        ({"api_key": HASH, "key_alias": "ci", "user_id": "ann"}, "ci"),
        ({"api_key": HASH, "user_id": "ann"}, HASH),
        ({"user_id": "ann", "team_id": "red"}, "ann"),
        ({"api_key": None, "team_id": "red", "org_id": "acme"}, "red"),
        ({"org_id": "acme", "end_user_id": "eve"}, "acme"),
        ({"end_user_id": "eve"}, "eve"),
        ({}, "none"),
    ],
)
def test_a_caller_without_a_key_is_named_by_what_is_known_of_it(auth: dict[str, Any], name: str) -> None:
    assert who_asks(auth, "g").name == name


def test_names_for_people_are_those_of_authentication() -> None:
    auth = {
        "api_key": HASH,
        "user_email": "ann@example.com",
        "team_alias": "Search & Ads",
        "organization_alias": "Acme Inc.",
        "project_alias": "Ranking",
    }
    who = who_asks(auth, "g")
    sent = {"metadata": {"user_api_key_team_alias": "Another", "user_api_key_user_email": "eve@example.com"}}
    caller = caller_of(who, request_fields(sent, ()))

    assert caller.aliases == Aliases(None, "ann@example.com", "Search & Ads", "Acme Inc.", "Ranking")
    assert {name: caller.event_fields[name] for name in ALIASES} == caller.aliases._asdict()
    assert who_asks({"api_key": HASH, "team_alias": [7], "user_email": ""}, "g").aliases == NO_ALIASES
