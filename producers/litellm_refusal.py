"""A refusal as LiteLLM raises its own: the same body, its status codes, and no second try."""

import litellm
from litellm.proxy._types import ProxyException

from producers.refusal import Refusal
from spendmeter.contract.decision import Why

# LiteLLM's own status where spend cannot be verified (`fail_closed_budget_enforcement`).
_UNVERIFIED_STATUS = 503
# The caller may not use this model; to wait or to try again helps nothing.
_UNPRICED_STATUS = 403


class Refused(ProxyException):  # type: ignore[misc]
    """LiteLLM's router goes on to a fallback, and never repeats an attempt that ended like this."""

    status_code = 422


def refused(refusal: Refusal) -> ProxyException:
    """What to raise."""
    kind, status = {
        Why.LIMIT_REACHED: ("budget_exceeded", litellm.budget_exceeded_status_code),
        Why.BLIND: ("budget_unverified", _UNVERIFIED_STATUS),
        Why.UNPRICED: ("budget_unpriced", _UNPRICED_STATUS),
        Why.UNBOUNDED: ("budget_unpriced", _UNPRICED_STATUS),
        Why.NO_ROOM: ("budget_exceeded", litellm.budget_exceeded_status_code),
    }[refusal.refuse.why]
    return Refused(message=refusal.message, type=kind, param=None, code=status, headers=refusal.headers)
