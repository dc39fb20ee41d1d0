"""The LiteLLM proxy that we run in: its router, its settings, and the budgets it shows with a request."""

import logging
import sys
from typing import Any

import litellm

from producers.adopt_seen import Around, seen_by
from producers.adopter import Adopter
from producers.gateway import ERRORS
from producers.payload import mapping
from spendmeter.contract.matching import Subject

log = logging.getLogger(__name__)


def the_router() -> Any:
    """The proxy's router, set once it has read its configuration; None in a program without a proxy."""
    return getattr(_proxy(), "llm_router", None)


def note_budgets(adopter: Adopter, auth: object, cache: object, subject: Subject) -> None:
    """Take in the budgets that LiteLLM shows with a request; whatever fails costs the request nothing."""
    if not adopter.is_on:
        return
    try:
        adopter.note(seen_by(auth, cache, subject, _around()))
    except Exception:
        ERRORS.labels("adoption").inc()
        log.exception("LiteLLM's budgets could not be seen")


def _around() -> Around:
    """What the configuration says by now."""
    general = mapping(getattr(_proxy(), "general_settings", None))
    return Around(
        getattr(litellm, "timezone", None) or "UTC",
        litellm.max_budget or None,
        litellm.budget_duration,
        general.get("apply_user_budget_to_team_keys") is True,
    )


def _proxy() -> object:
    return sys.modules.get("litellm.proxy.proxy_server")
