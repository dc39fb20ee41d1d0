"""A refusal as LiteLLM raises its own: the same body and status, and no second try."""

from litellm.proxy._types import ProxyException

from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.litellm.compat import litellm_status
from spendmeter_gateway.litellm.refusal_response import status_of


class RefusedError(ProxyException):  # type: ignore[misc]
    """LiteLLM's router goes on to a fallback, and never repeats an attempt that ended like this."""

    status_code = 422
    """What the router reads: it would try 429 and 503 again. The client gets `code`."""


def refused(refusal: Refusal) -> ProxyException:
    """What to raise."""
    return RefusedError(
        message=refusal.message,
        type=refusal.type,
        param=refusal.param,
        code=status_of(refusal, litellm_status()),
        headers=refusal.headers,
    )
