"""Refused although the budget was not spent: counters that were stale, doubled, leaked or reserved."""

from concurrent.futures import ThreadPoolExecutor

from tests.regression.litellm.person import Person, refused, told_cost
from tests.regression.litellm.stack import ASK_COSTS, Stack, until


def test_27735_a_key_is_refused_only_when_key_info_shows_its_limit_reached(stack: Stack) -> None:
    """Used to: refused on stale spend while /key/info showed spend below max_budget."""
    person = Person(stack, max_budget=5 * ASK_COSTS / 1e9)
    answer = person.until_refused()
    shown = stack.first.admin("GET", "/key/info", params={"key": person.key})["info"]

    assert len(stack.upstream.calls(person.since)) == 5
    assert told_cost(answer) == person.cost() == 5 * ASK_COSTS
    assert shown["spend"] == shown["max_budget"] == 5 * ASK_COSTS / 1e9


def test_27639_what_a_failed_request_might_have_cost_is_free_again(stack: Stack) -> None:
    """Used to: reservations leaked, and the budget was full of requests that had ended."""
    # 990 of the 1,000 tokens that the limit pays for, so that a single leaked hold would refuse.
    person = Person(stack, {"match": {"user": "me"}, "limit_nanousd": 600_000, "enforcement": "strict"})
    for _ in range(5):
        assert person.asks("in=10 out=10 status=500", max_tokens=900).status_code == 500
    answer = person.asks("in=10 out=900", max_tokens=900)

    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 900
    assert person.settles() == 10 * 150 + 900 * 600


def test_28283_known_spend_is_never_a_multiple_of_what_was_spent(stack: Stack) -> None:
    """Used to: the counter showed 3 to 6 times the real spend, and refused."""
    person = Person(stack, max_budget=11 * ASK_COSTS / 1e9)
    shown = []
    for _ in range(10):
        assert person.asks().status_code == 200
        # Before, while and after the event goes round through Kafka.
        shown += [stack.first.spent(person.key) for _ in range(3)]
        assert max(shown) <= person.cost()

    assert person.settles() == 10 * ASK_COSTS
    person.until_history(10, 10 * ASK_COSTS)
    assert person.asks().status_code == 200


def test_30460_two_proxies_under_load_know_the_same_spend(stack: Stack) -> None:
    """Used to: with two pods the counter grew faster than spend, and keys were refused early."""
    person = Person(stack, proxies=stack.proxies, max_budget=41 * ASK_COSTS / 1e9)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: person.asks(at=stack.proxies[n % 2]), range(40)))

    assert {answer.status_code for answer in answers} == {200}
    assert person.settles() == 40 * ASK_COSTS
    assert person.asks(at=stack.first).status_code == 200
    person.settles()
    assert [told_cost(refused(person.asks(at=proxy))) for proxy in stack.proxies] == [41 * ASK_COSTS] * 2


def test_36926_a_running_stream_is_not_spend(stack: Stack) -> None:
    """Used to: while one request ran, another was told `Current cost` = max_budget + recent spend."""
    person = Person(stack, max_budget=2 * ASK_COSTS / 1e9)
    with person.streams("in=1000 out=100 chunks=8 chunk_delay_ms=250") as stream:
        lines = stream.iter_lines()
        assert next(lines)
        answer = person.asks()
        assert answer.status_code == 200, answer.text
        assert [line for line in lines if "[DONE]" in line]

    assert person.settles() == 2 * ASK_COSTS
    assert told_cost(refused(person.asks())) == 2 * ASK_COSTS


def test_22726_a_key_without_a_budget_is_refused_by_nobody_elses(stack: Stack) -> None:
    """Used to: `Budget has been exceeded! Max budget: 0.25` for keys on which no budget was set."""
    poor = Person(stack, max_budget=ASK_COSTS / 1e9)
    poor.until_refused()
    free = Person(stack, max_budget=None)
    for _ in range(5):
        assert free.asks("in=100000 out=10000").status_code == 200
    free.until_history(5, free.cost())

    assert stack.first.admin("GET", "/key/info", params={"key": free.key})["info"]["max_budget"] is None
    assert free.asks().status_code == 200


def test_34492_a_window_that_has_just_begun_is_empty(stack: Stack) -> None:
    """Used to: a new window began with the spend of the time before it, and refused at once."""
    person = Person(stack, max_budget=ASK_COSTS / 1e9)
    person.until_refused()
    stack.first.admin("POST", "/key/update", json={"key": person.key, "budget_duration": "2s"})

    until(lambda: person.asks().status_code == 200)
    # The two requests are spend of two windows, and history has them both.
    person.until_history(2, 2 * ASK_COSTS)
