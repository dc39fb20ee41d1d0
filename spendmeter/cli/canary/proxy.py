"""One cheap request of the canary to the proxy, and what its answer says."""

import json
import secrets
import time
from http.client import HTTPException
from socket import gaierror
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from spendmeter.cli.canary.model import CanaryFailure, FailedAt
from spendmeter.contract.money import InvalidAmount, NanoUsd, from_usd
from spendmeter.litellm.api import LitellmApi
from spendmeter.retry.refusals import BudgetRefusal, read_refusal
from spendmeter.visible import one_line

ANSWER_WITHIN_SECONDS = 15
MAX_ANSWER_BYTES = 1024 * 1024
_MAX_MESSAGE_CHARS = 300
_COST_HEADER = "x-litellm-response-cost"


class CanaryAnswer(NamedTuple):
    """Served at a cost, or refused by a budget."""

    at: float
    """When it was read, in seconds of `time.perf_counter`."""
    cost_nanousd: NanoUsd
    refusal: BudgetRefusal | None


class CanaryProxy:
    """A LiteLLM proxy, as one key sees it.

    Raises:
        spendmeter.litellm.api.NotAnswered: the URL or the key cannot be one.
    """

    def __init__(self, url: str, key: str, model: str, end_user: str | None = None) -> None:
        self.url = LitellmApi(url, key).url
        self._key, self._model, self._end_user = key, model, end_user

    def complete(self) -> CanaryAnswer:
        """Make one request of a few tokens. Raises CanaryFailure if it is neither served nor refused."""
        status, headers, body = self._send()
        at = time.perf_counter()
        if status == 200:
            return CanaryAnswer(at, self._cost(headers), None)
        if refusal := read_refusal(status, headers, body):
            return CanaryAnswer(at, NanoUsd(0), refusal)
        raise self._failure(status, body)

    def _send(self) -> tuple[int, dict[str, str], bytes]:
        # Another text each time: a cached answer costs nothing.
        text = f"canary {secrets.token_hex(4)}"
        asking = {"model": self._model, "max_tokens": 1, "messages": [{"role": "user", "content": text}]}
        if self._end_user is not None:
            asking["user"] = self._end_user
        request = Request(
            f"{self.url}/v1/chat/completions",
            json.dumps(asking).encode(),
            {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
        )
        try:
            try:
                answer = urlopen(request, timeout=ANSWER_WITHIN_SECONDS)
            except HTTPError as error:
                answer = error
            with answer:
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return answer.status, headers, answer.read(MAX_ANSWER_BYTES)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            was_sent = not isinstance(reason, ConnectionRefusedError | gaierror)
            why = one_line(str(getattr(reason, "strerror", None) or reason))
            raise CanaryFailure(
                FailedAt.PROXY,
                f"no proxy answers at {self.url} ({why}); start it, or correct --url",
                may_be_billed=was_sent,
            ) from None

    def _cost(self, headers: dict[str, str]) -> NanoUsd:
        try:
            cost = from_usd(headers.get(_COST_HEADER) or "0")
        except InvalidAmount:
            cost = NanoUsd(0)
        if cost <= 0:
            raise CanaryFailure(
                FailedAt.PRICE,
                f"an answer of {self._model} says no cost ({_COST_HEADER}), so that it can reach no limit;"
                " name a --model that LiteLLM has a price of",
            )
        return cost

    def _failure(self, status: int, body: bytes) -> CanaryFailure:
        kind, message = _error_in(body)
        said = one_line(message.replace(self._key, "***")[:_MAX_MESSAGE_CHARS])
        if "model" in kind or status in (400, 404):
            return CanaryFailure(
                FailedAt.MODEL,
                f"the proxy does not serve {self._model} to this key ({status}: {said});"
                " name a --model of its /v1/models",
            )
        if status in (401, 403):
            return CanaryFailure(
                FailedAt.KEY,
                f"the proxy does not accept the canary's key ({status}: {said}); make one with"
                " `spendmeter key create --alias canary` and put it into SPENDMETER_CANARY_KEY",
            )
        return CanaryFailure(
            FailedAt.PROXY,
            f"the proxy at {self.url} answers {status}: {said}; its log says why",
            may_be_billed=True,
        )


def _error_in(body: bytes) -> tuple[str, str]:
    """Type and message of an error in OpenAI's shape; of another one its text."""
    text = body.decode(errors="replace")
    try:
        error = json.loads(text)["error"]
        return str(error.get("type") or ""), str(error["message"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", text
