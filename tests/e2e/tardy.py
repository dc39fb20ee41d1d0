"""LiteLLM's logging, made late for as long as a file exists: in its queue, or in a callback before ours."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import Logging

ENVIRONMENT = "TARDY_WHILE"
"""Names the file; what it holds says which of the two is late."""
QUEUE, CALLBACK = "queue", "callback"
AT_MOST_SECONDS = 15
"""LiteLLM gives its callbacks 20 s, and then logs the request to nobody."""

_logged: Callable[..., Awaitable[Any]] = Logging.async_success_handler


class Tardy(CustomLogger):  # type: ignore[misc]
    async def async_log_success_event(
        self, kwargs: object, response_obj: object, start_time: object, end_time: object
    ) -> None:
        await _while_late(CALLBACK)


async def _log(logging: Logging, *args: Any, **kwargs: Any) -> Any:
    await _while_late(QUEUE)
    return await _logged(logging, *args, **kwargs)


async def _while_late(what: str) -> None:
    until = time.monotonic() + AT_MOST_SECONDS
    while _is_late(what) and time.monotonic() < until:  # noqa: ASYNC110  # the test is another process
        await asyncio.sleep(0.02)


def _is_late(what: str) -> bool:
    try:
        return Path(os.environ[ENVIRONMENT]).read_text() == what
    except FileNotFoundError:
        return False


if ENVIRONMENT in os.environ:
    # This is the proxy's process. The tests', which have LiteLLM too, only look names up here.
    Logging.async_success_handler = _log
tardy = Tardy()
