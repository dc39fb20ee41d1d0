"""Sends cases to the proxy and holds what came of them against the law."""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
from aiokafka import AIOKafkaConsumer

from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import consumer
from tests.adversary import law
from tests.adversary.case import Case
from tests.adversary.law import Account, Call, Event, Violation
from tests.adversary.markers import DURING
from tests.adversary.owners import SPENT, Owner, budgets_of
from tests.adversary.prices import unsent_most
from tests.adversary.routes import ROUTES, Request, request
from tests.adversary.stack import Stack

PLENTY_NANOUSD = 10**15
SMALL_NANOUSD = 20_000_000
CROWD = "crowd"
"""Owners in a team under a strict budget that it never fills; also the team's name."""
IN_PARALLEL = 12
SETTLES_WITHIN_SECONDS = 6.0
"""After the last answer and the last provider call, nothing may be held, pending or uneven for longer."""
ENDS_WITHIN_SECONDS = 120.0
"""LiteLLM goes on with a request whose client has left: its retries and their pauses, its fallbacks."""
UPSTREAM_WITHIN_SECONDS = 90.0
ANSWER_WITHIN_SECONDS = 45.0
POLL_SECONDS = 0.05
_RECORDED, _HOLDS, _PENDING = "spendmeter_outbox_recorded_total", "spendmeter_holds", "spendmeter_pending"
_GIVEN_UP = ('"type":"response.failed"', 'data: {"error"', '"type": "error"')
_RUNNING, _UNSETTLED = "spendmeter_running_exchanges", "spendmeter_unsettled_exchanges"
_ERRORS, _EXPIRED = "spendmeter_internal_errors_total", "spendmeter_holds_expired_total"


@dataclass
class Sent:
    """One case with who sent it and what was answered."""

    case: Case
    owner: Owner
    nonce: int
    statuses: list[int] = field(default_factory=list)
    """0 where the client left."""
    errors: list[str] = field(default_factory=list)
    was_given_up: bool = False
    """LiteLLM failed in the middle of a stream, and said so in it."""
    has_no_stream: bool = False
    """LiteLLM answered with an error of its own, or of the provider's, where a stream was asked for."""
    seconds: float = 0.0


@dataclass
class Batch:
    """What came of some cases that ran at one time."""

    sent: list[Sent]
    calls: list[Call]
    events: list[Event]
    found: list[tuple[Violation, list[Case]]]
    """Each breach with the cases that may have done it; none where that may be any."""
    seconds: float

    def calls_by_route(self) -> list[tuple[str, Call]]:
        routes = {one.nonce: one.case.route for one in self.sent}
        return [(routes.get(call["nonce"], "?"), call) for call in self.calls]

    def events_by_route(self) -> list[tuple[str, Event]]:
        """By the owner's only case; those of shared owners have none."""
        routes: dict[str, set[str]] = defaultdict(set)
        for one in self.sent:
            routes[one.owner.key_hash].add(one.case.route)
        return [
            (next(iter(of)) if len(of := routes.get(event.get("key") or "", set())) == 1 else "?", event)
            for event in self.events
        ]


def marked_calls(calls: Sequence[Call], sent: Sequence[Sent]) -> list[Call]:
    """What was written to a proxy whose client had left, or was blocked, the proxy need not have read."""
    by_nonce = {one.nonce: one for one in sent}
    marked: list[Call] = []
    for call in calls:
        one = by_nonce.get(call["nonce"])
        is_unread = one is not None and (
            one.case.is_left
            or one.was_given_up
            or _may_be_unread(one.case)
            # What the provider served all the same LiteLLM did not read; its errors it has.
            or (one.has_no_stream and call["outcome"] != "failed")
        )
        marked.append({**call, "is_unread": is_unread})
    return marked


def _may_be_unread(case: Case) -> bool:
    """LiteLLM reads nothing of a list's streams, and drops an answer that is on its way when a guardrail
    blocks beside it."""
    if not case.stream:
        return case.marker == DURING
    return bool(case.marker) or "," in case.model


def form_or_json(made: Request) -> dict[str, Any]:
    """How a request's body goes over the wire, as arguments of httpx."""
    if not made.is_form:
        return {"json": made.body}
    fields = {n: v if isinstance(v, str) else json.dumps(v) for n, v in made.body.items()}
    return {"data": fields, "files": {"file": ("a.wav", b"RIFF" + bytes(60), "audio/wav")}}


