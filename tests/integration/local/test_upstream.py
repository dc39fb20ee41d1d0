"""The fake upstream over real HTTP, through the clients that people use, and its own count afterwards."""

import asyncio
import json
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI, InternalServerError

from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, wait_until
from tests.patience import WITHIN_SECONDS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    log = tmp_path_factory.mktemp("upstream") / "upstream.log"
    process = start_child([sys.executable, "-m", "spendmeter_local.upstream", "--port", str(port)], log=log)
    try:
        assert wait_until(lambda: http_answers(f"{url}/health"), timeout_seconds=WITHIN_SECONDS), (
            log.read_text()
        )
        yield url
    finally:
        kill_child(process)


@pytest.fixture
async def openai(server: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server}/v1", api_key="unused", max_retries=0) as client:
        yield client


def say(text: str) -> Any:
    return [{"role": "user", "content": text}]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=WITHIN_SECONDS) as answer:
        return json.load(answer)


def calls_of(server: str, model: str) -> list[Any]:
    log = get(f"{server}/served/calls")
    return [call for call in log["calls"] if call["model"] == model]


async def test_a_plain_answer_has_the_counts_that_were_asked_for(server: str, openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model="plain", messages=say("hello [[in=120 out=40 cached=20 reasoning=5]]")
    )
    usage = answer.usage
    assert usage
    assert usage.prompt_tokens_details
    assert usage.completion_tokens_details
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (120, 40, 160)
    assert usage.prompt_tokens_details.cached_tokens == 20
    assert usage.completion_tokens_details.reasoning_tokens == 5
    assert (get(f"{server}/served"))["by_model"]["plain"] == {
        "requests": 1,
        "input_tokens": 120,
        "output_tokens": 40,
        "cached_tokens": 20,
        "cache_write_tokens": 0,
        "reasoning_tokens": 5,
    }
    assert [call["id"] for call in calls_of(server, "plain")] == [answer.id]


async def test_a_stream_ends_with_its_usage_if_that_was_asked_for(server: str, openai: AsyncOpenAI) -> None:
    request = say("hello [[in=12 out=9 chunks=3]]")
    asked = await openai.chat.completions.create(
        model="stream", messages=request, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in asked]
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 9
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert len(text.split()) == 9
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) == 3
    not_asked = await openai.chat.completions.create(model="stream", messages=request, stream=True)
    assert [chunk.usage async for chunk in not_asked] == [None] * 4
    assert (get(f"{server}/served"))["by_model"]["stream"]["requests"] == 2


async def test_a_stream_that_the_client_leaves_is_cancelled_not_served(
    server: str, openai: AsyncOpenAI
) -> None:
    stream = await openai.chat.completions.create(
        model="left", messages=say("[[in=12 out=500 chunks=500 chunk_delay_ms=20]]"), stream=True
    )
    await anext(aiter(stream))
    await stream.close()
    assert await asyncio.to_thread(
        wait_until,
        lambda: get(f"{server}/served")["cancelled"]["requests"] == 1,
        timeout_seconds=WITHIN_SECONDS,
    )
    calls = calls_of(server, "left")
    assert [call["outcome"] for call in calls] == ["cancelled"]
    assert 0 < calls[0]["chunks_written"] < 500
    summary = get(f"{server}/served")
    assert "left" not in summary["by_model"]
    assert summary["cancelled"]["by_model"]["left"]["requests"] == 1


async def test_a_failure_is_answered_as_told_and_counted_apart(server: str, openai: AsyncOpenAI) -> None:
    with pytest.raises(InternalServerError):
        await openai.chat.completions.create(model="broken", messages=say("[[status=500]]"))
    summary = get(f"{server}/served")
    assert "broken" not in summary["by_model"]
    assert summary["failed"]["by_model"]["broken"] == {"requests": 1}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("images/generations", {"prompt": "x", "n": [[2]]}),
        ("audio/speech", {"input": None}),
        ("rerank", {"query": "x", "documents": 5}),
    ],
)
async def test_what_a_provider_could_not_read_is_its_clients_error_and_bills_nothing(
    server: str, path: str, body: dict[str, Any]
) -> None:
    model = f"unread {path}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server}/v1/{path}", json={"model": model, **body}) as answer,
    ):
        assert answer.status == 400
    assert [call for call in calls_of(server, model) if call["outcome"] != "failed"] == []


async def test_every_other_shape_says_the_same_counts(server: str, openai: AsyncOpenAI) -> None:
    directive = "[[in=50 out=7 cached=20 cache_write=10]]"
    completion = await openai.completions.create(model="shapes", prompt=directive)
    assert completion.usage
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (50, 7)
    response = await openai.responses.create(model="shapes", input=directive)
    assert response.usage
    assert (response.usage.input_tokens, response.usage.output_tokens) == (50, 7)
    assert len(response.output_text.split()) == 7
    events = [
        event async for event in await openai.responses.create(model="shapes", input=directive, stream=True)
    ]
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    embedding = await openai.embeddings.create(model="shapes", input=["a [[in=5]]", "b"])
    assert (embedding.usage.prompt_tokens, len(embedding.data)) == (5, 2)
    body = {"model": "shapes", "max_tokens": 100, "messages": say(directive)}
    async with aiohttp.ClientSession() as session, session.post(f"{server}/v1/messages", json=body) as answer:
        assert (await answer.json())["usage"] == {
            "input_tokens": 20,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 10,
            "output_tokens": 7,
        }
    assert (get(f"{server}/served"))["by_model"]["shapes"]["requests"] == 5


async def test_the_log_is_read_on_from_where_one_was(server: str, openai: AsyncOpenAI) -> None:
    before = (get(f"{server}/served/calls"))["last"]
    await openai.chat.completions.create(model="log", messages=say("one"), user="alice")
    newer = get(f"{server}/served/calls?since={before}")
    assert [(call["number"], call["user"]) for call in newer["calls"]] == [(before + 1, "alice")]
    assert newer["last"] == before + 1
