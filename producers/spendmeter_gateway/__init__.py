"""The gateway: a callback in a LiteLLM proxy that records spend, and refuses what is past its budget.

litellm_settings:
  callbacks: spendmeter_gateway.callback
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spendmeter_gateway.litellm.callback import callback as callback


def __getattr__(name: str) -> Any:
    """Create `callback` when LiteLLM reads it: importing the package alone imports no LiteLLM."""
    if name == "callback":
        from spendmeter_gateway.litellm.callback import callback

        return callback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
