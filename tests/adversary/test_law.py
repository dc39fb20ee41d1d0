"""The law without a proxy: it must be able to fail, and to shrink."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.adversary import law
from tests.adversary.case import Case, Control, from_json
from tests.adversary.generate import generate
from tests.adversary.law import Account
from tests.adversary.markers import AFTER, DURING
from tests.adversary.owners import SPENT, Owner
from tests.adversary.prices import bill
from tests.adversary.routes import ROUTES, request
from tests.adversary.shrink import narrow, shrink
from tests.adversary.world import Sent, allow_unsent, marked_calls

OWNER = Owner("plain-0", "sk-0", "hash-0", "u-plain-0")
CALL: dict[str, Any] = {
    "nonce": 1,
    "path": "/v1/chat/completions",
    "model": "gpt-4o",
    "outcome": "served",
    "fault": "none",
    "usage_given": True,
    "input_tokens": 1000,
    "output_tokens": 100,
    "cached_tokens": 0,
    "cache_write_tokens": 0,
    "input_word_count": 8,
    "units": 0,
}
EVENT: dict[str, Any] = {
    "key": "hash-0",
    "user": "u-plain-0",
    "team": None,
    "cost_nanousd": "3500000",
    "status": "success",
    "estimated": False,
}


def kinds(calls: Sequence[Any], events: Sequence[Any], owner: Owner = OWNER) -> set[str]:
    return {one.kind for one in law.violations(Account(owner, list(calls), list(events)))}


def test_a_call_and_its_event_are_even() -> None:
    assert kinds([CALL], [EVENT]) == set()


@pytest.mark.parametrize(
    ("calls", "events", "kind"),
    [
        ([CALL], [], law.LESS),
        ([CALL, CALL], [EVENT], law.LESS),
        ([CALL], [EVENT, EVENT], law.MORE),
        ([CALL], [EVENT | {"cost_nanousd": "3499999"}], law.LESS),
        ([CALL], [EVENT | {"cost_nanousd": "3500001"}], law.MORE),
        ([], [EVENT], law.MORE),
        ([CALL], [EVENT | {"user": "somebody"}], law.MIXED),
        ([CALL | {"usage_given": False}], [EVENT | {"cost_nanousd": "100000"}], law.UNMARKED),
        ([CALL | {"usage_given": False}], [EVENT | {"cost_nanousd": "0"}], law.LESS),
    ],
)
def test_each_breach_is_seen(calls: Sequence[Any], events: Sequence[Any], kind: str) -> None:
    assert kind in kinds(calls, events)


def test_an_estimate_that_says_so_is_even() -> None:
    assert kinds([CALL | {"usage_given": False}], [EVENT | {"estimated": True}]) == set()


def test_what_was_left_before_it_was_sent_may_be_estimated_and_only_that() -> None:
    def found(event: dict[str, Any]) -> set[str]:
        account = Account(OWNER, [], [event], unsent_most=3_500_000)
        return {one.kind for one in law.violations(account)}

    assert found(EVENT | {"estimated": True}) == set()
    assert found(EVENT) == {law.MORE}
    assert found(EVENT | {"estimated": True, "cost_nanousd": "3500001"}) == {law.MORE}


@pytest.mark.parametrize(
    ("outcome", "has_no_stream", "is_unread"),
    [("served", True, True), ("served", False, False), ("failed", True, False)],
)
def test_what_litellm_answers_with_an_error_in_place_of_a_stream_it_need_not_have_read(
    outcome: str, has_no_stream: bool, is_unread: bool
) -> None:
    sent = Sent(Case("chat", "gpt-4o", stream=True), OWNER, 1, has_no_stream=has_no_stream)
    (marked,) = marked_calls([CALL | {"outcome": outcome}], [sent])
    assert marked["is_unread"] is is_unread


@pytest.mark.parametrize(("marker", "is_allowed"), [(DURING, True), (AFTER, False), ("", False)])
def test_what_a_guardrail_blocks_beside_the_call_may_not_have_been_sent(
    marker: str, is_allowed: bool
) -> None:
    account = Account(OWNER)
    sent = Sent(Case("completions", "instruct", marker=marker), OWNER, 1, statuses=[400])
    allow_unsent({OWNER.key_hash: account}, [sent], [])
    assert bool(account.unsent_most) is is_allowed


@pytest.mark.parametrize(
    ("model", "control", "is_left"),
    [
        ("gpt-4o,gem", "fastest_response", True),
        ("gpt-4o,gem", "caching", False),
        ("gpt-4o", "fastest_response", False),
        ("gpt-4o", "timeout", True),
    ],
)
def test_the_calls_that_lose_a_race_may_be_cancelled_before_they_were_sent(
    model: str, control: str, is_left: bool
) -> None:
    assert Case("chat", model, controls=(Control(control, "true"),)).is_left is is_left


def test_what_nobody_sent_and_what_the_victim_pays_are_seen() -> None:
    victim = replace(OWNER, is_victim=True)
    assert kinds([], [EVENT], victim) == {law.OTHER}
    _, strays = law.accounts([OWNER], {}, [CALL], [EVENT | {"key": ""}])
    assert [one.kind for one in strays] == [law.OTHER, law.OTHER]


@pytest.mark.parametrize("kind", SPENT)
def test_a_call_past_a_spent_budget_is_seen(kind: str) -> None:
    assert law.PAST in kinds([CALL], [EVENT], replace(OWNER, spent=kind))


@pytest.mark.parametrize(("limit", "is_over"), [(3_500_000, False), (3_499_999, True)])
def test_a_strict_budget_that_is_overspent_is_seen(limit: int, is_over: bool) -> None:
    assert (law.OVER in kinds([CALL], [EVENT], replace(OWNER, strict_limit_nanousd=limit))) == is_over


def test_bills_are_tokens_times_list_prices() -> None:
    assert bill(CALL | {"cached_tokens": 400}).least == 600 * 2500 + 400 * 1250 + 100 * 10_000
    assert bill(CALL | {"model": "house-7b"}).least == 1000 * 400 + 100 * 1200
    assert bill(CALL | {"model": "free-7b"}).most == 0
    assert bill(CALL | {"model": "house-experiment-7b"}).most == 0
    assert bill(CALL | {"model": "rerank-v3.5", "units": 2}).least == 4_000_000


def test_a_seed_and_a_number_are_one_case_and_are_read_back() -> None:
    for number in range(500):
        case = generate(7, number)
        assert case == generate(7, number) == from_json(case.to_json())
        request(case, 1, "victim")
    assert {generate(7, number).route for number in range(500)} == set(ROUTES)


async def test_a_failing_batch_shrinks_to_the_request_that_fails() -> None:
    culprit = Case(
        "chat",
        "gpt-4o",
        controls=(Control("no-log", "true"), Control("timeout", "0.05"), Control("user", '"x"')),
        stream=True,
        repeat=5,
        depth=40,
    )

    async def fails(cases: Sequence[Case]) -> bool:
        return any(control.name == "timeout" for case in cases for control in case.controls)

    cases = [Case("chat", "gpt-4o-mini")] * 30 + [culprit] + [Case("embeddings", "embed")] * 29
    (found,) = await narrow(cases, fails)
    assert found == culprit
    least = await shrink(found, fails)
    assert least.controls == (Control("timeout", "0.05"),)
    assert (least.stream, least.repeat, least.depth, least.words) == (False, 1, 0, 3)
