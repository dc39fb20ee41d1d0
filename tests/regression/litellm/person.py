"""Somebody who asks: a key with budgets of its own, and what everybody says of it afterwards."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx

from spendmeter.contract.budget import Budget
from spendmeter_local.keys.store import hash_key
from tests.regression.litellm.stack import ASK, Proxy, Stack, nanousd_of, until


class Person:
    """A user with a key, a team and an organization that nobody else has."""

    def __init__(
        self, stack: Stack, *budgets: dict[str, Any], proxies: Iterable[Proxy] = (), **of_the_key: Any
    ) -> None:
        """Their key is known at these proxies: by default at the first one alone."""
        self.stack, self.proxies = stack, list(proxies) or [stack.first]
        self.name, self.key = f"p-{uuid4().hex[:10]}", f"sk-{uuid4().hex}"
        self.hash = hash_key(self.key)
        self.team, self.organization = f"team-{self.name}", f"org-{self.name}"
        self.budgets = [self._budget(number, fields) for number, fields in enumerate(budgets)]
        if self.budgets:
            stack.change(lambda client: client.apply(self.budgets))
        given: dict[str, Any] = {
            "user_id": self.name,
            "team_id": self.team,
            "organization_id": self.organization,
        }
        # A key that has a budget is answered once every budget is being enforced.
        given |= {"max_budget": 9.0, **of_the_key}
        for proxy in self.proxies:
            alias = f"{self.name}@{proxy.name}"
            proxy.admin("POST", "/key/generate", json={"key": self.key, "key_alias": alias, **given})
        self.since = stack.upstream.last()

    def asks(
        self,
        directive: str = ASK,
        *,
        at: Proxy | None = None,
        path: str = "/v1/chat/completions",
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> httpx.Response:
        """One request, at the first of its proxies unless another is named."""
        return self.stack.http.post(
            (at or self.proxies[0]).url + path,
            json=self.body(directive, path) | body,
            headers={"Authorization": f"Bearer {self.key}", **(headers or {})},
        )

    def body(self, directive: str = ASK, path: str = "/v1/chat/completions") -> dict[str, Any]:
        text = f"Say something about {uuid4().hex}. [[{directive}]]"
        if path == "/v1/responses":
            return {"model": "gpt-4o-mini", "input": text}
        model = "claude-sonnet-4-5" if path == "/v1/messages" else "gpt-4o-mini"
        more = {"max_tokens": 4096} if path == "/v1/messages" else {}
        return {"model": model, "messages": [{"role": "user", "content": text}], **more}

    @contextmanager
    def streams(
        self, directive: str, *, path: str = "/v1/chat/completions", **body: Any
    ) -> Iterator[httpx.Response]:
        """A streamed answer, whose client leaves with the block."""
        url, headers = self.proxies[0].url + path, {"Authorization": f"Bearer {self.key}"}
        asked = self.body(directive, path) | {"stream": True, **body}
        with self.stack.http.stream("POST", url, json=asked, headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            yield answer

    def cost(self) -> int:
        """What the upstream served since this person came, in nano-USD; tests run one after another."""
        return self.stack.upstream.cost(self.since)

    def settles(self) -> int:
        """Wait until each of its proxies knows exactly what the upstream served; returns that."""
        cost = self.cost()
        for proxy in self.proxies:
            self.knows(proxy, cost)
        return cost

    def knows(self, proxy: Proxy, nanousd: int) -> None:
        """Wait until the proxy knows that much to be spent, no more and no less."""
        until(
            lambda: proxy.spent(self.key) == nanousd, lambda: (proxy.spent(self.key), nanousd, proxy.said())
        )

    def until_refused(self, at: Proxy | None = None, **body: Any) -> httpx.Response:
        """Ask, each time after the last answer is known everywhere, until the answer is a refusal."""
        for _ in range(50):
            answer = self.asks(at=at, **body)
            if answer.status_code != 200:
                return refused(answer)
            self.settles()
        raise AssertionError("never refused")

    def history(self) -> tuple[int, int]:
        """Events and nano-USD that history has of this person's key."""
        sql = "SELECT count(), toInt64(sum(cost_nanousd)) FROM usage FINAL WHERE key = {key:String}"
        events, nanousd = self.stack.history.query(sql, parameters={"key": self.hash}).result_rows[0]
        return int(events), int(nanousd)

    def until_history(self, events: int, nanousd: int) -> None:
        """Wait until history has so many events, then insist on their cost."""
        until(lambda: self.history()[0] >= events, self.history)
        assert self.history() == (events, nanousd)

    def _budget(self, number: int, fields: dict[str, Any]) -> Budget:
        # "me" stands for a name that is not known before.
        own = {"user": self.name, "team": self.team, "organization": self.organization, "key": self.hash}
        match = {
            name: own.get(name, "") if value == "me" else value for name, value in fields["match"].items()
        }
        given = {"id": f"{self.name}-{number}", "period": "lifetime", "updated_at": datetime.now(UTC)}
        return Budget.model_validate(given | fields | {"match": match})


def refused(answer: httpx.Response) -> httpx.Response:
    """Insist that this is a refusal for a budget."""
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["type"] == "budget_exceeded", answer.text
    return answer


def told_cost(answer: httpx.Response) -> int:
    """The `Current cost` of a refusal, in nano-USD."""
    text = answer.json()["error"]["message"].split("Current cost: ")[1].split(",")[0]
    return nanousd_of(float(text))
