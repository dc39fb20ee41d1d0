"""The client that services and the command line use to set, raise, reset, read and remove budgets.

async with connect(by="billing") as client:
    await client.raise_limit("team-month", from_usd("50"), until=tomorrow)
    async for signal in client.subscribe("team-month"):
        ...
"""

import asyncio
import getpass
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from spendmeter.budgets import change as budget_change
from spendmeter.budgets.change import InvalidChange
from spendmeter.budgets.plan import BudgetPlan, plan, wrong_replaces
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import encode_budget
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import AIOKafkaProducer, producer, queue_signed
from spendmeter.retry import when_budget_allows as when_budget_allows
from spendmeter.retry import when_budget_allows_sync as when_budget_allows_sync
from spendmeter.settings import Settings
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.signals import SignalTopic, follow_signals
from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import format_time

MAX_UNACKNOWLEDGED = 1_000
"""How many changes are sent to the brokers at the same time."""
Clock = Callable[[], datetime]


class _Written(NamedTuple):
    """A record of spend.budgets; without a value it removes the budget."""

    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]


class NoSuchBudget(KeyError):
    """There is no budget with that id."""

    def __str__(self) -> str:
        return f"there is no budget {self.args[0]!r}; `spendmeter budget list` shows those there are"


class StaleBudget(InvalidChange):
    """The budget has another revision than the change was made for: somebody changed it meanwhile."""


class InvalidReplaces(InvalidChange):
    """Budgets that cannot be put in force because of the budgets that they replace."""

    def __init__(self, wrong: dict[str, str]) -> None:
        self.wrong = wrong
        """By the id of the budget."""
        super().__init__("\n".join(f"{budget_id}: {message}" for budget_id, message in wrong.items()))


