"""What was seen to go wrong, each as a request or a few: issue 13, by number and by its small inputs."""

import asyncio
import json
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import pytest

from tests.adversary.case import Case, Control
from tests.adversary.conftest import GPT_4O, Adversary
from tests.adversary.law import violations
from tests.adversary.markers import AFTER, DURING
from tests.adversary.owners import Owner
from tests.adversary.prices import bill
from tests.adversary.routes import ROUTES, Request, request

HOLDS = "spendmeter_holds"
ERRORS = "spendmeter_internal_errors_total"
PASS_OPENAI, PASS_ANTHROPIC = "/openai_passthrough/v1/chat/completions", "/anthropic/v1/messages"
PASS_GEMINI = "/gemini/v1beta/models/gemini-2.5-flash:generateContent"
SPENT = {"limit_usd": "0.000001"}
MCP = [{"type": "mcp", "server_url": "litellm_proxy/mcp/toolbox", "require_approval": "never"}]


def charged(adversary: Adversary, owner: Owner) -> tuple[int, int]:
    """What was charged, and by how many events that cost something."""
    account = adversary.account(owner)
    return account.charged, sum(1 for event in account.events if int(event["cost_nanousd"]))


def only_event(adversary: Adversary, owner: Owner) -> Any:
    (event,) = [one for one in adversary.account(owner).events if int(one["cost_nanousd"])]
    return event


def sent(adversary: Adversary, owner: Owner, case: Case) -> httpx.Response | None:
    """The answer to a request of the generator's; None where the connection broke under it."""
    try:
        return adversary.send_made(owner, request(case, adversary.nonce(owner), "nobody"), {})
    except httpx.RemoteProtocolError:
        return None


# 1, case 04


@pytest.mark.parametrize("models", ["gpt-4o,gpt-4o,gpt-4o,gpt-4o,gpt-4o", "gpt-4o,gpt-4o-mini"])
@pytest.mark.parametrize("stream", [False, True])
def test_01_each_call_of_a_list_of_models_is_charged(adversary: Adversary, models: str, stream: bool) -> None:
    owner = adversary.owner()
    adversary.post(owner, "/v1/chat/completions", adversary.chat(owner, model=models, stream=stream))
    account = adversary.account(owner)
    assert account.is_even, (account.billed, account.charged)


def test_01_a_list_of_models_is_refused_once_the_budget_is_spent(adversary: Adversary) -> None:
    owner = adversary.owner({"limit_usd": "0.05"})
    for _ in range(6):
        adversary.post(owner, "/v1/chat/completions", adversary.chat(owner, model=",".join(["gpt-4o"] * 20)))
    account = adversary.account(owner)
    assert account.is_even
    assert account.billed.most <= 50_000_000 + 20 * GPT_4O, "one request past the limit at the most"


def test_01_a_list_of_models_fits_into_a_strict_budget_or_is_refused(adversary: Adversary) -> None:
    owner = adversary.owner({"limit_usd": "0.005", "enforcement": "strict"})
    for _ in range(4):
        body = adversary.chat(owner, "out=100", model=",".join(["gpt-4o"] * 10), max_tokens=100)
        adversary.post(owner, "/v1/chat/completions", body)
    assert adversary.account(owner).billed.least <= 5_000_000


def test_01_a_spent_group_stops_a_list_that_names_it(adversary: Adversary) -> None:
    owner = adversary.owner({**SPENT, "match": {"model_group": "gpt-4o"}})
    adversary.spend(owner)
    adversary.post(owner, "/v1/chat/completions", adversary.chat(owner, model="gpt-4o,gpt-4o"))
    assert adversary.account(owner).billed.most == GPT_4O


def test_01_what_is_left_of_a_list_is_charged_at_its_own_prices(adversary: Adversary) -> None:
    owner = adversary.owner({**SPENT, "match": {"model_group": "gpt-4o"}})
    adversary.spend(owner)
    adversary.post(owner, "/v1/chat/completions", adversary.chat(owner, model="gpt-4o-mini,gpt-4o"))
    account = adversary.account(owner, calls=2)
    assert len(account.calls) == 2
    assert account.is_even, (account.billed, account.charged)


# 2


@pytest.mark.parametrize("metadata", ["metadata", "litellm_metadata"])
@pytest.mark.parametrize("is_forged", [False, True])
@pytest.mark.parametrize("timeout", [None, 1])
def test_02_a_fallback_of_the_client_is_charged_to_who_sent_it(
    adversary: Adversary, metadata: str, is_forged: bool, timeout: float | None
) -> None:
    owner, victim = adversary.owner(), adversary.owner()
    forged = {"user_api_key_hash": victim.key_hash, "user_api_key_user_id": victim.user} if is_forged else {}
    fallbacks = [{"model": "gpt-4o", metadata: forged, "timeout": 30}]
    model = "failing" if timeout is None else "gpt-4o-mini"
    directive = "in=1000 out=100" + ("" if timeout is None else " delay_ms=2500")
    body = adversary.chat(owner, directive, model=model, fallbacks=fallbacks, timeout=timeout)
    adversary.post(owner, "/v1/chat/completions", body)
    account = adversary.account(owner)
    assert account.is_even, (account.billed, account.charged)
    assert charged(adversary, victim) == (0, 0)


