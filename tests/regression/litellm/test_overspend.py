"""Spent past the limit: counters that no other pod saw, and checks made before anybody had paid."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spendmeter.contract.usage import CostSource
from spendmeter.domain.matching import Subject
from spendmeter.values.ids import uuid7
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.model import Caller, UsageDraft
from tests.regression.litellm.person import Person, refused, told_cost
from tests.regression.litellm.stack import ASK_COSTS, Stack, gateway_on, until

CLIENTS = 8
STRICT = {"enforcement": "strict"}
# The text has more tokens than that: what is billed for it is within what could be known before.
SMALL = "in=20 out=100"
SMALL_COSTS = 20 * 150 + 100 * 600


def test_26672_a_key_over_its_limit_is_served_at_none_of_several_proxies(stack: Stack) -> None:
    """Used to: with several replicas a key went on being served with its spend far above max_budget."""
    person = Person(stack, proxies=stack.proxies, max_budget=6 * ASK_COSTS / 1e9)

    def spends(number: int) -> list[int]:
        return [person.asks(at=stack.proxies[number % 2]).status_code for _ in range(4)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert {code for codes in pool.map(spends, range(CLIENTS)) for code in codes} <= {200, 422}
    spent = person.settles()
    assert spent >= 6 * ASK_COSTS
    for proxy in stack.proxies * 3:
        assert told_cost(refused(person.asks(at=proxy))) == spent

    assert person.cost() == spent, "nothing reached the model any more"
    person.until_history(spent // ASK_COSTS, spent)


def test_23714_a_strict_key_is_not_a_nanodollar_over_its_limit_however_many_ask_at_once(stack: Stack) -> None:
    """Used to: users could still make requests after exceeding max_budget."""
    limit = 6 * SMALL_COSTS + 1
    person = Person(stack, {"match": {"key": "me"}, "limit_nanousd": limit, **STRICT})

    def spends(_: int) -> list[int]:
        return [person.asks(SMALL, max_tokens=100).status_code for _ in range(3)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        codes = [code for codes in pool.map(spends, range(CLIENTS)) for code in codes]
    spent = person.settles()

    assert set(codes) == {200, 422}
    assert spent <= limit
    assert codes.count(200) == len(stack.upstream.calls(person.since))


def test_33325_the_budget_of_a_model_is_one_for_all_proxies(stack: Stack) -> None:
    """Used to: each pod counted model_max_budget for itself, so N pods allowed N budgets."""
    per_model = {"match": {"key": "me", "model_group": "gpt-4o-mini"}, "limit_nanousd": 4 * ASK_COSTS}
    person = Person(stack, per_model, proxies=stack.proxies)
    for number in range(4):
        assert person.asks(at=stack.proxies[number % 2]).status_code == 200
        person.settles()

    for proxy in stack.proxies:
        assert refused(person.asks(at=proxy)).headers["x-spendmeter-budget"] == person.budgets[0].id
        assert person.asks(at=proxy, model="gpt-4o").status_code == 200
    assert len(stack.upstream.calls(person.since)) == 4 + 2


def test_34238_the_budget_of_an_end_user_holds_whoever_asks_for_them(stack: Stack) -> None:
    """Used to: an end user over their budget was served on."""
    person = Person(stack, {"match": {"user": "me", "end_user": "*"}, "limit_nanousd": 2 * ASK_COSTS})
    for _ in range(2):
        assert person.asks(user="customer-1").status_code == 200
        person.settles()

    refused(person.asks(user="customer-1"))
    refused(person.asks(user="customer-1", stream=True))
    assert person.asks(user="customer-2").status_code == 200
    assert len(stack.upstream.calls(person.since)) == 3


def test_12905_a_users_budget_holds_for_keys_of_a_team(stack: Stack) -> None:
    """Used to: the budget of a user was not looked at for keys that belong to a team."""
    person = Person(stack, {"match": {"user": "me"}, "limit_nanousd": 2 * ASK_COSTS})
    answer = person.until_refused()

    assert answer.headers["x-spendmeter-budget"] == person.budgets[0].id
    assert person.cost() == 2 * ASK_COSTS


def test_40221_no_account_is_forgotten_for_the_sake_of_others(stack: Stack, tmp_path: Path) -> None:
    """Used to: counters lived in a cache of 200 entries, and what fell out of it began again at 0."""
    # Its admission and its records alone: hundreds of requests would say no more.
    person = Person(stack, {"match": {"user": "me", "end_user": "*"}, "limit_nanousd": 1})
    customers = [f"customer-{number}" for number in range(1_000)]
    with gateway_on(stack, tmp_path, "many") as gateway:
        until(lambda: gateway.views.are_read)
        refusals = asyncio.run(_all_spend(gateway, person, customers))

    assert None not in refusals


async def _all_spend(gateway: Gateway, person: Person, customers: list[str]) -> list[Refusal | None]:
    for name in customers:
        assert await gateway.admit(_asks_for(person, name)) is None
        gateway.record(_event(person, name))
    return [await gateway.admit(_asks_for(person, name)) for name in customers]


def _asks_for(person: Person, end_user: str) -> Caller:
    return Caller(Subject(key=person.hash, user=person.name, end_user=end_user), person.name)


def _event(person: Person, end_user: str) -> UsageDraft:
    now = datetime.now(UTC)
    who = {"key": person.hash, "user": person.name, "end_user": end_user}
    cost = {"cost_nanousd": 1, "cost_source": CostSource.LITELLM}
    when = {"event_id": uuid7(int(now.timestamp() * 1000)), "occurred_at": now, "started_at": now}
    return UsageDraft({**who, **cost, **when})


@pytest.mark.parametrize(
    ("number", "who"),
    [
        pytest.param(34732, {"headers": {"x-litellm-session-id": "session"}}, id="34732"),
        pytest.param(40095, {"user": "customer"}, id="40095"),
    ],
)
def test_34732_and_40095_a_burst_of_first_requests_shares_one_budget(
    stack: Stack, number: int, who: dict[str, Any]
) -> None:
    """Used to: concurrent requests of one session, or the first ones of an unknown end user, all passed."""
    dimension = "session" if number == 34732 else "end_user"
    limit = 3 * SMALL_COSTS + 1
    person = Person(stack, {"match": {"user": "me", dimension: "*"}, "limit_nanousd": limit, **STRICT})
    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(person.asks, SMALL, max_tokens=100, **who) for _ in range(CLIENTS)]
        codes = [one.result().status_code for one in asking]

    assert set(codes) == {200, 422}
    assert 0 < person.settles() <= limit
    assert codes.count(200) == len(stack.upstream.calls(person.since))
    assert person.asks().status_code == 200, "another session, no end user"


@pytest.mark.parametrize(
    ("path", "provider"),
    [("/v1/chat/completions", "openai"), ("/v1/responses", "openai"), ("/v1/messages", "anthropic")],
)
@pytest.mark.parametrize("stream", [False, True])
def test_38176_a_provider_budget_counts_every_route(
    stack: Stack, path: str, provider: str, stream: bool
) -> None:
    """Used to: provider budgets never counted /v1/responses or /v1/messages, so they never refused them."""
    person = Person(stack, {"match": {"user": "me", "provider": provider}, "limit_nanousd": 1})
    served = person.asks(path=path, stream=stream)
    assert served.status_code == 200, served.text
    person.settles()
    answer = person.asks(path=path, stream=stream)

    assert answer.status_code == 422, answer.text
    assert answer.headers["x-spendmeter-budget"] == person.budgets[0].id
    assert len(stack.upstream.calls(person.since)) == 1


def test_35570_what_is_recorded_while_a_total_is_read_counts_too(stack: Stack) -> None:
    """Used to: a counter read anew from the database forgot the cost that was just being added."""
    person = Person(stack, proxies=stack.proxies, max_budget=9)
    shown = [0]
    for number in range(10):
        at, other = stack.proxies[number % 2], stack.proxies[1 - number % 2]
        assert person.asks(at=at).status_code == 200
        # The other's events come as signals, while this one's own are counted at once: none may go.
        until(lambda at=at, number=number: at.spent(person.key) >= (number + 1) * ASK_COSTS)  # type: ignore[misc]
        shown.append(other.spent(person.key))
        assert shown[-1] <= person.cost()
    assert person.settles() == 10 * ASK_COSTS
