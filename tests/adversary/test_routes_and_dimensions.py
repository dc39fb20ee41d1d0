"""Every budget refuses on every route and along every dimension that its events carry.

Each cell has a user and a budget of its own: the first call spends it, the second is refused. A budget for
any value of the dimension (`*`) has an account only where event and request name the same value.
"""

import pytest

from spendmeter.values.dimensions import DIMENSIONS
from tests.adversary.case import Case
from tests.adversary.conftest import Adversary
from tests.adversary.routes import ROUTES
from tests.adversary.routes import request as made_of

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


COUNTED = [dimension for dimension in DIMENSIONS if dimension not in FROM_THE_KEY_ALONE]


@pytest.fixture(scope="module", params=WAYS, ids=[way for _, _, way in WAYS])
def statuses(request: pytest.FixtureRequest, adversary: Adversary) -> dict[str, list[int]]:
    """What each dimension's owner is answered on one way, twice; those of one way ask at one time."""
    route, model, _ = request.param
    owners = adversary.owners([[{"limit_usd": SPENT, "match": {one: "*"}}] for one in COUNTED], **OF_THE_KEY)
    found: dict[str, list[int]] = {dimension: [] for dimension in COUNTED}
    for _ in range(2):
        made = [(owner, made_of(Case(route, model, words=5), adversary.nonce(owner), "")) for owner in owners]
        for dimension, answer in zip(COUNTED, adversary.send_all_made(made, HEADERS), strict=True):
            assert answer.status_code in (200, 422), answer.text
            found[dimension].append(answer.status_code)
        for owner in owners:
            adversary.account(owner, calls=1)
    return found


@pytest.mark.parametrize("dimension", COUNTED)
def test_a_spent_budget_refuses(statuses: dict[str, list[int]], dimension: str) -> None:
    assert statuses[dimension] == [200, 422]
