"""How to reach a running LiteLLM with its database, and what is in force beside it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.probes import wait_until
from tests.patience import WITHIN_SECONDS

MASTER_KEY = "sk-master-0123456789"


@dataclass
class Real:
    """The proxy's management API, its models, and spend.budgets."""

    url: str
    settings: GatewaySettings
    log: Path

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Change something as the administrator; must be answered with 200."""
        answer = httpx.post(self.url + path, json=body, headers=_as(MASTER_KEY), timeout=60)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def get(self, path: str, **query: str) -> Any:
        """Read as the administrator."""
        answer = httpx.get(self.url + path, params=query, headers=_as(MASTER_KEY), timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def key(self, **given: Any) -> dict[str, Any]:
        """A new virtual key, as /key/generate answers."""
        return self.post("/key/generate", **given)

    def ask(self, key: str, **body: Any) -> httpx.Response:
        """A request of one user's."""
        asked = {"model": "house", "messages": [{"role": "user", "content": "hi"}], **body}
        return httpx.post(f"{self.url}/v1/chat/completions", json=asked, headers=_as(key), timeout=60)

    def budgets(self) -> dict[str, Budget]:
        """What is in force."""

        async def read() -> dict[str, Budget]:
            async with connect(self.settings) as client:
                return await client.budgets()

        return asyncio.run(read())

    def until(self, budget_id: str, holds: Callable[[Budget | None], bool]) -> Budget | None:
        """Wait until that holds of a budget; returns it."""
        found: list[Budget | None] = []

        def look() -> bool:
            found[:] = [self.budgets().get(budget_id)]
            return holds(found[0])

        assert wait_until(look, timeout_seconds=WITHIN_SECONDS), (budget_id, found, self.tail())
        return found[0]

    def tail(self) -> str:
        """The end of the proxy's log."""
        return self.log.read_text()[-3000:]


def _as(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