def test_02_a_fallback_of_the_client_does_not_choose_the_price(adversary: Adversary) -> None:
    owner = adversary.owner()
    fallbacks = [{"model": "gpt-4o", "base_model": "gpt-4o-mini", "input_cost_per_token": 0}]
    adversary.post(owner, "/v1/chat/completions", adversary.chat(owner, model="failing", fallbacks=fallbacks))
    assert adversary.account(owner).is_even


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"])
def test_02_nothing_is_taken_out_of_an_honest_request(adversary: Adversary, route: str, stream: bool) -> None:
    owner = adversary.owner()
    before = adversary.metric("spendmeter_stripped_requests_total")
    body = adversary.chat(owner, stream=stream, max_tokens=200)
    text = body["messages"][0]["content"]
    if route == "/v1/responses":
        body = {"model": "gpt-4o", "input": text, "stream": stream}
    if route == "/v1/embeddings":
        body = {"model": "embed", "input": text}
    adversary.served(owner, body, route)
    assert adversary.metric("spendmeter_stripped_requests_total") == before


# 3


@pytest.mark.parametrize("depth", [10, 940, 100_000])
def test_03_a_nested_user_does_not_pass_a_spent_budget(adversary: Adversary, depth: int) -> None:
    owner = adversary.owner(SPENT)
    adversary.spend(owner)
    errors = adversary.metric("spendmeter_internal_errors_total")
    body = json.dumps(adversary.chat(owner)).replace("{", f'{{"user": {"[" * depth}{"]" * depth}, ', 1)
    answer = adversary.post(owner, "/v1/chat/completions", body.encode())
    assert answer is not None
    assert 400 <= answer.status_code < 500, answer.text[:300]
    assert charged(adversary, owner) == (GPT_4O, 1)
    assert adversary.metric("spendmeter_internal_errors_total") == errors


# 4, cases 08 and 12


@pytest.mark.parametrize("stream", [False, True])
def test_04_each_round_of_a_tool_loop_is_charged(adversary: Adversary, stream: bool) -> None:
    owner = adversary.owner()
    adversary.post(
        owner,
        "/v1/chat/completions",
        adversary.chat(owner, "in=1000 out=100 tool=1", tools=MCP, stream=stream),
    )
    account = adversary.account(owner)
    assert len(account.calls) == 2
    assert account.is_even, (account.billed, account.charged)
    assert account.charged > GPT_4O


@pytest.mark.parametrize("model", ["gpt-4o", "claude", "gem"])
@pytest.mark.parametrize("name", ["litellm_trace_id", "drop_params", "merge_reasoning_content_in_choices"])
def test_04_a_control_of_the_wrong_type_does_not_lose_a_stream_that_the_provider_bills(
    adversary: Adversary, model: str, name: str
) -> None:
    owner = adversary.owner()
    adversary.served(owner, adversary.chat(owner, model=model, stream=True) | {name: [[["forged"]]]})
    account = adversary.account(owner, calls=1)
    assert account.is_even, (account.billed, account.charged)
    assert not only_event(adversary, owner)["estimated"]


@pytest.mark.parametrize("marker", [DURING, AFTER])
@pytest.mark.parametrize("route", ["chat", "messages", "responses", "gemini"])
def test_04_an_answer_that_a_guardrail_blocks_is_charged(
    adversary: Adversary, marker: str, route: str
) -> None:
    owner = adversary.owner()
    # Long enough for the guardrail that runs beside it to block it after it was sent.
    directive = "in=1000 out=100 delay_ms=300" if marker is DURING else "in=1000 out=100"
    body: Any = adversary.chat(owner, directive, marker)
    path = ROUTES[route].path.replace("$MODEL", "gem")
    if route == "gemini":
        body = {"contents": [{"role": "user", "parts": [{"text": body["messages"][0]["content"]}]}]}
    if route == "responses":
        body = {"model": "gpt-4o", "input": body["messages"][0]["content"]}
    if route == "messages":
        body |= {"model": "claude", "max_tokens": 200}
    answer = adversary.post(owner, path, body)
    assert answer is not None
    assert answer.status_code >= 400, "blocked"
    account = adversary.account(owner, calls=1)
    assert len(account.calls) == 1
    assert account.is_even, (account.billed, account.charged)


