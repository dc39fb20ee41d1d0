"""Which answers and exceptions are refusals of a budget, ours or LiteLLM's own. Pure."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

STATUSES = frozenset({400, 422, 429, 503})
"""Statuses of a spent budget, by LiteLLM's version and setting (422, earlier 429 and 400); 503: unverified.
"""

_TYPES = ("budget_exceeded", "budget_unverified")
# Routes in Anthropic's shape, and hooks that raise LiteLLM's own error, name another type.
_OPENINGS = ("Budget has been exceeded!", "Budget would be exceeded!", "Budget cannot be verified")
_OTHER_TYPES = ("api_error", "invalid_request_error", "")
_FIGURE = r"(?P<usd>\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_SPENT = re.compile(rf"Current cost: {_FIGURE}", re.IGNORECASE)
_LIMIT = re.compile(rf"Max budget: {_FIGURE}", re.IGNORECASE)


class BudgetRefusal(NamedTuple):
    """The facts in a refusal; None for missing ones."""

    message: str
    budget: str | None
    spent_usd: Decimal | None
    limit_usd: Decimal | None
    retry_after_seconds: float | None
    """When the window ends; None if it never does, or if LiteLLM itself refused."""


def read_refusal(status: int, headers: Mapping[str, str], body: object) -> BudgetRefusal | None:
    """The refusal in an HTTP answer; None if it is anything else. Header names are in lower case.

    `body` is bytes, text, or what its JSON says.
    """
    if status not in STATUSES:
        return None
    error = _error_in(body)
    kind, message = str(error.get("type") or ""), str(error.get("message") or "")
    has_opening = any(opening in message for opening in _OPENINGS)
    if kind not in _TYPES and not (has_opening and kind in _OTHER_TYPES):
        return None
    return _refusal(message, headers)


def refusal_of(error: BaseException) -> BudgetRefusal | None:
    """The refusal in an exception of LiteLLM, of the OpenAI or Anthropic client, or of httpx; else None."""
    if any(base.__name__ == "BudgetExceededError" for base in type(error).__mro__):
        if getattr(error, "type", _TYPES[0]) not in _TYPES:
            return None
        refusal = _refusal(str(error), getattr(error, "headers", None) or {})
        return refusal._replace(
            spent_usd=_usd(getattr(error, "current_cost", None)) or refusal.spent_usd,
            limit_usd=_usd(getattr(error, "max_budget", None)) or refusal.limit_usd,
        )
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if not isinstance(status, int):
        return None
    body = getattr(error, "body", None)
    if body is None:
        body = _text(response)
    return read_refusal(status, getattr(response, "headers", None) or {}, body)


def _refusal(message: str, headers: Mapping[str, str]) -> BudgetRefusal:
    return BudgetRefusal(
        message=message,
        budget=headers.get("x-spendmeter-budget"),
        spent_usd=_figure(_SPENT, message),
        limit_usd=_figure(_LIMIT, message),
        retry_after_seconds=_seconds(headers.get("retry-after")),
    )


def _error_in(body: object) -> Mapping[str, Any]:
    if isinstance(body, bytes | str):
        try:
            body = json.loads(body)
        except ValueError:
            return {}
    if not isinstance(body, Mapping):
        return {}
    # The OpenAI client passes on what is inside `error`; Anthropic's shape also has a `type` outside.
    inner = body.get("error", body)
    return inner if isinstance(inner, Mapping) else {}


def _text(response: Any) -> str:
    try:
        return str(response.text)
    except RuntimeError:
        # httpx: a stream that nobody has read.
        return ""


def _figure(pattern: re.Pattern[str], message: str) -> Decimal | None:
    found = pattern.search(message)
    return Decimal(found["usd"]) if found else None


def _usd(amount: object) -> Decimal | None:
    return Decimal(repr(amount)) if isinstance(amount, int | float) else None


def _seconds(text: str | None) -> float | None:
    """Whole seconds, like ours; LiteLLM never sends a date."""
    return float(text) if text is not None and text.isdecimal() else None
