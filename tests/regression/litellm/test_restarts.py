"""What a gateway knew when it ended. The proxies are ended, and stay so: this file comes last."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from spendmeter.values.account import account_name
from spendmeter_gateway.gateway import Gateway
from tests.regression.litellm.person import Person
from tests.regression.litellm.stack import ASK_COSTS, Proxy, Stack, gateway_on, until

RECORDED = "spendmeter_outbox_recorded_total"
REQUESTS = 20


def test_28247_gateways_that_start_together_read_one_total(stack: Stack, tmp_path: Path) -> None:
    """Used to: each pod that started added the database's spend to the shared counter: N pods, N times."""
    person = Person(stack, {"match": {"key": "me"}, "limit_nanousd": 9 * ASK_COSTS})
    for _ in range(4):
        assert person.asks().status_code == 200
    person.settles()
    with (
        gateway_on(stack, tmp_path / "a", "a") as one,
        gateway_on(stack, tmp_path / "b", "b") as two,
        gateway_on(stack, tmp_path / "c", "c") as three,
    ):
        for gateway in (one, two, three):
            until(lambda gateway=gateway: _knows(gateway, person, 4 * ASK_COSTS))  # type: ignore[misc]
        assert person.asks().status_code == 200
        for gateway in (one, two, three):
            until(lambda gateway=gateway: _knows(gateway, person, 5 * ASK_COSTS))  # type: ignore[misc]
    assert person.settles() == 5 * ASK_COSTS


def test_34805_what_was_recorded_survives_a_kill(stack: Stack) -> None:
    """Used to: spend buffered in memory was gone with the process."""
    budget = {"match": {"key": "me"}, "limit_nanousd": 100 * ASK_COSTS}
    person = Person(stack, budget, proxies=[stack.second])
    before = stack.second.metric(RECORDED)
    _spend(person, stack.second)
    until(lambda: stack.second.metric(RECORDED) == before + REQUESTS)
    stack.second.kill()
    with gateway_on(stack, stack.second.data, stack.second.name) as successor:
        person.until_history(REQUESTS, REQUESTS * ASK_COSTS)
        until(lambda: _knows(successor, person, REQUESTS * ASK_COSTS))


def test_38157_what_was_answered_survives_a_shutdown(stack: Stack) -> None:
    """Used to: a rolling update dropped the rows that had not been flushed, without a word."""
    budget = {"match": {"key": "me"}, "limit_nanousd": 100 * ASK_COSTS}
    person = Person(stack, budget)
    _spend(person, stack.first)
    stack.first.stop()
    with gateway_on(stack, stack.first.data, stack.first.name) as successor:
        person.until_history(REQUESTS, REQUESTS * ASK_COSTS)
        until(lambda: _knows(successor, person, REQUESTS * ASK_COSTS))


def _knows(gateway: Gateway, person: Person, nanousd: int) -> bool:
    account = account_name(person.budgets[0].id, [("key", person.hash)])
    return gateway.views.are_read and gateway.views.spent(account) == nanousd


def _spend(person: Person, at: Proxy) -> None:
    with ThreadPoolExecutor(8) as pool:
        codes = [answer.status_code for answer in pool.map(lambda _: person.asks(at=at), range(REQUESTS))]
    assert codes == [200] * REQUESTS
