"""The administrator: what budgets there are, and how they are raised, reset, reshaped and removed."""

from datetime import timedelta
from random import Random
from typing import Any

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import definition_digest
from tests.builders import NOON, budget
from tests.simulation.broker import Broker

BUDGETS: dict[str, dict[str, Any]] = {
    "key-hour": {"match": {"key": "*"}, "period": "hour", "warn_at": (0.5, 0.8)},
    "team-life": {"match": {"team": "*"}, "period": "lifetime"},
    "all-day": {"match": {}, "period": "day"},
    "pair": {"match": {"key": "*", "model": "*"}, "period": "PT30M", "starts_at": NOON - timedelta(days=1)},
    "tag-day": {"match": {"tag": "*"}, "period": "day"},
}
PERIODS = ("hour", "day", "lifetime")
CHANGES = ("limit", "limit", "reset", "reset", "remove", "remove", "match", "match", "period")
LIMIT_NANOUSD = 800


class Administrator:
    """Writes budgets as spendmeter/client.py does: each change is a new revision."""

    def __init__(self, broker: Broker, random: Random) -> None:
        self._broker, self._random = broker, random
        self._revision = 0

    def begin(self) -> None:
        for budget_id in self._random.sample(sorted(BUDGETS), self._random.randint(1, 3)):
            self._put(budget(id=budget_id, **{**BUDGETS[budget_id], "limit_nanousd": self._limit()}))

    def change(self) -> None:
        """One change of one budget."""
        random, book = self._random, self._broker.book
        missing = [b for b in BUDGETS if book.get(b) is None]
        if missing and (len(book) == 0 or random.random() < 0.4):
            budget_id = random.choice(missing)
            self._put(budget(id=budget_id, **{**BUDGETS[budget_id], "limit_nanousd": self._limit()}))
            return
        known = random.choice(sorted(book, key=lambda b: b.id))
        kind = random.choice(CHANGES)
        if kind == "remove":
            self._broker.remove_budget(known.id)
        elif kind == "limit":
            self._put(known.model_copy(update={"limit_nanousd": self._limit()}))
        elif kind == "reset":
            ago = timedelta(seconds=random.choice([0, 0, 5, 1_200]))
            self._put(known.model_copy(update={"reset_at": self._broker.now - ago}))
        elif kind == "period" and known.starts_at is None:
            self._put(known.model_copy(update={"period": random.choice(PERIODS)}))
        elif kind == "match" and "key" in known.match:
            wanted = random.choice(["*", "k1"])
            self._put(known.model_copy(update={"match": {**known.match, "key": wanted}}))

    def _put(self, changed: Budget) -> None:
        known = self._broker.book.get(changed.id)
        self._revision += 1
        changed = changed.model_copy(update={"revision": self._revision})
        counts_anew = known is None or definition_digest(known) != definition_digest(changed)
        self._broker.put_budget(changed, counts_anew)

    def _limit(self) -> NanoUsd:
        return NanoUsd(self._random.randint(1, 4) * LIMIT_NANOUSD)