class World:
    """A stack with owners, a reader of `spend.usage`, and a position in the upstream's log."""

    def __init__(
        self, stack: Stack, http: httpx.AsyncClient, usage: AIOKafkaConsumer, settles_within_seconds: float
    ) -> None:
        self.stack = stack
        self.settles_within_seconds = settles_within_seconds
        self.http = http
        self._usage = usage
        self.nonces = count(int(time.time()) * 1000)
        self._read_calls = 0
        self.read_events = 0
        self._errors = 0.0
        self._held = 0
        self.plain: list[Owner] = []
        self.crowd: list[Owner] = []
        self.spent: dict[str, Owner] = {}
        self.victim: Owner

    @property
    def owners(self) -> list[Owner]:
        return [*self.plain, *self.crowd, *self.spent.values(), self.victim]

    async def prepare(self, most: int) -> None:
        """Make the owners and spend what is to be spent."""
        await self.apply(
            budget("everybody", {"user": "*"}, PLENTY_NANOUSD),
            budget("crowd", {"team": CROWD}, PLENTY_NANOUSD, enforcement="strict"),
        )
        self.victim = await self.owner("victim", user="victim", is_victim=True)
        for number in range(most):
            self.plain.append(await self.owner(f"plain-{number}"))
            self.crowd.append(await self.owner(f"crowd-{number}", team=CROWD))
        await self.small(0)
        await self._spend_budgets()

    async def batch(self, cases: Sequence[Case]) -> Batch:
        """Run them at one time, each plain one by an owner of its own, and judge."""
        begun = time.monotonic()
        smalls = iter(await self.small(sum(case.owner == "small" for case in cases)))
        own = {"plain": iter(self.plain), CROWD: iter(self.crowd), "small": smalls}
        sent = []
        for case in cases:
            owner = next(own[case.owner]) if case.owner in own else self.spent[case.owner]
            sent.append(Sent(case, owner, next(self.nonces)))
        gate = asyncio.Semaphore(IN_PARALLEL)
        await asyncio.gather(*(self._run(one, gate) for one in sent))
        batch = await self._judge(sent)
        batch.seconds = time.monotonic() - begun
        return batch

    async def rest(self) -> None:
        """Take in what is left of earlier requests, and begin anew from there."""
        deadline = time.monotonic() + self.settles_within_seconds
        while time.monotonic() < deadline:
            await self.calls()
            await self.events()
            figures = await self.metrics()
            self._errors, self._held = figures[_ERRORS], int(figures[_HOLDS])
            if figures[_RECORDED] == self.read_events and not figures[_HOLDS] and not figures[_PENDING]:
                return

    async def small(self, wanted: int) -> list[Owner]:
        """New owners, each under a strict budget of $0.02."""
        names = [f"small-{uuid4().hex[:8]}" for _ in range(wanted)]
        await self.apply(
            *(budget(name, {"user": name}, SMALL_NANOUSD, enforcement="strict") for name in names)
        )
        made = [replace(await self.owner(n, user=n), strict_limit_nanousd=SMALL_NANOUSD) for n in names]
        # A key with a budget is answered once every budget is being enforced.
        await self.owner(f"gate-{uuid4().hex[:8]}", max_budget=9)
        return made

    async def _spend_budgets(self) -> None:
        made = []
        for kind in SPENT:
            name, team = f"spent-{kind}", f"team-{kind}"
            owner = await self.owner(name, user=name, team=team, metadata={"tags": ["house-tag"]})
            self.spent[kind] = replace(owner, spent=kind)
            made.append(budget(name, budgets_of(kind, name, team, owner.key_hash), 1))
        await self.apply(*made)
        await self.small(0)
        spend = [Sent(Case("chat", "gpt-4o"), owner, next(self.nonces)) for owner in self.spent.values()]
        await asyncio.gather(*(self._run(one, asyncio.Semaphore(4)) for one in spend))
        assert all(one.statuses == [200] for one in spend), spend
        wanted = len(spend)
        while wanted > 0:
            wanted -= len(await self.events())
        await self.calls()

    async def owner(
        self,
        name: str,
        *,
        user: str | None = None,
        team: str | None = None,
        is_victim: bool = False,
        **given: Any,
    ) -> Owner:
        """A new key, and the user of its own that it belongs to."""
        user = user or f"u-{name}"
        body = {"key_alias": name, "user_id": user, "team_id": team, **given}
        answer = await self.http.post(
            f"{self.stack.url}/key/generate",
            json=body,
            headers={"Authorization": f"Bearer {self.stack.master_key}"},
        )
        assert answer.status_code == 200, answer.text
        made = answer.json()
        return Owner(name, made["key"], made["token"], user, team, is_victim)

    async def apply(self, *budgets: Budget) -> None:
        """Put budgets in force; `small` or a key with `max_budget` waits until the gateway has them."""
        if budgets:
            async with connect(self.stack.settings) as client:
                await client.apply(list(budgets))

    async def _run(self, sent: Sent, gate: asyncio.Semaphore) -> None:
        async with gate:
            begun = time.monotonic()
            once = [self._once] * sent.case.repeat
            if sent.case.is_parallel:
                await asyncio.gather(*(send(sent) for send in once))
            else:
                for send in once:
                    await send(sent)
            sent.seconds = time.monotonic() - begun

    async def _once(self, sent: Sent) -> None:
        case = sent.case
        made = request(case, sent.nonce, self.victim.key_hash)
        headers = {
            "Authorization": f"Bearer {sent.owner.key}",
            "x-goog-api-key": sent.owner.key,
            **made.headers,
        }
        arguments = form_or_json(made)
        url = f"{self.stack.url}{made.path}"
        try:
            if case.reads == "leaves":
                async with asyncio.timeout(case.after_ms / 1000):
                    await self._whole(sent, url, headers, arguments)
            elif case.reads == "stalls":
                async with self.http.stream("POST", url, headers=headers, **arguments) as answer:
                    sent.statuses.append(answer.status_code)
                    await asyncio.sleep(case.after_ms / 1000)
            else:
                await self._whole(sent, url, headers, arguments)
        except TimeoutError:
            sent.statuses.append(0)
        except (httpx.HTTPError, RecursionError) as error:
            sent.statuses.append(0)
            sent.errors.append(repr(error))

    async def _whole(self, sent: Sent, url: str, headers: dict[str, str], arguments: dict[str, Any]) -> None:
        answer = await self.http.post(url, headers=headers, **arguments)
        sent.statuses.append(answer.status_code)
        if answer.status_code >= 400:
            sent.errors.append(answer.text[:300])
            sent.has_no_stream |= sent.case.stream and answer.status_code >= 500
        elif sent.case.stream and any(words in answer.text for words in _GIVEN_UP):
            sent.was_given_up = True
        path = ROUTES[sent.case.route].poll
        if answer.status_code != 200 or not path or not sent.case.polls or sent.case.stream:
            return
        found = answer.json().get("id")
        for _ in range(sent.case.polls):
            again = await self.http.get(f"{self.stack.url}{path.format(id=found)}", headers=headers)
            sent.statuses.append(again.status_code)

    async def _judge(self, sent: list[Sent]) -> Batch:
        running = await self.until_ended()
        calls, events = await self.calls(), list[Event]()
        senders = {one.nonce: one.owner for one in sent}
        owners = {owner.key_hash: owner for owner in (*self.owners, *(one.owner for one in sent))}
        deadline = time.monotonic() + self.settles_within_seconds
        while True:
            events += await self.events()
            calls += await self.calls()
            calls = marked_calls(calls, sent)
            figures = await self.metrics()
            accounts, strays = law.accounts(owners.values(), senders, calls, events)
            allow_unsent(accounts, sent, calls)
            is_still = (
                figures[_HOLDS] <= self._held
                and figures[_PENDING] == 0
                and figures[_UNSETTLED] == 0
                and figures[_RECORDED] == self.read_events
            )
            if is_still and all(account.is_even for account in accounts.values()):
                break
            if time.monotonic() > deadline:
                break
        found = strays + [v for account in accounts.values() for v in law.violations(account)]
        if running:
            found.append(Violation(law.RUNNING, "", f"{running:.0f} after {ENDS_WITHIN_SECONDS:.0f} s"))
        if figures[_HOLDS] > self._held:
            found.append(Violation(law.HELD, "", f"{figures[_HOLDS] - self._held:.0f} holds"))
        if figures[_PENDING]:
            found.append(Violation(law.PENDING, "", f"{figures[_PENDING]:.0f} answers"))
        if figures[_UNSETTLED]:
            found.append(Violation(law.PENDING, "", f"{figures[_UNSETTLED]:.0f} requests that have ended"))
        if figures[_ERRORS] > self._errors:
            found.append(Violation(law.ERRORS, "", f"{figures[_ERRORS] - self._errors:.0f} errors"))
        self._errors, self._held = figures[_ERRORS], int(figures[_HOLDS])
        return Batch(sent, calls, events, [(one, _suspects(one, sent)) for one in found], 0.0)

    async def until_ended(self) -> float:
        """Wait until the proxy serves no request; how many it still does when the bound has passed."""
        deadline = time.monotonic() + ENDS_WITHIN_SECONDS
        zeros = 0
        while True:
            # Its answer comes from the loop that accepts requests, so what was sent before it is known then;
            # twice, for it may overtake a request on a connection that is just being made.
            await self.http.get(f"{self.stack.url}/health/liveliness")
            running = (await self.metrics())[_RUNNING]
            zeros = 0 if running else zeros + 1
            if zeros == 2 or time.monotonic() > deadline:
                return running
            await asyncio.sleep(POLL_SECONDS)

    async def calls(self) -> list[Call]:
        """What the upstream has served since, once nothing is running there."""
        deadline = time.monotonic() + UPSTREAM_WITHIN_SECONDS
        calls: list[Call] = []
        while True:
            url = f"{self.stack.upstream_url}/served/calls?since={self._read_calls}"
            answer = (await self.http.get(url)).json()
            calls += answer["calls"]
            if answer["calls"]:
                self._read_calls = answer["calls"][-1]["number"]
            if not answer["running"] and self._read_calls == answer["last"]:
                return calls
            assert time.monotonic() < deadline, "the upstream does not come to rest"
            await asyncio.sleep(POLL_SECONDS)

    async def events(self) -> list[Event]:
        """What lies in `spend.usage` beyond what was read, of the next moment."""
        batches = await self._usage.getmany(timeout_ms=int(POLL_SECONDS * 1000))
        events = [json.loads(record.value) for records in batches.values() for record in records]
        self.read_events += len(events)
        return events

    async def metrics(self) -> Mapping[str, float]:
        """The gateway's own figures, each summed over its labels."""
        sums: dict[str, float] = defaultdict(float)
        text = (await self.http.get(self.stack.metrics_url)).text
        for line in text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                sums[name.partition("{")[0]] += float(value)
        return sums