@pytest.mark.parametrize("is_redacted", [False, True])
def test_05_speech_and_an_answer_without_usage_cost_the_same_where_the_log_is_redacted(
    adversary: Adversary, is_redacted: bool
) -> None:
    owner = adversary.owner()
    headers = {"x-litellm-enable-message-redaction": "true"} if is_redacted else {}
    speech = {"model": "speak", "input": adversary.prompt(owner, text="a b c " * 40), "voice": "alloy"}
    answer = adversary.send_made(owner, Request("/v1/audio/speech", {}, speech, is_form=False), headers)
    assert answer.status_code == 200, answer.text
    account = adversary.account(owner, calls=1)
    assert account.is_even, (account.billed, account.charged)
    chat = adversary.chat(owner, "out=100 usage=missing", "word " * 400)
    made = Request("/v1/chat/completions", {}, chat, is_form=False)
    assert adversary.send_made(owner, made, headers).status_code == 200
    account = adversary.account(owner, calls=2)
    assert account.is_even, (account.billed, account.charged)


def test_04_each_attempt_that_was_cut_off_is_charged_its_input(adversary: Adversary) -> None:
    owner = adversary.owner()
    words = "word " * 400
    body = adversary.chat(owner, "delay_ms=2500", words, timeout=1, num_retries=2)
    adversary.post(owner, "/v1/chat/completions", body)
    account = adversary.account(owner)
    assert len(account.calls) > 1
    assert account.is_even, (account.billed, account.charged, len(account.calls))


def test_04_an_image_is_requested_once_and_charged_if_its_answer_breaks_off(adversary: Adversary) -> None:
    """Its SDK would repeat the request below every hook, and the last attempt may not even connect."""
    owner = adversary.owner()
    body = adversary.chat(owner, "delay_ms=2500", "word " * 400, timeout=1) | {"model": "image"}
    body["prompt"] = body.pop("messages")[-1]["content"]
    adversary.post(owner, "/v1/images/generations", body)
    account = adversary.account(owner)
    assert len(account.calls) == 1
    assert account.charged > 0
    assert account.is_even, (account.billed, account.charged)


# 5, case 10


@pytest.mark.parametrize("stream", [False, True])
def test_05_a_cost_of_zero_beside_priced_tokens_is_not_believed(adversary: Adversary, stream: bool) -> None:
    owner = adversary.owner(SPENT)
    adversary.served(owner, adversary.chat(owner, "in=1000 out=100 usage=costless", stream=stream))
    assert charged(adversary, owner) == (GPT_4O, 1)
    adversary.refused(owner, adversary.chat(owner))


