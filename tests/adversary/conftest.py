"""One proxy with the adversary's configuration for all that is tested here, and what came of its requests."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest

from spendmeter.contract.money import from_usd
from tests.adversary import law
from tests.adversary.law import Account, Call, Event
from tests.adversary.owners import Owner
from tests.adversary.routes import Request
from tests.adversary.stack import Stack, stack
from tests.adversary.world import POLL_SECONDS, World, budget, form_or_json, world
from tests.patience import WITHIN_SECONDS

MOST = 60
GPT_4O = 3_500_000
"""Nano-USD of 1,000 tokens in and 100 out."""
COUNTS = "in=1000 out=100"
T = TypeVar("T")
K = TypeVar("K")


class Adversary:
    """The world from tests without a loop; it remembers every call and event of its own owners."""

    def __init__(self, runner: asyncio.Runner, made: World) -> None:
        self._runner, self.world = runner, made
        self.calls: list[Call] = []
        self.events: list[Event] = []
        self._senders: dict[int, Owner] = {}
        self._owners: dict[str, Owner] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the world's loop."""
        return self._runner.run(work)

    def owner(self, *budgets: dict[str, Any], **given: Any) -> Owner:
        """A new user with a key under these budgets: `limit_usd`, `match` beside the user, and more."""
        [owner] = self.owners([budgets], **given)
        return owner

    def owners(self, each: Sequence[Sequence[dict[str, Any]]], **given: Any) -> list[Owner]:
        """As many as there are lists of budgets."""
        return self.run(self._made(each, given))

    async def _made(self, each: Sequence[Sequence[dict[str, Any]]], given: dict[str, Any]) -> list[Owner]:
        owners, applied = [], []
        for budgets in each:
            name = f"n-{uuid4().hex[:8]}"
            owners.append(await self.world.owner(name, user=name, **given))
            for number, one in enumerate(budgets):
                more = {**one}
                limit = from_usd(more.pop("limit_usd"))
                match = {"user": name, **more.pop("match", {})}
                applied.append(budget(f"{name}-{number}", match, limit, **more))
        if applied:
            await self.world.apply(*applied)
            await self.world.small(0)
        self._owners |= {owner.key_hash: owner for owner in owners}
        return owners

    def at_one_time(self, works: Mapping[K, Callable[[Owner], Awaitable[object]]]) -> dict[K, Owner]:
        """Whose each work was, once all are done; what each waits for is so waited for once."""
        owners = dict(zip(works, self.owners([()] * len(works)), strict=True))

        async def run() -> None:
            await asyncio.gather(*(work(owners[name]) for name, work in works.items()))

        self.run(run())
        return owners

    def prompt(self, owner: Owner, directive: str = COUNTS, text: str = "Say something.") -> str:
        """A text whose calls are known to be this owner's."""
        nonce = next(self.world.nonces)
        self._senders[nonce] = owner
        return f"{text} [[nonce={nonce} {directive}]]"

    def nonce(self, owner: Owner) -> int:
        """What the upstream knows this owner's next call by."""
        nonce = next(self.world.nonces)
        self._senders[nonce] = owner
        return nonce

    def send_made(self, owner: Owner, made: Request, headers: dict[str, str]) -> httpx.Response:
        """A request of the generator's, in this owner's name."""
        return self.run(self.sent(owner, made, headers))

    def send_all_made(
        self, requests: Iterable[tuple[Owner, Request]], headers: dict[str, str]
    ) -> list[httpx.Response]:
        """Several of them at one time."""

        async def send() -> list[httpx.Response]:
            return await asyncio.gather(*(self.sent(*request, headers) for request in requests))

        return self.run(send())

    async def sent(self, owner: Owner, made: Request, headers: dict[str, str]) -> httpx.Response:
        url = f"{self.world.stack.url}{made.path}"
        own = {"Authorization": f"Bearer {owner.key}", "x-goog-api-key": owner.key}
        given = {**own, **made.headers, **headers}
        return await self.world.http.post(url, headers=given, **form_or_json(made))

    def chat(self, owner: Owner, directive: str = COUNTS, text: str = "Say something.", **body: Any) -> Any:
        """Of the body of a chat, with this added or (None) taken out."""
        chat = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": self.prompt(owner, directive, text)}],
        }
        return {name: value for name, value in (chat | body).items() if value is not None}

    def post(self, owner: Owner, path: str, body: Any, *, leaves_after: float = 0) -> httpx.Response | None:
        """The answer, None where the client left after so many seconds; a body of bytes is sent as it is."""
        return self.run(self.send(owner, "POST", path, body, leaves_after))

    def get(self, owner: Owner, path: str) -> httpx.Response:
        answer = self.run(self.send(owner, "GET", path, None, 0))
        assert answer is not None
        return answer

    async def send(
        self, owner: Owner, method: str, path: str, body: Any, leaves_after: float
    ) -> httpx.Response | None:
        given = {"Authorization": f"Bearer {owner.key}", "x-goog-api-key": owner.key}
        if isinstance(body, bytes):
            given["content-type"] = "application/json"
        content: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        url = f"{self.world.stack.url}{path}"
        try:
            async with asyncio.timeout(leaves_after or None):
                return await self.world.http.request(
                    method, url, headers=given, **({} if body is None else content)
                )
        except TimeoutError:
            return None

    def leave(self, owner: Owner, path: str, body: Any, *, after_pieces: int) -> None:
        """Leave a stream once so many pieces of it have come, however long the first one took."""
        self.run(self.left(owner, path, body, after_pieces))

    async def left(self, owner: Owner, path: str, body: Any, after_pieces: int) -> None:
        given = {"Authorization": f"Bearer {owner.key}", "x-goog-api-key": owner.key}
        url = f"{self.world.stack.url}{path}"
        async with self.world.http.stream("POST", url, headers=given, json=body) as answer:
            assert answer.status_code == 200, await answer.aread()
            pieces = answer.aiter_raw()
            for _ in range(after_pieces):
                await anext(pieces)

    def served(self, owner: Owner, body: Any, path: str = "/v1/chat/completions") -> httpx.Response:
        """The answer, which is a success."""
        answer = self.post(owner, path, body)
        assert answer is not None
        assert answer.status_code == 200, answer.text
        return answer

    def refused(self, owner: Owner, body: Any, path: str = "/v1/chat/completions") -> httpx.Response:
        """The answer, which is a budget's refusal."""
        answer = self.post(owner, path, body)
        assert answer is not None
        assert answer.status_code == 422, (answer.status_code, answer.text)
        return answer

    def spend(self, owner: Owner) -> None:
        """One chat with gpt-4o, $0.0035, recorded."""
        self.served(owner, self.chat(owner))
        assert self.account(owner, calls=1).charged == GPT_4O

    def account(self, owner: Owner, *, calls: int = 0, charged: int | None = None) -> Account:
        """What the owner's calls, so many at least, cost and what was charged: once even, or out of time.

        Once so much is `charged` where the upstream's calls do not say what it is: a batch.
        """
        return self.run(self._account(owner, calls, charged))

    async def _account(self, owner: Owner, calls: int, charged: int | None = None) -> Account:
        deadline = time.monotonic() + self.world.settles_within_seconds
        while True:
            await self.read()
            figures = await self.world.metrics()
            accounts, _ = law.accounts(self._owners.values(), self._senders, self.calls, self.events)
            account = accounts[owner.key_hash]
            is_recorded = figures["spendmeter_outbox_recorded_total"] == self.world.read_events
            is_settled = is_recorded and not figures["spendmeter_pending"]
            is_there = account.is_even if charged is None else account.charged == charged
            if is_there and is_settled and len(account.calls) >= calls:
                return account
            if time.monotonic() > deadline:
                return account
            await asyncio.sleep(POLL_SECONDS)

    def settled(self, owner: Owner) -> tuple[int, int]:
        """What the owner was billed at most and what was charged, once nothing runs or is unsettled."""
        return self.run(self._settled(owner))

    async def _settled(self, owner: Owner) -> tuple[int, int]:
        assert not await self.world.until_ended()
        deadline = time.monotonic() + self.world.settles_within_seconds
        while (await self.world.metrics())["spendmeter_unsettled_exchanges"]:
            assert time.monotonic() < deadline, "a request that has ended is not settled"
            await asyncio.sleep(POLL_SECONDS)
        account = await self._account(owner, 0)
        return account.billed.most, account.charged

    async def read(self) -> None:
        """Take in what the upstream and Kafka have by now."""
        self.calls += await self.world.calls()
        self.events += await self.world.events()

    def metric(self, name: str) -> float:
        """The gateway's own figure."""
        return self.run(self.world.metrics()).get(name, 0.0)

    def until_metric(self, name: str, wanted: float) -> bool:
        """Whether the gateway's figure is this within the time that everything has to settle."""
        deadline = time.monotonic() + self.world.settles_within_seconds
        while self.metric(name) != wanted:
            if time.monotonic() > deadline:
                return False
        return True


@pytest.fixture(scope="module")
def adversary_stack(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(kafka, tmp_path_factory.mktemp("adversary")) as made:
        yield made


@pytest.fixture(scope="module")
def adversary(adversary_stack: Stack) -> Iterator[Adversary]:
    # Not for the session: its reader of Kafka would lose its connections while its loop stands still.
    with asyncio.Runner() as runner:
        opened = world(adversary_stack, most=MOST, settles_within_seconds=WITHIN_SECONDS)
        made = runner.run(opened.__aenter__())
        try:
            yield Adversary(runner, made)
        finally:
            runner.run(opened.__aexit__(None, None, None))
