"""What LiteLLM's authentication said of a request, on every route, also where no hook of ours is called.

Every way in (FastAPI's dependency; MCP, pass-through routes and websockets, which call it themselves) runs
LiteLLM's `user_api_key_auth`. It finds one function by name in its module and awaits it: that one is wrapped.
True of 1.84 to 1.109. MCP's own sign-on sessions and LiteLLM's own jobs do not pass here.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

log = logging.getLogger(__name__)

_MODULE = "litellm.proxy.auth.user_api_key_auth"
# The first from 1.106; the second before.
_NAMES = ("user_api_key_auth_builder", "_user_api_key_auth_builder")
_MARK = "__spendmeter_observes__"

OnAuthenticated = Callable[[object], None]
"""Gets LiteLLM's `UserAPIKeyAuth` in the request's own context. The object itself is to be kept, not a copy:

LiteLLM fills in organization and end user while it goes on."""


def observe_authentication(on_authenticated: OnAuthenticated) -> bool:
    """Have it called for each request that LiteLLM authenticates from now on. Called again, it replaces.

    False where this LiteLLM has no such function: then only what the hooks are given is known.
    """
    module = import_module(_MODULE)
    name = next((name for name in _NAMES if callable(getattr(module, name, None))), None)
    if name is None:
        log.error("this LiteLLM has neither of %s in %s", ", ".join(_NAMES), _MODULE)
        return False
    original: Callable[..., Awaitable[object]] = getattr(module, name)
    original = getattr(original, _MARK, original)

    @functools.wraps(original)
    async def observed(*args: Any, **kwargs: Any) -> object:
        auth = await original(*args, **kwargs)
        try:
            on_authenticated(auth)
        except Exception:
            log.exception("what authentication said could not be kept")
        return auth

    setattr(observed, _MARK, original)
    setattr(module, name, observed)
    return True