class SpendmeterClient:
    """Writes to spend.budgets, and reads the current budgets and signals at each call.

    A method returns once the brokers have stored the change; gateways read it within milliseconds.
    """

    def __init__(
        self,
        settings: Settings,
        kafka: AIOKafkaProducer,
        clock: Clock,
        followed: BudgetTopic | None = None,
        by: str = "",
    ) -> None:
        self._by = by or who()
        self._settings = settings
        self._kafka = kafka
        self._clock = clock
        self._followed = followed
        self._following: asyncio.Task[None] | None = None
        self._removed_revision = 0
        self._signing_keys = settings.read_signing_keys()

    async def stop(self) -> None:
        """Stop following topics. `connect` does this."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])

    async def budgets(self) -> dict[str, Budget]:
        """Every budget in force, by id."""
        if self._followed is None:
            # Read the whole topic once. A failure is raised at once here, while `run` would retry. From then
            # on a change needs only the new records.
            followed = BudgetTopic(self._settings)
            await followed.read_to_end()
            self._followed = followed
            self._following = asyncio.create_task(followed.run())
        await self._followed.catch_up()
        return {budget.id: budget for budget in self._followed.book}

    async def signers(self) -> Mapping[str, str]:
        """The key that signed each budget in force; a budget whose author is only claimed is left out."""
        await self.budgets()
        assert self._followed is not None, "read just now"
        return self._followed.signers

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

    def subscribe(self, budget_id: str | None = None, account: str | None = None) -> AsyncGenerator[Signal]:
        """The signals of a budget, of an account or of all: first the present ones, then each change.

        Endless; `contextlib.aclosing` ends the reading with the block.
        """
        return follow_signals(
            self._settings,
            lambda signal: budget_id in (None, signal.budget_id) and account in (None, signal.account),
        )

    async def plan(self, budgets: Sequence[Budget], *, prune: bool = False) -> BudgetPlan:
        """The plan of what `apply` would do now.

        Raises:
            InvalidReplaces: one replaces a budget that will not exist, or itself through a circle.
        """
        existing = await self.budgets()
        made = plan(existing, budgets, self._clock(), prune=prune)
        removed = {budget.id for budget in made.removed}
        there = {i: b for i, b in existing.items() if i not in removed} | {b.id: b for b in made.writes}
        if wrong := wrong_replaces(budgets, there):
            raise InvalidReplaces(wrong)
        return made

    async def carry_out(self, planned: BudgetPlan) -> list[Budget]:
        """Carry out a plan; returns the written budgets, as they are now in force."""
        before = {change.before.id: change.before for change in planned.changed}
        written = [self._stamped(one, before.get(one.id)) for one in planned.writes]
        await self._send(_Written(*encode_budget(one)) for one in written)
        await self._send(map(self._removal, planned.removed))
        return written

    async def apply(self, budgets: Sequence[Budget], *, prune: bool = False) -> list[Budget]:
        """Put budgets in force; unchanged ones are not written.

        A reset, raises and a pause that people have set stay, unless the budget names them.
        With `prune`, budgets in force that are not among these are removed.
        Returns the written budgets, as they are now in force. Raises InvalidReplaces.
        """
        return await self.carry_out(await self.plan(budgets, prune=prune))

    async def set_limit_for(
        self, budget_id: str, account: Mapping[Dimension, str], limit: NanoUsd, name: str = ""
    ) -> Budget:
        """Give one account of a budget another limit: a budget of its own, which replaces that one.

        Returns that budget, which is a new one the first time; `name` goes into its id. Raises NoSuchBudget,
        InvalidChange.
        """
        base, in_force = await self.get(budget_id), await self.budgets()
        found = budget_change.exception_for(base, account, limit, in_force, name)
        changed = self._stamped(
            budget_change.without_ended_raises(found, self._clock()), in_force.get(found.id)
        )
        await self._send([_Written(*encode_budget(changed))])
        return changed

    async def set_limit(self, budget_id: str, limit: NanoUsd) -> Budget:
        """Raise or lower a limit for good; what was spent stays spent. Raises NoSuchBudget."""
        return await self._change(budget_id, lambda b: budget_change.with_fields(b, limit_nanousd=limit))

    async def set_period(self, budget_id: str, period: str, timezone: str | None = None) -> Budget:
        """Change a budget's windows, from the present one on. Raises NoSuchBudget."""
        fields = {"period": period} | ({"timezone": timezone} if timezone else {})
        return await self._change(budget_id, lambda b: budget_change.with_fields(b, **fields))

    async def raise_limit(self, budget_id: str, amount: NanoUsd, until: datetime) -> Budget:
        """Add to a limit until then; the raise ends by itself. Raises NoSuchBudget, InvalidChange."""
        return await self._change(budget_id, lambda b: budget_change.raised(b, amount, until, self._clock()))

    async def reset(self, budget_id: str, at: datetime | None = None) -> Budget:
        """Begin a new window for every account, now or at an earlier moment of the present period.

        Raises NoSuchBudget, InvalidChange.
        """
        now = self._clock()
        return await self._change(budget_id, lambda b: budget_change.reset(b, at or now, now))

    async def pause(self, budget_id: str) -> Budget:
        """Pause a budget: it refuses nothing until it is resumed, but still counts. Raises NoSuchBudget."""
        return await self._change(budget_id, lambda b: budget_change.with_fields(b, paused=True))

    async def resume(self, budget_id: str) -> Budget:
        """Enforce a paused budget again, including what was spent meanwhile. Raises NoSuchBudget."""
        return await self._change(budget_id, lambda b: budget_change.with_fields(b, paused=False))

    async def create(self, budget: Budget) -> Budget:
        """Put a budget in force whose id nothing has yet. Raises InvalidChange, InvalidReplaces."""
        if budget.id in await self.budgets():
            raise InvalidChange(f"there is a budget {budget.id} already; change that, or choose another id")
        [created] = await self.apply([budget])
        return created

    async def change(self, budget_id: str, change: Callable[[Budget], Budget], revision: int) -> Budget:
        """Write what `change` makes of the budget, if it still has this revision.

        Two writers at the same millisecond both pass; the later record is in force, and history has both.

        Raises:
            NoSuchBudget, StaleBudget, and whatever `change` raises.
        """
        return await self._change(budget_id, change, revision)

    async def remove(self, budget_id: str, revision: int | None = None) -> Budget:
        """Remove a budget; returns its last record.

        Args:
            revision: which one it must still have.

        Raises NoSuchBudget, StaleBudget.
        """
        known = await self._known(budget_id, revision)
        await self._send([self._removal(known)])
        return known

    async def _known(self, budget_id: str, revision: int | None) -> Budget:
        known = await self.get(budget_id)
        if revision is not None and known.revision != revision:
            raise StaleBudget(
                f"{budget_id} was changed meanwhile: revision {known.revision} is in force, not {revision}"
            )
        return known

    async def _change(
        self, budget_id: str, change: Callable[[Budget], Budget], revision: int | None = None
    ) -> Budget:
        known = await self._known(budget_id, revision)
        changed = self._stamped(budget_change.without_ended_raises(change(known), self._clock()), known)
        await self._send([_Written(*encode_budget(changed))])
        return changed

    def _removal(self, known: Budget) -> _Written:
        self._removed_revision = max(self._removed_revision, known.revision)
        # A tombstone has no value with who and when.
        headers = [
            ("ce_updatedby", self._by.encode()),
            ("ce_time", format_time(self._clock()).encode()),
        ]
        return _Written(known.id.encode(), None, headers)

    def _stamped(self, budget: Budget, known: Budget | None) -> Budget:
        now = self._clock()
        # A removal leaves no revision to continue. To keep revisions rising, this client uses what it
        # remembers, and another client the millisecond.
        before = self._removed_revision if known is None else known.revision
        stamps = {
            "revision": max(before + 1, int(now.timestamp() * 1000)),
            "updated_at": now,
            "updated_by": budget.updated_by or self._by,
        }
        return budget.model_copy(update=stamps)

    async def _send(self, records: Iterable[_Written]) -> None:
        """Return once the brokers have stored all of them, in their order."""
        topic, waiting = self._settings.topic(Topic.BUDGETS), iter(records)
        while some := list(islice(waiting, MAX_UNACKNOWLEDGED)):
            sent = [await queue_signed(self._kafka, self._signing_keys, topic, *record) for record in some]
            await asyncio.gather(*sent)


def who() -> str:
    """The author's name in changes and corrections."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a user id without a name.
        return f"uid {os.getuid()}"


@asynccontextmanager
async def connect(
    settings: Settings | None = None,
    clock: Clock = lambda: datetime.now(UTC),
    followed: BudgetTopic | None = None,
    by: str = "",
) -> AsyncIterator[SpendmeterClient]:
    """A client of the cluster in the settings (by default from the environment).

    `by` is the author of each change in history; by default the user that runs the process.

    A process that already follows spend.budgets can pass it: a change then needs two round trips
    fewer than a reading of the whole topic.
    """
    settings = settings or Settings()
    kafka = producer(settings)
    try:
        await kafka.start()
        client = SpendmeterClient(settings, kafka, clock, followed, by)
        try:
            yield client
        finally:
            await client.stop()
    finally:
        await kafka.stop()
