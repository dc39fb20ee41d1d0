"""Windows that never ended, and resets that some counter did not hear of."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.regression.litellm.person import Person, refused
from tests.regression.litellm.stack import ASK_COSTS, Stack, until

WINDOW = "PT4S"
WHO: dict[str, dict[str, str]] = {
    "27730": {"key": "me"},
    "8364": {"team": "me"},
    "20532": {"organization": "me"},
    "7129": {"user": "me", "end_user": "customer"},
    "24675": {"user": "me", "end_user": "*"},
}


@pytest.fixture(scope="module")
def rolled(stack: Stack) -> dict[str, list[int]]:
    """What each was answered in one window and the next, all at the same time."""
    each = {"limit_nanousd": 1, "period": WINDOW, "starts_at": datetime.now(UTC)}
    people = {number: Person(stack, {"match": match, **each}) for number, match in WHO.items()}
    with ThreadPoolExecutor(len(people)) as pool:
        answered = pool.map(_across_a_window, people.values())
        return dict(zip(people, answered, strict=True))


def _across_a_window(person: Person) -> list[int]:
    """Spend until refused, let that window end, and ask once in the next one."""
    answers = []

    def is_refused() -> bool:
        # On a busy machine a window may end between a request and its event; then it is served again.
        answers.append(person.asks(user="customer"))
        return answers[-1].status_code != 200

    until(is_refused)
    time.sleep(int(refused(answers[-1]).headers["retry-after"]))
    return [answers[0].status_code, answers[-1].status_code, person.asks(user="customer").status_code]


@pytest.mark.parametrize("number", WHO)
def test_27730_8364_20532_7129_and_24675_a_window_ends_by_itself(
    rolled: dict[str, list[int]], number: str
) -> None:
    """Used to: a job had to reset keys, teams, organizations and end users, and failed or forgot them."""
    assert rolled[number] == [200, 422, 200]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda client, budget: client.reset(budget), id="reset"),
        pytest.param(lambda client, budget: client.set_limit(budget, 9 * ASK_COSTS), id="raise"),
    ],
)
def test_29576_and_30002_a_reset_is_heard_everywhere(stack: Stack, change: Callable[..., Any]) -> None:
    """Used to: after a reset the database said 0, and a counter that nobody had told went on refusing."""
    team = {"match": {"team": "me"}, "limit_nanousd": 2 * ASK_COSTS}
    person = Person(stack, team, proxies=stack.proxies)
    for proxy in stack.proxies:
        assert person.asks(at=proxy).status_code == 200
    person.settles()
    for proxy in stack.proxies:
        refused(person.asks(at=proxy))
    stack.change(lambda client: change(client, person.budgets[0].id))

    for proxy in stack.proxies:
        until(lambda proxy=proxy: person.asks(at=proxy).status_code == 200)  # type: ignore[misc]
    # What was spent before the reset is spent, and stays in history.
    cost = person.settles()
    person.until_history(cost // ASK_COSTS, cost)
