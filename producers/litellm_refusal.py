"""A refusal as LiteLLM raises its own: the same body and status, and no second try."""

from importlib.metadata import PackageNotFoundError, version

import litellm
from litellm.proxy._types import ProxyException

from producers.refusal import Refusal
from producers.refusal_response import status_of

# Before 1.85 the authentication handler answered 400, though the exception's class said 429; then it answered
# what the class says; from 1.104 a setting says which.
_ANSWERED_400_BEFORE = (1, 85)
_STATUS_BEFORE_THE_SETTING = 429
_STATUS_OF_OLD = 400


class Refused(ProxyException):  # type: ignore[misc]
    """LiteLLM's router goes on to a fallback, and never repeats an attempt that ended like this."""

    status_code = 422
    """What the router reads: it would try 429 and 503 again. The client gets `code`."""


def litellm_status() -> int:
    """The status with which the installed LiteLLM answers where its own budgets refuse."""
    # Not as an attribute: LiteLLM would look for one that it lacks in all that it can load.
    return native_status(_installed(), vars(litellm).get("budget_exceeded_status_code"))


def native_status(installed: str, setting: object) -> int:
    """The same, by LiteLLM's version and its setting; None where it has no such setting."""
    if isinstance(setting, int) and not isinstance(setting, bool) and 400 <= setting <= 599:
        return setting
    numbers = tuple(int(part) for part in installed.split(".")[:2] if part.isdecimal())
    if numbers and numbers < _ANSWERED_400_BEFORE:
        return _STATUS_OF_OLD
    return _STATUS_BEFORE_THE_SETTING


def refused(refusal: Refusal) -> ProxyException:
    """What to raise."""
    return Refused(
        message=refusal.message,
        type=refusal.type,
        param=refusal.param,
        code=status_of(refusal, litellm_status()),
        headers=refusal.headers,
    )


def _installed() -> str:
    try:
        return version("litellm")
    except PackageNotFoundError:
        return ""
