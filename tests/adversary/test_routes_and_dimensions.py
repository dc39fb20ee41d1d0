"""Every budget refuses on every route and along every dimension that its events carry.

Each cell has a user and a budget of its own: the first call spends it, the second is refused. A budget for
any value of the dimension (`*`) has an account only where event and request name the same value.
"""

import pytest

from spendmeter.values.dimensions import DIMENSIONS
from tests.adversary.case import Case
from tests.adversary.conftest import Adversary
from tests.adversary.routes import ROUTES, request

SPENT = "0.000000001"
HEADERS = {"x-litellm-end-user-id": "a-customer", "x-litellm-session-id": "a-session"}
OF_THE_KEY = {"metadata": {"tags": ["house-tag"]}, "team_id": "a-team"}

FREE = ("moderations",)
"""Without a price nothing can be spent there."""
FROM_THE_KEY_ALONE = ("organization", "project")
"""Authentication says them as it says the team; the local stack's keys have none."""
SEVERAL_WAYS = {
    "by an alias": "my-4o",
    "by the deployment's id": "deployment-of-gpt-4o",
    "by the provider's name": "openai/gpt-4o",
    "by a fallback": "failing",
    "in a list": "gpt-4o,gpt-4o-mini",
}
WAYS = [(route, ROUTES[route].models[0], route) for route in ROUTES if route not in FREE] + [
    ("chat", model, f"chat {way}") for way, model in SEVERAL_WAYS.items()
]


@pytest.mark.parametrize("dimension", [d for d in DIMENSIONS if d not in FROM_THE_KEY_ALONE])
@pytest.mark.parametrize(("route", "model", "way"), WAYS, ids=[way for _, _, way in WAYS])
def test_a_spent_budget_refuses(
    adversary: Adversary, route: str, model: str, way: str, dimension: str
) -> None:
    owner = adversary.owner({"limit_usd": SPENT, "match": {dimension: "*"}}, **OF_THE_KEY)
    statuses = []
    for _ in range(2):
        made = request(Case(route, model, words=5), adversary.nonce(owner), "")
        answer = adversary.send_made(owner, made, HEADERS)
        statuses.append(answer.status_code)
        assert answer.status_code in (200, 422), answer.text
        adversary.account(owner, calls=1)
    assert statuses == [200, 422]
