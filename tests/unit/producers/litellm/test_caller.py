"""Who asks, and by which name they are told so."""

from typing import Any

import pytest

from spendmeter_gateway.litellm.request.caller import who_asks

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