@asynccontextmanager
async def world(
    stack: Stack, *, most: int, settles_within_seconds: float = SETTLES_WITHIN_SECONDS
) -> AsyncIterator[World]:
    """A world with owners for so many cases in a batch."""
    usage = consumer(stack.settings)
    usage.subscribe([stack.settings.topic(Topic.USAGE)])
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
    async with httpx.AsyncClient(timeout=ANSWER_WITHIN_SECONDS, limits=limits) as http:
        await usage.start()
        try:
            made = World(stack, http, usage, settles_within_seconds)
            await made.prepare(most)
            yield made
        finally:
            await usage.stop()


def allow_unsent(accounts: Mapping[str, Account], sent: Iterable[Sent], calls: Iterable[Call]) -> None:
    arrived = Counter(call["nonce"] for call in calls)
    for one in sent:
        models = one.case.model.count(",") + 1
        missing = len(one.statuses) * models - arrived[one.nonce]
        # LiteLLM cancels the call beside which a guardrail blocks, as it does where a client leaves.
        if (one.case.is_left or one.case.marker == DURING) and missing > 0:
            most = unsent_most(one.case.words, is_speech=one.case.route == "speech")
            accounts[one.owner.key_hash].unsent_most += missing * most


def _suspects(violation: Violation, sent: Iterable[Sent]) -> list[Case]:
    return [
        one.case for one in sent if one.owner.name == violation.owner and violation.nonce in (None, one.nonce)
    ]


def budget(name: str, match: Mapping[str, str], limit_nanousd: int, **more: Any) -> Budget:
    """A budget for ever, unless `more` says otherwise."""
    return Budget.model_validate(
        {
            "id": name,
            "match": match,
            "limit_nanousd": limit_nanousd,
            "period": "lifetime",
            "updated_at": datetime.now(UTC),
            **more,
        }
    )
