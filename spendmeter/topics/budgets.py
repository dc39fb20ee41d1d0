"""spend.budgets as a book in memory: the budgets in force as of the last record read."""

import logging
from collections.abc import Callable

from aiokafka.structs import ConsumerRecord
from prometheus_client import Counter

from spendmeter.contract.budget import Budget
from spendmeter.contract.dead_letter import Reason
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.topics import Topic
from spendmeter.domain.matching import BudgetBook
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.settings import Settings

log = logging.getLogger(__name__)

REFUSED = Counter("spendmeter_budget_records_refused_total", "Records on spend.budgets that are no budget.")

BudgetChanged = Callable[[str, Budget | None], None]
"""Called with the id and the budget now in force, None once it was removed."""


class BudgetTopic(CompactedTopics):
    """Follows spend.budgets; an invalid record changes nothing."""

    def __init__(self, settings: Settings, on_change: BudgetChanged | None = None) -> None:
        super().__init__(settings, [settings.topic(Topic.BUDGETS)], self.apply)
        self.book = BudgetBook()
        self.signers: dict[str, str] = {}
        """The key that signed each budget in force; a budget whose author is only claimed is left out."""
        self._signing_keys = settings.read_signing_keys()
        self._on_change = on_change

    def apply(self, record: ConsumerRecord) -> None:
        """Apply one record to the book."""
        budget_id = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self.signers.pop(budget_id, None)
            if self.book.remove(budget_id) is not None and self._on_change:
                self._on_change(budget_id, None)
            return
        try:
            budget = read_budget(record)
        except InvalidRecord as invalid:
            REFUSED.inc()
            log.warning("spend.budgets offset %d is no budget, ignored: %s", record.offset, invalid)
            return
        if not self.book.put(budget):
            return
        self.signers.pop(budget_id, None)
        if signer := self._signing_keys.signer_of(record):
            self.signers[budget_id] = signer
        if self._on_change:
            self._on_change(budget_id, budget)


def read_budget(record: ConsumerRecord) -> Budget:
    """The budget in a record of spend.budgets.

    Raises:
        InvalidRecord: it cannot be read, or its key is not its id.
    """
    budget = decode(Budget, record.value, record.headers)
    if (record.key or b"").decode(errors="replace") != budget.id:
        raise InvalidRecord(
            Reason.INVALID, f"the record's key {record.key!r} is not the budget's id {budget.id!r}"
        )
    return budget
