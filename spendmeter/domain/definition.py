"""The definition of a budget: which events count where. Another definition is counted anew."""

import json
from collections.abc import Iterable
from hashlib import blake2s

from spendmeter.contract.budget import Budget

# Part of many keys: enough to separate the few definitions that one budget ever has.
_DIGEST_BYTES = 4
_MODELS_BY_THEIR_ONE_NAME = 2
"""Which names of models are the same (models.py). Another rule of that counts something else: raise it."""


def definition_digest(budget: Budget, replacers: Iterable[Budget] = ()) -> str:
    """A digest of what the budget counts, given the budgets that replace it for some of its subjects.

    It says by which rule models are named only where a model decides what counts: so a new rule makes nothing
    else be counted anew.
    """
    replacers = list(replacers)
    counts = budget.model_dump(mode="json", include={"match", "period", "timezone", "starts_at", "reset_at"})
    counts["replaced_for"] = sorted(sorted(replacer.match.items()) for replacer in replacers)
    if any("model" in one.match for one in (budget, *replacers)):
        counts["models"] = _MODELS_BY_THEIR_ONE_NAME
    return blake2s(json.dumps(counts, sort_keys=True).encode(), digest_size=_DIGEST_BYTES).hexdigest()
