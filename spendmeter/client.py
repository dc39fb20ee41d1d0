"""The client that services and the command line use to set, raise, reset, read and remove budgets."""

import getpass
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import encode_budget
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.runtime.budget_topic import BudgetTopic
from spendmeter.runtime.kafka import producer
from spendmeter.runtime.settings import Settings
from spendmeter.runtime.signal_topic import SignalTopic

Clock = Callable[[], datetime]


class NoSuchBudget(KeyError):
    """There is no budget of that id."""

    def __str__(self) -> str:
        return f"there is no budget {self.args[0]!r}; `spendmeter budget list` shows those there are"


class SpendmeterClient:
    """Writes to spend.budgets and reads budgets and signals as they are at each call.

    A method returns once the brokers have stored the change; gateways read it within milliseconds.
    """

    def __init__(
        self,
        settings: Settings,
        kafka: AIOKafkaProducer,
        clock: Clock,
        followed: BudgetTopic | None = None,
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._clock = clock
        self._followed = followed
        self._last_revision = 0

    async def budgets(self) -> dict[str, Budget]:
        """Every budget in force, by id."""
        topic = self._followed or BudgetTopic(self._settings)
        await (topic.catch_up() if self._followed else topic.read_to_end())
        return {budget.id: budget for budget in topic.book}

    async def signals(self, budget_id: str | None = None) -> list[Signal]:
        """The latest signal of every account, or of one budget's accounts."""
        topic = SignalTopic(self._settings)
        await topic.read_to_end()
        return [s for s in topic.signals.values() if budget_id in (None, s.budget_id)]

    async def get(self, budget_id: str) -> Budget:
        """One budget. Raises NoSuchBudget."""
        found = (await self.budgets()).get(budget_id)
        if found is None:
            raise NoSuchBudget(budget_id)
        return found

    async def apply(self, budgets: Sequence[Budget]) -> list[Budget]:
        """Put budgets in force. Those that exist keep their reset; what is the same already is not written.

        Returns the budgets that were written, as they are now in force.
        """
        existing = await self.budgets()
        return [await self._write(b, existing.get(b.id)) for b in different(existing, budgets)]

    async def set_limit(self, budget_id: str, limit: NanoUsd) -> Budget:
        """Raise or lower a limit; what was spent stays spent. Raises NoSuchBudget."""
        known = await self.get(budget_id)
        changed = Budget.model_validate({**known.model_dump(), "limit_nanousd": limit, "updated_by": ""})
        return await self._write(changed, known)

    async def reset(self, budget_id: str) -> Budget:
        """Begin a new window now for every account of the budget. Raises NoSuchBudget."""
        known = await self.get(budget_id)
        changed = known.model_copy(update={"reset_at": self._clock(), "updated_by": ""})
        return await self._write(changed, known)

    async def remove(self, budget_id: str) -> Budget:
        """Take a budget out of force; returns it as it was. Raises NoSuchBudget."""
        known = await self.get(budget_id)
        self._last_revision = max(self._last_revision, known.revision)
        await self._kafka.send_and_wait(
            self._settings.topic(Topic.BUDGETS),
            key=budget_id.encode(),
            value=None,
            # A tombstone has no value that could say it.
            headers=[("ce_updatedby", who().encode())],
        )
        return known

    async def _write(self, budget: Budget, known: Budget | None) -> Budget:
        now = self._clock()
        # A removal leaves nothing to count from: what keeps revisions rising across it is what this
        # client remembers, and for another client the millisecond.
        known_revision = max(self._last_revision, known.revision if known else 0)
        self._last_revision = max(known_revision + 1, int(now.timestamp() * 1000))
        stamped = budget.model_copy(
            update={
                "revision": self._last_revision,
                "updated_at": now,
                "updated_by": budget.updated_by or who(),
            }
        )
        record = encode_budget(stamped)
        await self._kafka.send_and_wait(
            self._settings.topic(Topic.BUDGETS), key=record.key, value=record.value, headers=record.headers
        )
        return stamped


def who() -> str:
    """The name that changes and corrections are recorded under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return f"uid {os.getuid()}"


def different(existing: Mapping[str, Budget], budgets: Sequence[Budget]) -> list[Budget]:
    """Those of the budgets that `apply` would write, each with the reset of the one in force."""
    found = []
    for budget in budgets:
        known = existing.get(budget.id)
        if known is not None and budget.reset_at is None:
            budget = budget.model_copy(update={"reset_at": known.reset_at})
        if known is None or not _same(budget, known):
            found.append(budget)
    return found


def _same(one: Budget, other: Budget) -> bool:
    apart = {"revision", "updated_at", "updated_by"}
    return one.model_dump(exclude=apart) == other.model_dump(exclude=apart)


@asynccontextmanager
async def connect(
    settings: Settings | None = None,
    clock: Clock = lambda: datetime.now(UTC),
    followed: BudgetTopic | None = None,
) -> AsyncIterator[SpendmeterClient]:
    """A client on the cluster that the settings name (by default those of the environment).

    A process that follows spend.budgets anyway hands it over: a change then takes two round trips
    less than a reading of the whole topic.
    """
    settings = settings or Settings()
    kafka = producer(settings)
    try:
        await kafka.start()
        yield SpendmeterClient(settings, kafka, clock, followed)
    finally:
        await kafka.stop()
