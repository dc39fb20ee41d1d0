"""Who follows what: until it has ended or is billed, and nothing else."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from spendmeter.contract.provider_object import ObjectKind, ProviderObject
from spendmeter_gateway.objects.follower import FOLLOWED_FOR, ObjectFollower
from tests.patience import WITHIN_SECONDS

FIRST_SECONDS = 0.01


class Gone(Exception):
    status_code = 404


class Provider:
    """Answers each read with the next of these; the last one again and again."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers, self.read_as = list(answers), list[str]()
        self.has_read = asyncio.Event()

    async def read(self, read_as: str) -> bool:
        self.read_as.append(read_as)
        self.has_read.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def response(number: int = 1, *, read_as: str = "resp_1", age: timedelta = timedelta()) -> ProviderObject:
    return ProviderObject(
        object_id=f"openai/{number}",
        kind=ObjectKind.RESPONSE,
        created_at=datetime.now(UTC) - age,
        read_as=read_as,
    )


def reads(provider: Provider, *objects: ProviderObject, billed: Sequence[str] = (), wanted: int) -> list[str]:
    """The reads until so many were made and one more round has passed."""

    async def run() -> None:
        follower = ObjectFollower(FIRST_SECONDS, lambda name: name in billed)
        for one in objects:
            follower.follow(one)
        running = asyncio.create_task(follower.run(provider.read))
        async with asyncio.timeout(WITHIN_SECONDS):
            while len(provider.read_as) < wanted:
                provider.has_read.clear()
                await provider.has_read.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(running), 1.2)
        running.cancel()

    asyncio.run(run())
    return provider.read_as


def test_it_is_read_until_it_has_ended() -> None:
    provider = Provider(False, OSError("away"), False, True)
    assert reads(provider, response(), wanted=4) == ["resp_1"] * 4


def test_what_is_gone_is_read_once() -> None:
    assert reads(Provider(Gone()), response(), wanted=1) == ["resp_1"]


def test_what_another_gateway_has_billed_is_read_no_more() -> None:
    provider = Provider(True)
    assert reads(provider, response(2, read_as="resp_2"), response(2, read_as=""), response(), wanted=1) == [
        "resp_1"
    ]


@pytest.mark.parametrize(
    "one",
    [response(2, read_as=""), response(2, age=FOLLOWED_FOR), response(2, read_as="resp_2")],
    ids=["left to others", "too old", "billed"],
)
def test_what_needs_no_read_has_none(one: ProviderObject) -> None:
    provider = Provider(True)
    assert reads(provider, one, response(), billed=["openai/2"], wanted=1) == ["resp_1"]
