"""What a failed call says of its bill: whether the provider may have worked before it was given up. Pure."""

import asyncio
from collections.abc import Iterator
from itertools import takewhile

import httpx
import openai
from pydantic import ValidationError

# Nothing reached the provider.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_NEVER_SENT_NAMES = ("ClientConnectorError", "ClientConnectorDNSError", "ConnectionTimeoutError")
_CUT = (httpx.TimeoutException, httpx.TransportError, asyncio.TimeoutError, TimeoutError, ConnectionError)
_CUT_NAMES = ("Timeout", "APITimeoutError", "ServerDisconnectedError", "ClientPayloadError", "ClientOSError")
# The provider has answered, and it cannot be read.
_UNREADABLE_NAMES = ("JSONDecodeError", "APIResponseValidationError")
# What LiteLLM runs into where an answer lacks what it reads.
_UNREAD = (KeyError, IndexError, TypeError, AttributeError, ValidationError)
_MAX_CAUSES = 20


def was_cut(error: BaseException, *, was_answered: bool = False, earlier_error: int = 0) -> bool:
    """Whether a call that was sent may have been worked on: timed out, broken off, or answered unreadably.

    `was_answered`: LiteLLM has noted an answer, whatever it made of it. `earlier_error`: the `id` of what was
    being handled as the call began; a fallback runs while the failure that led to it is being handled.

    A provider that answers with an error bills nothing. LiteLLM wraps what happened several times over.
    """
    causes = list(takewhile(lambda one: id(one) != earlier_error, _causes(error)))
    if not causes:
        return False
    if any(map(_was_never_sent, causes)):
        return False
    if any(isinstance(one, httpx.HTTPStatusError) for one in causes):
        return False
    if (
        was_answered
        or isinstance(causes[-1], _UNREAD)
        or any(type(one).__name__ in _UNREADABLE_NAMES for one in causes)
    ):
        return True
    return any(isinstance(one, _CUT) or type(one).__name__ in _CUT_NAMES for one in causes)


def _was_never_sent(error: BaseException) -> bool:
    if isinstance(error, _NEVER_SENT) or type(error).__name__ in _NEVER_SENT_NAMES:
        return True
    # OpenAI's client calls it a lost connection, too, if what it was given cannot be sent: a timeout of text.
    return type(error) is openai.APIConnectionError and isinstance(error.__cause__, TypeError | ValueError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen and len(seen) < _MAX_CAUSES:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__
