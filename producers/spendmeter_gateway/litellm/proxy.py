"""The LiteLLM proxy that we run in: its router and settings, the budgets it shows, and how it is refused."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import litellm
from litellm.proxy._types import ProxyException

from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.gateway import ERRORS
from spendmeter_gateway.litellm.budgets import Around
from spendmeter_gateway.litellm.compat import litellm_status
from spendmeter_gateway.litellm.key_cache import KeyCache, Request
from spendmeter_gateway.litellm.payload.fields import fields_of, mapping
from spendmeter_gateway.litellm.refusal_response import status_of
from spendmeter_gateway.litellm.request.caller import request_fields

log = logging.getLogger(__name__)


def the_router() -> Any:
    """The proxy's router, set once it has read its configuration; None in a program without a proxy."""
    return getattr(_proxy(), "llm_router", None)


def request_of(keys: KeyCache, auth: object, cache: object, data: Mapping[str, Any]) -> Request:
    """Who asks for what. The budgets that LiteLLM shows with the request are adopted as well."""
    fields = fields_of(auth)
    key = keys.key(fields)
    # Not as attributes: for one that is not set, LiteLLM searches all that it can load, each time.
    settings = vars(litellm)
    request = keys.request(
        key, request_fields(data, settings.get("extra_spend_tag_headers") or (), keys.client_values)
    )
    try:
        keys.note_budgets(key, request, fields, cache, _around(settings))
    except Exception:
        ERRORS.labels("adoption").inc()
        log.exception("LiteLLM's budgets could not be seen")
    return request


def _around(settings: Mapping[str, Any]) -> Around:
    """What the configuration says by now: LiteLLM's `settings`, and the proxy's."""
    general = mapping(getattr(_proxy(), "general_settings", None))
    return Around(
        settings.get("timezone") or "UTC",
        settings.get("max_budget") or None,
        settings.get("budget_duration"),
        general.get("apply_user_budget_to_team_keys") is True,
    )


class RefusedError(ProxyException):  # type: ignore[misc]
    """LiteLLM's router goes on to a fallback, and never repeats an attempt that ended like this."""

    status_code = 422
    """What the router reads: it would try 429 and 503 again. The client gets `code`."""


def refused(refusal: Refusal) -> ProxyException:
    """A refusal as LiteLLM raises its own: the same body and status, and no second try."""
    return RefusedError(
        message=refusal.message,
        type=refusal.type,
        param=refusal.param,
        code=status_of(refusal, litellm_status()),
        headers=refusal.headers,
    )


def _proxy() -> object:
    return sys.modules.get("litellm.proxy.proxy_server")
