"""What the gateway is measured in: budgets, live accounts, and requests as LiteLLM hands them over."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from litellm.proxy._types import UserAPIKeyAuth

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd, from_usd
from spendmeter.contract.signal import Signal, State
from spendmeter.domain.window import window_of

_LIMIT = from_usd("1000000")
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
# What a client's library and a load balancer send along.
_HEADERS = {
    "host": "llm.example.com",
    "user-agent": "OpenAI/Python 1.60.0",
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "content-type": "application/json",
    "content-length": "811",
    "x-forwarded-for": "10.2.3.4",
    "x-request-id": "b0f6c7d2-5a8e-4c1a-9a52-6a4f5f0f6c11",
    "x-stainless-lang": "python",
    "x-stainless-runtime": "CPython",
}
_MESSAGES = [
    {"role": "system", "content": "You answer briefly. " * 20},
    {"role": "user", "content": "Summarise the meeting's notes in three sentences, please. " * 10},
]


def budgets(count: int) -> Iterator[Budget]:
    """One for everything, one for every key, and in thirds: keys, a team's users, groups of models."""
    yield _budget("everything", {})
    yield _budget("every-key", {"key": "*"})
    for n in range((count - 2) // 3):
        yield _budget(f"key-{n}", {"key": key_of(n)})
        yield _budget(f"team-{n}", {"team": team_of(n), "user": "*"})
        yield _budget(f"models-{n}", {"model_group": f"family-{n}-*"})


def signals(accounts: int) -> Iterator[Signal]:
    """A live signal for each of so many keys."""
    of = _budget("every-key", {"key": "*"})
    now = datetime.now(UTC)
    window = window_of(of, now)
    assert window is not None
    for n in range(accounts):
        yield Signal(
            budget_id=of.id,
            account=f"{of.id}|key={key_of(n)}",
            subject={"key": key_of(n)},
            window_start=window.start,
            window_end=window.end,
            limit_nanousd=of.limit_nanousd,
            spent_nanousd=NanoUsd(1_000 + n),
            state=State.OK,
            watermark=dict.fromkeys(range(4), 0),
            revision=1,
            version=n + 1,
            emitted_at=now,
        )


def _budget(budget_id: str, match: dict[str, str]) -> Budget:
    fields = {"id": budget_id, "match": match, "limit_nanousd": _LIMIT, "period": "month", "revision": 1}
    return Budget.model_validate({**fields, "updated_at": _NOW})


def key_of(n: int) -> str:
    """The hash of the n-th API key."""
    return f"{n:064x}"


def team_of(n: int) -> str:
    return f"team-{n}"


class Requests:
    """Requests of the n-th key, and the log events that LiteLLM makes of them."""

    def __init__(self, budget_count: int) -> None:
        self._third = max((budget_count - 2) // 3, 1)

    def auth(self, n: int) -> UserAPIKeyAuth:
        return UserAPIKeyAuth(
            api_key=key_of(n),
            token=key_of(n),
            key_alias=f"service-{n}",
            user_id=f"user-{n}",
            team_id=team_of(n % self._third),
            org_id="org-1",
            metadata={"tags": ["batch"]},
        )

    def data(self, n: int) -> dict[str, Any]:
        """The request's body with what the proxy added, as the pre-call hook gets it."""
        model = f"family-{n % self._third}-large"
        body = {"model": model, "messages": _MESSAGES, "max_tokens": 500, "user": f"customer-{n}"}
        return {
            **body,
            "litellm_call_id": f"1d721bea-975c-4a68-bfa8-{n:012d}",
            "proxy_server_request": {
                "url": "http://llm.example.com/v1/chat/completions",
                "method": "POST",
                "headers": _HEADERS,
                "body": body,
            },
            "metadata": {
                **self._key_metadata(n),
                "requester_metadata": {},
                "headers": _HEADERS,
                "endpoint": "http://llm.example.com/v1/chat/completions",
                "tags": ["batch"],
                "requester_ip_address": "10.2.3.4",
            },
        }

    def logged(self, n: int, event_id: str) -> dict[str, Any]:
        """The success event of the request that `event_id` was minted for."""
        kwargs = deepcopy(_LOGGED)
        kwargs["litellm_params"]["metadata"] = {**self._key_metadata(n), "spendmeter_event_id": event_id}
        payload = kwargs["standard_logging_object"]
        payload["metadata"] |= self._key_metadata(n)
        payload["model_group"] = f"family-{n % self._third}-large"
        return kwargs

    def _key_metadata(self, n: int) -> dict[str, Any]:
        return {
            "user_api_key_hash": key_of(n),
            "user_api_key_alias": f"service-{n}",
            "user_api_key_spend": 0.0,
            "user_api_key_team_id": team_of(n % self._third),
            "user_api_key_user_id": f"user-{n}",
            "user_api_key_org_id": "org-1",
            "user_api_key_end_user_id": f"customer-{n}",
            "user_api_key_request_route": "/v1/chat/completions",
        }


_LOGGED: dict[str, Any] = {
    "call_type": "acompletion",
    "model": "gpt-4o-mini",
    "stream": False,
    "cache_hit": None,
    "custom_llm_provider": "openai",
    "litellm_call_id": "1d721bea-975c-4a68-bfa8-725a6e5901ff",
    "response_cost": 3.675e-05,
    "litellm_params": {},
    "standard_logging_object": {
        "id": "chatcmpl-1",
        "litellm_call_id": "1d721bea-975c-4a68-bfa8-725a6e5901ff",
        "trace_id": "c242b0b2-cf3a-44b0-8cd8-c45a33888bb5",
        "session_id": "",
        "call_type": "acompletion",
        "stream": None,
        "cache_hit": None,
        "status": "success",
        "custom_llm_provider": "openai",
        "model": "openai/gpt-4o-mini",
        "model_id": "b5d6b92d267cec5a30e0cfc25dbcae22301a6deb1b463fd7849ed3eb4c325f20",
        "prompt_tokens": 100,
        "completion_tokens": 40,
        "total_tokens": 140,
        "startTime": 1795349409.386275,
        "endTime": 1795349409.885073,
        "response_cost": 3.675e-05,
        "cost_breakdown": {
            "input_cost": 1.275e-05,
            "output_cost": 2.4e-05,
            "total_cost": 3.675e-05,
            "cache_read_cost": 2.25e-06,
            "reasoning_cost": 7.2e-06,
            "original_cost": 3.675e-05,
        },
        "end_user": "customer-1",
        "request_tags": ["batch", "User-Agent: OpenAI", "User-Agent: OpenAI/Python 1.60.0"],
        "messages": _MESSAGES,
        "metadata": {
            "usage_object": {
                "completion_tokens": 40,
                "prompt_tokens": 100,
                "total_tokens": 140,
                "completion_tokens_details": {"audio_tokens": None, "reasoning_tokens": 12},
                "prompt_tokens_details": {"audio_tokens": None, "cached_tokens": 30},
            },
        },
        "model_map_information": {
            "model_map_key": "openai/gpt-4o-mini",
            "model_map_value": {
                "input_cost_per_token": 1.5e-07,
                "output_cost_per_token": 6e-07,
                "cache_read_input_token_cost": 7.5e-08,
                "input_cost_per_token_batches": 7.5e-08,
                "output_cost_per_token_batches": 3e-07,
            },
        },
        "response": {"object": "chat.completion", "choices": [{"finish_reason": "stop", "index": 0}]},
    },
}
