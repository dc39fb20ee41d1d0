"""The earlier name of `spendmeter.retry`. It works, and says so."""

import warnings

from spendmeter import retry
from spendmeter.retry import *  # noqa: F403
from spendmeter.retry import RetryPolicy as Patience
from spendmeter.retry import SpendThresholds as Fractions

__all__ = [*retry.__all__, "Fractions", "Patience"]
__path__ = retry.__path__
"""So that `spendmeter.waiting.http` is found."""

warnings.warn(
    "spendmeter.waiting is called spendmeter.retry now, Patience RetryPolicy, and Fractions SpendThresholds;"
    " the old names go with the next release",
    DeprecationWarning,
    stacklevel=2,
)