@pytest.mark.parametrize("usage", ["missing", "zero"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", PASS_OPENAI])
def test_05_missing_usage_is_estimated(adversary: Adversary, usage: str, stream: bool, path: str) -> None:
    owner = adversary.owner()
    text = "a few words that are sent " * 10
    adversary.served(owner, adversary.chat(owner, f"out=100 usage={usage}", text, stream=stream), path)
    account = adversary.account(owner)
    assert account.is_even, (account.billed, account.charged)
    assert only_event(adversary, owner)["estimated"] is True


FAULTS, STREAMED = ("cut", "malformed"), ("claude", "gpt-4o", "gem")


@pytest.fixture(scope="module")
def broken_off(adversary: Adversary) -> dict[tuple[str, str], Owner]:
    """Whose stream of each model was broken off in each way."""

    async def post(owner: Owner, model: str, fault: str) -> None:
        directive, text = f"out=200 chunks=20 fault={fault}", "some words to be counted " * 20
        chat = adversary.chat(owner, directive, text, model=model, stream=True, max_tokens=500)
        await adversary.send(owner, "POST", "/v1/chat/completions", chat, 0)

    return adversary.at_one_time(
        {(model, fault): partial(post, model=model, fault=fault) for model in STREAMED for fault in FAULTS}
    )


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("model", STREAMED)
def test_05_a_stream_that_the_provider_breaks_off_is_an_estimate(
    adversary: Adversary, broken_off: dict[tuple[str, str], Owner], model: str, fault: str
) -> None:
    account = adversary.account(broken_off[model, fault], calls=1)
    assert account.is_even, (account.billed, account.charged)
    charged = [event for event in account.events if int(event["cost_nanousd"])]
    assert charged
    assert all(event["estimated"] is True for event in charged), charged


_PASSED_ON = ("messages", "gemini", "openai pass-through", "anthropic pass-through", "gemini pass-through")
"""Routes whose streams LiteLLM passes on as they are."""
_ALSO = "messages over openai"
_QUIRKS = {"no usage": {"usage": "missing"}, "malformed": {"fault": "malformed"}, "cut": {"fault": "cut"}}


@pytest.fixture(scope="module")
def incomplete(adversary: Adversary) -> dict[tuple[str, str], Owner]:
    """Whose stream on each route did not say all that was used, by what was the matter with it."""

    async def post(owner: Owner, route: str, quirk: str) -> None:
        route, _, provider = route.partition(" over ")
        model = "gpt-4o-mini" if provider else ROUTES[route].models[0]
        case = Case(route, model, words=60, stream=True).with_directive(out=100, **_QUIRKS[quirk])
        with suppress(httpx.RemoteProtocolError):
            await adversary.sent(owner, request(case, adversary.nonce(owner), "nobody"), {})

    return adversary.at_one_time(
        {
            (route, quirk): partial(post, route=route, quirk=quirk)
            for route in (*_PASSED_ON, _ALSO)
            for quirk in _QUIRKS
        }
    )


@pytest.mark.parametrize("quirk", _QUIRKS)
@pytest.mark.parametrize("route", [*_PASSED_ON, _ALSO])
def test_05_a_stream_that_does_not_say_all_that_was_used_is_an_estimate(
    adversary: Adversary, incomplete: dict[tuple[str, str], Owner], route: str, quirk: str
) -> None:
    owner = incomplete[route, quirk]
    account = adversary.account(owner, calls=1)
    assert violations(account) == []
    assert only_event(adversary, owner)["estimated"] is True
    assert only_event(adversary, owner)["input_tokens"] > 0


@pytest.mark.parametrize(
    ("route", "model"),
    [
        ("chat", "gpt-4o"),
        ("messages", "claude"),
        ("messages", "gpt-4o-mini"),
        ("gemini", "gem"),
        ("embeddings", "embed"),
        ("responses", "gpt-4o"),
    ],
)
def test_05_counts_that_cannot_be_are_an_estimate(adversary: Adversary, route: str, model: str) -> None:
    owner = adversary.owner()
    case = Case(route, model, words=60).with_directive(out=100, usage="negative", **{"in": 1000})
    sent(adversary, owner, case)
    account = adversary.account(owner, calls=1)
    assert violations(account) == []
    assert only_event(adversary, owner)["estimated"] is True


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("usage", ["strings", "negative"])
@pytest.mark.parametrize("route", ["chat", "completions", "responses", "messages", "gemini", "embeddings"])
def test_05_whatever_a_provider_says_was_used_the_call_is_charged(
    adversary: Adversary, route: str, usage: str, stream: bool
) -> None:
    owner, errors = adversary.owner({"limit_usd": "1"}), adversary.metric(ERRORS)
    case = Case(route, ROUTES[route].models[0], words=60, stream=stream and route != "embeddings")
    sent(adversary, owner, case.with_directive(out=100, usage=usage, **{"in": 1000}))
    assert violations(adversary.account(owner, calls=1)) == []
    assert adversary.metric(ERRORS) == errors


@pytest.mark.parametrize("usage", ["plain", "missing"])
@pytest.mark.parametrize("options", [None, "{}", '{"include_usage": false}', '{"include_usage": true}'])
@pytest.mark.parametrize("model", ["instruct", "gpt-4o-mini"])
def test_05_a_streamed_text_completion_is_exact_or_marked(
    adversary: Adversary, model: str, options: str | None, usage: str
) -> None:
    owner = adversary.owner()
    controls = () if options is None else (Control("stream_options", options),)
    case = Case("completions", model, words=60, stream=True, controls=controls)
    sent(adversary, owner, case.with_directive(out=100, usage=usage))
    assert violations(adversary.account(owner, calls=1)) == []


@pytest.mark.parametrize("model", ["gem", "claude", "gpt-4o"])
@pytest.mark.parametrize("usage", ["missing", "strings"])
def test_05_a_chat_that_litellm_cannot_read_is_charged(adversary: Adversary, model: str, usage: str) -> None:
    owner = adversary.owner()
    sent(adversary, owner, Case("chat", model, words=60).with_directive(out=100, usage=usage))
    assert violations(adversary.account(owner, calls=1)) == []


@pytest.mark.parametrize("fault", ["malformed", "cut"])
def test_05_a_fallbacks_unreadable_answer_is_charged_whatever_led_to_it(
    adversary: Adversary, fault: str
) -> None:
    owner = adversary.owner()
    sent(adversary, owner, Case("chat", "failing", words=60).with_directive(fault=fault))
    assert violations(adversary.account(owner, calls=1)) == []


def test_05_an_answer_that_litellm_cannot_read_is_estimated(adversary: Adversary) -> None:
    owner = adversary.owner()
    body = {"model": "claude", "input": adversary.prompt(owner, "usage=missing", "some words " * 20)}
    answer = adversary.post(owner, "/v1/responses", body)
    assert answer is not None
    assert answer.status_code == 500, "it was read: take another answer for this test"
    account = adversary.account(owner, calls=1)
    assert account.is_even, (account.billed, account.charged)
    assert [event["estimated"] for event in account.events if int(event["cost_nanousd"])] == [True]


def test_05_speech_is_charged_by_its_text_where_the_log_has_none(adversary: Adversary) -> None:
    owner = adversary.owner()
    hidden = (Control("x-litellm-enable-message-redaction", '"true"', "header"),)
    sent(adversary, owner, Case("speech", "speak", controls=hidden))
    account = adversary.account(owner, calls=1)
    assert violations(account) == []
    assert len(account.calls) == 1


def test_05_an_answer_that_cannot_be_read_is_charged_by_its_units(adversary: Adversary) -> None:
    owner = adversary.owner()
    text = adversary.prompt(owner, "in=40 out=1 fault=malformed")
    adversary.post(owner, "/v1/rerank", {"model": "rank", "query": text, "documents": ["a", "b"]})
    account = adversary.account(owner, calls=1)
    assert account.is_even, (account.billed, account.charged)
    assert account.charged == 2_000_000


# 6, case 07


@pytest.mark.parametrize("enforcement", ["settled", "strict"])
@pytest.mark.parametrize(
    "route", ["messages over openai", "completions", "gemini", "chat", "messages", "responses"]
)
def test_06_a_stream_that_was_left_is_charged_and_holds_nothing(
    adversary: Adversary, route: str, enforcement: str
) -> None:
    assert adversary.until_metric(HOLDS, 0), "nothing is held before"
    owner = adversary.owner({"limit_usd": "1", "enforcement": enforcement})
    text = adversary.prompt(owner, "out=100 chunks=100 chunk_delay_ms=50", "some words to be counted " * 5)
    chat: dict[str, Any] = {
        "messages": [{"role": "user", "content": text}],
        "stream": True,
        "max_tokens": 500,
    }
    path, body = {
        "messages over openai": ("/v1/messages", chat | {"model": "gpt-4o-mini"}),
        "messages": ("/v1/messages", chat | {"model": "claude"}),
        "chat": ("/v1/chat/completions", chat | {"model": "gpt-4o"}),
        "completions": (
            "/v1/completions",
            {"model": "gpt-4o-mini", "prompt": text, "stream": True, "max_tokens": 500},
        ),
        "responses": ("/v1/responses", {"model": "gpt-4o", "input": text, "stream": True}),
        "gemini": (
            "/v1beta/models/gem:streamGenerateContent?alt=sse",
            {
                "contents": [{"role": "user", "parts": [{"text": text}]}],
                "generationConfig": {"maxOutputTokens": 500},
            },
        ),
    }[route]
    adversary.leave(owner, path, body, after_pieces=3)
    account = adversary.account(owner, calls=1)
    assert len(account.calls) == 1
    assert account.is_even, (account.billed, account.charged)
    assert only_event(adversary, owner)["estimated"] is True
    assert adversary.until_metric(HOLDS, 0)


_PIECES = (1, 8)
"""After how many of twenty the client leaves."""


@pytest.fixture(scope="module")
def left(adversary: Adversary) -> dict[tuple[str, int], Owner]:
    """Who has left a stream on each route, by after how many pieces."""

    async def leave(owner: Owner, route: str, pieces: int) -> None:
        case = Case(route, ROUTES[route].models[0], words=60, stream=True)
        case = case.with_directive(out=40, chunks=20, chunk_delay_ms=50)
        made = request(case, adversary.nonce(owner), "nobody")
        await adversary.left(owner, made.path, made.body, pieces)

    return adversary.at_one_time(
        {
            (route, pieces): partial(leave, route=route, pieces=pieces)
            for route in _PASSED_ON
            for pieces in _PIECES
        }
    )


@pytest.mark.parametrize("pieces", _PIECES)
@pytest.mark.parametrize("route", _PASSED_ON)
def test_06_a_stream_that_is_passed_on_and_left_is_an_estimate(
    adversary: Adversary, left: dict[tuple[str, int], Owner], route: str, pieces: int
) -> None:
    account = adversary.account(left[route, pieces], calls=1)
    assert violations(account) == []
    assert only_event(adversary, left[route, pieces])["estimated"] is True


# 7


@pytest.mark.parametrize("stream", [False, True])
def test_07_no_hold_stays_when_many_leave_at_once(adversary: Adversary, stream: bool) -> None:
    assert adversary.until_metric(HOLDS, 0), "nothing is held before"
    owner = adversary.owner({"limit_usd": "100", "enforcement": "strict"})

    async def leave() -> None:
        bodies = [
            adversary.chat(owner, "out=5 delay_ms=1000", model="gpt-4o-mini", stream=stream, max_tokens=50)
            for _ in range(40)
        ]
        await asyncio.gather(
            *(
                adversary.send(owner, "POST", "/v1/chat/completions", body, 0.2 + number / 80)
                for number, body in enumerate(bodies)
            )
        )

    adversary.run(leave())
    assert adversary.until_metric(HOLDS, 0), adversary.metric(HOLDS)
    assert adversary.metric("spendmeter_holds_expired_total") == 0


def test_07_what_litellm_goes_on_with_is_judged_once_it_has_ended(adversary: Adversary) -> None:
    """Of this request the client has left for long when the fallback is called."""
    adversary.run(adversary.world.rest())
    retries = (Control("num_retries", "1"),)
    case = Case("chat", "failing", controls=retries, reads="leaves", after_ms=100)
    batch = adversary.run(adversary.world.batch([case]))
    assert len(batch.calls) == 1
    assert batch.found == []


# 8, cases 01, 02 and 03


@pytest.mark.parametrize("stream", [False, True])
def test_08_a_background_response_is_charged_once_however_often_it_is_read(
    adversary: Adversary, stream: bool
) -> None:
    owner, reader = adversary.owner(), adversary.owner()
    body = {"model": "gpt-4o", "input": adversary.prompt(owner), "background": True, "stream": stream}
    made = adversary.served(owner, body, "/v1/responses")
    found = _response_id(made, stream)
    for who in (owner, owner, owner, owner, reader):
        adversary.get(who, f"/v1/responses/{found}")
    assert charged(adversary, owner) == (GPT_4O, 1)
    assert only_event(adversary, owner)["model_group"] == "gpt-4o"
    assert charged(adversary, reader) == (0, 0)


def _response_id(answer: httpx.Response, stream: bool) -> str:
    if not stream:
        return str(answer.json()["id"])
    lines = [line for line in answer.text.splitlines() if line.startswith("data: {")]
    return str(json.loads(lines[0].removeprefix("data: "))["response"]["id"])


def test_08_a_batch_is_charged_once_however_often_it_is_read(adversary: Adversary) -> None:
    owner = adversary.owner()
    line = {
        "custom_id": "1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": adversary.chat(owner, model="gpt-4o-mini"),
    }
    content = "\n".join(json.dumps(line | {"custom_id": str(number)}) for number in (1, 2))

    async def upload() -> httpx.Response:
        return await adversary.world.http.post(
            f"{adversary.world.stack.url}/v1/files",
            headers={"Authorization": f"Bearer {owner.key}"},
            data={"purpose": "batch", "custom_llm_provider": "openai"},
            files={"file": ("lines.jsonl", content.encode(), "application/jsonl")},
        )

    uploaded = adversary.run(upload())
    assert uploaded.status_code == 200, uploaded.text
    batch = adversary.served(
        owner,
        {
            "input_file_id": uploaded.json()["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        },
        "/v1/batches",
    )
    for _ in range(3):
        assert adversary.get(owner, f"/v1/batches/{batch.json()['id']}").status_code == 200
    account = adversary.account(owner, charged=210_000)
    (event,) = [one for one in account.events if int(one["cost_nanousd"])]
    assert account.charged == 210_000, "two lines at the price of a batch"
    assert "gpt-4o-mini" in event["model"]


# 9, case 13


def test_09_what_is_no_model_call_is_not_unpriced(adversary: Adversary) -> None:
    owner = adversary.owner({"limit_usd": "0.025", "unpriced": "0.01"})
    for _ in range(3):
        adversary.served(owner, {"model": "moderate", "input": adversary.prompt(owner)}, "/v1/moderations")
        assert adversary.get(owner, "/openai_passthrough/v1/models").status_code == 200
    adversary.spend(owner)
    assert [one for one in adversary.account(owner).events if one["cost_source"] == "unpriced"] == []


@pytest.mark.parametrize("status", [401, 429])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["gpt-4o", "claude", "gem"])
def test_09_what_a_provider_answers_with_an_error_costs_nothing(
    adversary: Adversary, model: str, stream: bool, status: int
) -> None:
    owner = adversary.owner()
    sent(adversary, owner, Case("chat", model, stream=stream).with_directive(status=status))
    assert adversary.settled(owner) == (0, 0)


# 5, pass-through


def test_05_a_pass_through_stream_says_what_it_used_and_its_client_sees_none_of_it(
    adversary: Adversary,
) -> None:
    owner = adversary.owner()
    answer = adversary.post(owner, PASS_OPENAI, adversary.chat(owner, stream=True))
    assert answer is not None
    assert answer.status_code == 200, answer.text
    assert '"usage"' not in answer.text
    assert answer.text.rstrip().endswith("data: [DONE]")
    assert charged(adversary, owner) == (GPT_4O, 1)
    (event,) = adversary.account(owner).events
    assert not event["estimated"]


# 10, cases 05 and 06


@pytest.mark.parametrize(
    ("match", "path"),
    [
        ({"provider": "anthropic"}, PASS_ANTHROPIC),
        ({"provider": "openai"}, PASS_OPENAI),
        ({"provider": "gemini"}, PASS_GEMINI),
        ({"model": "gpt-4o"}, PASS_OPENAI),
        ({"model": "openai/gpt-4o"}, PASS_OPENAI),
        ({"model_group": "gpt-4o"}, PASS_OPENAI),
        ({"tag": "house-tag"}, PASS_OPENAI),
        ({"tag": "*"}, PASS_ANTHROPIC),
    ],
    ids=str,
)
def test_10_a_pass_through_is_refused_once_the_budget_is_spent(
    adversary: Adversary, match: dict[str, str], path: str
) -> None:
    owner = adversary.owner({**SPENT, "match": match}, metadata={"tags": ["house-tag"]})

    def body() -> dict[str, Any]:
        if path == PASS_GEMINI:
            return {"contents": [{"role": "user", "parts": [{"text": adversary.prompt(owner)}]}]}
        model = {"model": "claude-sonnet-4-5", "max_tokens": 500} if path == PASS_ANTHROPIC else {}
        return {**adversary.chat(owner), **model}

    adversary.served(owner, body(), path)
    assert charged(adversary, owner)[1] == 1
    adversary.refused(owner, body(), path)


@pytest.mark.parametrize("model", ["gpt-4o", "openai/gpt-4o", "deployment-of-gpt-4o", "my-4o"])
def test_10_a_spent_group_is_not_walked_around(adversary: Adversary, model: str) -> None:
    owner = adversary.owner({**SPENT, "match": {"model_group": "gpt-4o"}})
    adversary.spend(owner)
    adversary.post(owner, "/v1/chat/completions", adversary.chat(owner, model=model))
    assert adversary.account(owner).billed.most == GPT_4O


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/chat/completions", "wild/gpt-4o"),
        ("/v1/responses", "wild/gpt-4o"),
        ("/v1/messages", "wild-claude/claude-sonnet-4-5"),
    ],
)
def test_10_a_client_does_not_say_where_its_call_went(adversary: Adversary, path: str, model: str) -> None:
    owner = adversary.owner({**SPENT, "match": {"model_group": model}})
    free = {"input_cost_per_token": 0, "output_cost_per_token": 0}
    said = {
        "model_group": "gpt-4o-mini",
        "deployment": "openai/gpt-4o-mini",
        "deployment_model_name": "gpt-4o-mini",
        "model_info": {"id": "deployment-of-gpt-4o", "base_model": "gpt-4o-mini", **free},
    }

    def body() -> dict[str, Any]:
        text = adversary.prompt(owner)
        given = (
            {"input": text} if path == "/v1/responses" else {"messages": [{"role": "user", "content": text}]}
        )
        most = {"max_tokens": 200} if path == "/v1/messages" else {}
        return {"model": model, "metadata": said, "litellm_metadata": said, **given, **most}

    adversary.served(owner, body(), path)
    account = adversary.account(owner, calls=1)
    assert account.is_even, (account.billed, account.charged)
    event = only_event(adversary, owner)
    assert event["model_group"] == model
    assert event["deployment"] != "deployment-of-gpt-4o"
    assert "custom" not in event["prices"].values(), "no price of the operator's"
    adversary.refused(owner, body(), path)


@pytest.mark.parametrize("fallbacks", [None, ["gpt-4o"], [{"model": "gpt-4o"}]], ids=str)
@pytest.mark.parametrize("dimension", [{"model_group": "gpt-4o"}, {"provider": "openai"}], ids=str)
def test_10_a_fallback_into_a_spent_budget_is_refused(
    adversary: Adversary, fallbacks: Any, dimension: dict[str, str]
) -> None:
    owner = adversary.owner({**SPENT, "match": dimension})
    adversary.spend(owner)
    adversary.refused(owner, adversary.chat(owner, model="failing", fallbacks=fallbacks))
    assert adversary.account(owner).billed.most == GPT_4O


def test_10_tags_of_a_client_do_not_push_out_the_keys(adversary: Adversary) -> None:
    owner = adversary.owner({**SPENT, "match": {"tag": "house-tag"}}, metadata={"tags": ["house-tag"]})
    adversary.spend(owner)
    tags = [f"tag-{number}" for number in range(40)]
    adversary.refused(owner, adversary.chat(owner, metadata={"tags": tags}))


def test_10_tags_in_the_body_of_messages_do_not_hide_the_keys(adversary: Adversary) -> None:
    owner = adversary.owner({**SPENT, "match": {"tag": "house-tag"}}, metadata={"tags": ["house-tag"]})
    adversary.spend(owner)
    body = adversary.chat(owner, model="claude", max_tokens=200, metadata={"tags": ["client"]})
    adversary.refused(owner, body, "/v1/messages")


# 11


@pytest.mark.parametrize(
    "control",
    [{"extra_body": {"max_tokens": 16_000}}, {"extra_body": {"max_completion_tokens": 16_000}}, {"n": 100}],
    ids=str,
)
def test_11_a_strict_budget_bounds_whatever_is_sent(adversary: Adversary, control: dict[str, Any]) -> None:
    owner = adversary.owner({"limit_usd": "0.01", "enforcement": "strict"})
    adversary.post(owner, "/v1/chat/completions", adversary.chat(owner, "in=10 out=16000", **control))
    assert adversary.account(owner).billed.least <= 10_000_000


def test_11_a_paid_tool_is_held_or_refused_under_strict(adversary: Adversary) -> None:
    owner = adversary.owner({"limit_usd": "0.01", "enforcement": "strict"})
    answer = adversary.post(
        owner, "/v1/chat/completions", adversary.chat(owner, model="gpt-4o-mini", web_search_options={})
    )
    assert answer is not None
    assert answer.status_code >= 400, "a search alone costs $0.025"


# 12


def test_12_who_is_not_authenticated_makes_no_event(adversary: Adversary) -> None:
    adversary.run(adversary.read())
    before = len(adversary.events)
    nobody = Owner("nobody", "sk-nobody-at-all", "", None)
    for number in range(10):
        answer = adversary.post(nobody, "/v1/chat/completions", {"metadata": {"tags": [f"new-{number}"]}})
        assert answer is not None
        assert answer.status_code == 401
    adversary.spend(adversary.owner())
    assert len(adversary.events) == before + 1, "only the one that was served"


def test_12_a_request_that_fails_costs_nothing_and_is_one_event_at_most(adversary: Adversary) -> None:
    owner = adversary.owner()
    adversary.post(owner, "/v1/chat/completions", adversary.chat(owner, "status=400", num_retries=3))
    adversary.spend(owner)
    costless = [one for one in adversary.account(owner).events if not int(one["cost_nanousd"])]
    assert len(costless) <= 1, "an account is opened by none of them: tests/integration/stream"


# 13


def test_13_a_health_check_is_refused_under_a_spent_budget(adversary: Adversary) -> None:
    owner = adversary.owner(SPENT)
    adversary.spend(owner)
    adversary.run(adversary.read())
    before = len(adversary.calls)
    answer = adversary.get(owner, "/health")
    adversary.run(adversary.read())
    assert [call for call in adversary.calls[before:] if bill(call).most] == [], answer.text


# 14, case 14


def test_14_what_is_free_stays_open_under_a_spent_budget(adversary: Adversary) -> None:
    owner = adversary.owner(SPENT)
    response = adversary.served(owner, {"model": "gpt-4o", "input": adversary.prompt(owner)}, "/v1/responses")
    assert charged(adversary, owner) == (GPT_4O, 1)
    adversary.refused(owner, adversary.chat(owner))
    adversary.served(owner, adversary.chat(owner, model="free-local"))
    adversary.served(owner, {"model": "moderate", "input": adversary.prompt(owner)}, "/v1/moderations")
    for path in (f"/v1/responses/{response.json()['id']}", "/openai_passthrough/v1/models"):
        answer = adversary.get(owner, path)
        assert answer.status_code == 200, (path, answer.text)
    assert charged(adversary, owner) == (GPT_4O, 1)


# 15, case 15


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/rerank", {"model": "rank", "query": "x", "documents": ["y"]}),
        ("/v1/images/generations", {"model": "image", "prompt": "x"}),
        ("/v1/audio/speech", {"model": "speak", "input": "x", "voice": "alloy"}),
        ("/v1/embeddings", {"model": "embed", "input": "x"}),
        (
            "/v1/messages",
            {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
        ),
        ("/v1beta/models/gem:generateContent", {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_15_a_refusal_has_its_headers_and_names_the_budget(
    adversary: Adversary, path: str, body: dict[str, Any]
) -> None:
    owner = adversary.owner(SPENT)
    adversary.spend(owner)
    refused = adversary.refused(owner, body, path)
    names = ("x-should-retry", "retry-after", "x-spendmeter-budget", "x-spendmeter-decision")
    # A budget for ever has nothing to wait for.
    assert [name for name in names if name not in refused.headers and name != "retry-after"] == []
    assert owner.name in refused.text
    if path == "/v1/messages":
        assert refused.json()["error"]["type"] == "budget_exceeded"
