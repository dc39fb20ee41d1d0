"""The name that the callback had before: `producers.litellm_callback.spendmeter`. It works, and says so."""

import logging

from spendmeter_gateway import callback as spendmeter

__all__ = ["spendmeter"]

logging.getLogger(__name__).warning(
    "`callbacks: producers.litellm_callback.spendmeter` is called `spendmeter_gateway.callback` now;"
    " the old name goes with the next release"
)
