"""What the demo asks over plain HTTP: a LiteLLM proxy, and ClickHouse. Needs `httpx` or `requests`."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

try:
    from httpx import Client as Session
except ImportError:
    from requests import Session  # type: ignore[assignment]

WITHIN_SECONDS = 15.0


@dataclass
class Call:
    """One completion, served or refused."""

    model: str
    prompt: str
    status: int
    reply: str
    tokens_in: int
    tokens_out: int
    cost_usd: Decimal | None
    """None when the proxy knows no price."""
    spent_usd: Decimal
    answered_at: float = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    error: dict[str, Any] = field(default_factory=dict)


class Proxy:
    """The LiteLLM proxy: its key API with the master key, completions with the key made."""

    def __init__(self, base_url: str, master_key: str) -> None:
        self._base_url, self._master_key = base_url.rstrip("/"), master_key
        self._session = Session()
        self.key = ""
        self.spent_usd = Decimal(0)

    def admin(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """A call of the key API; anything but 200 ends the demo with the proxy's words."""
        arguments = {"params": body} if method == "GET" else {"json": body}
        answer = self._ask(method, path, self._master_key, **arguments)
        if answer.status_code != 200:
            raise SystemExit(f"{method} {path} was answered {answer.status_code}: {answer.text}")
        return dict(answer.json())

    def models(self) -> list[str]:
        """The models that the key may use."""
        return [model["id"] for model in self._ask("GET", "/v1/models", self.key).json()["data"]]

    def complete(self, model: str, prompt: str) -> Call:
        """One chat completion."""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        answer = self._ask("POST", "/v1/chat/completions", self.key, json=body)
        answered_at, data = time.perf_counter(), answer.json()
        header = answer.headers.get("x-litellm-response-cost")
        cost = None if header in (None, "None", "") else Decimal(header)
        served = answer.status_code == 200
        self.spent_usd += (cost or 0) if served else 0
        usage = data.get("usage", {})
        return Call(
            model=model,
            prompt=prompt,
            status=answer.status_code,
            reply=data["choices"][0]["message"]["content"] if served else "",
            tokens_in=usage.get("prompt_tokens", 0),
            tokens_out=usage.get("completion_tokens", 0),
            cost_usd=cost if served else Decimal(0),
            spent_usd=self.spent_usd,
            answered_at=answered_at,
            headers={
                k: v for k, v in answer.headers.items() if k.startswith(("x-spend", "x-should", "retry"))
            },
            error=data.get("error", {}),
        )

    def _ask(self, method: str, path: str, key: str, **arguments: Any) -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        return self._session.request(
            method, self._base_url + path, headers=headers, timeout=WITHIN_SECONDS, **arguments
        )


class History:
    """What ClickHouse has kept of one key. Without a URL it knows nothing.

    The password is CLICKHOUSE_PASSWORD of the environment, of the user CLICKHOUSE_USER.
    """

    def __init__(self, url: str | None, key: str) -> None:
        self._url, self._session = url, Session()
        if password := os.environ.get("CLICKHOUSE_PASSWORD"):
            self._session.auth = (os.environ.get("CLICKHOUSE_USER", "default"), password)
        self.hash = hashlib.sha256(key.encode()).hexdigest()

    def rows(self, sql: str, **values: str) -> list[dict[str, Any]]:
        """The rows of a query, in which {key:String} is the key's hash, {name:String} a value."""
        if self._url is None:
            return []
        parameters = {"query": f"{sql} FORMAT JSON", "param_key": self.hash, "database": "spend"}
        parameters |= {f"param_{name}": value for name, value in values.items()}
        answer = self._session.request("GET", self._url, params=parameters, timeout=WITHIN_SECONDS)
        if answer.status_code != 200:
            raise SystemExit(f"ClickHouse answered {answer.status_code}: {answer.text}")
        return list(answer.json()["data"])

    def wait_for(self, sql: str, enough: Callable[[Any], bool] = bool, **values: str) -> list[dict[str, Any]]:
        """The rows once there are enough of them; those there are when WITHIN_SECONDS have passed."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while not enough(rows := self.rows(sql, **values)) and self._url and time.monotonic() < deadline:
            time.sleep(0.02)
        return rows


ALERTS = """
    SELECT message, toFloat64(spent_usd) / toFloat64(limit_usd) AS fraction
    FROM alerts FINAL WHERE subject['key'] = {key:String} AND kind = {kind:String} ORDER BY emitted_at"""
UNPRICED_EVENTS = """
    SELECT model_group, any(model) AS model, count() AS events FROM usage FINAL
    WHERE key = {key:String} AND cost_source = 'unpriced' GROUP BY model_group"""
# Told once a day and model, so perhaps before this demo began.
UNPRICED_ALERTS = """
    SELECT message FROM alerts FINAL
    WHERE kind = 'unpriced' AND emitted_at >= today() AND position(message, {model:String}) > 0"""
SPENT = """
    SELECT toInt64(sum(cost_nanousd)) AS nanousd, count() AS events
    FROM usage FINAL WHERE key = {key:String} AND status = 'success'"""
SIGNAL = """
    SELECT toInt64(spent_usd * 1000000000) AS nanousd
    FROM signals_now WHERE subject = map('key', {key:String})"""
# What `spendmeter explain` begins with: the refusal as the gateway published it.
DECISION = """
    SELECT why, budget_id, toString(spent_usd) AS spent_usd, toString(limit_usd) AS limit_usd, watermark
    FROM decisions FINAL WHERE decision_id = {decision:UUID}"""
# From the moment a request had finished at the gateway to the moment the stream emitted the first
# signal that includes it. Free requests move no limit, so their signals may wait; they are left out.
SIGNAL_LATENCY = """
    SELECT round(quantileExact(0.5)(ms), 1) AS p50, round(quantileExact(0.99)(ms), 1) AS p99 FROM (
        SELECT min(dateDiff('microsecond', u.occurred_at, s.emitted_at)) / 1000 AS ms
        FROM (SELECT * FROM usage FINAL WHERE key = {key:String} AND cost_usd > 0) AS u
        CROSS JOIN (SELECT * FROM signals WHERE subject = map('key', {key:String})) AS s
        WHERE mapContains(s.watermark, u.partition) AND s.watermark[u.partition] >= u.offset
        GROUP BY u.event_id)"""
