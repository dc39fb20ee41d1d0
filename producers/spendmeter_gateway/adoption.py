"""Adoption: budgets that LiteLLM knows become ours when a request shows them.

A request only compares what it sees with what was seen before. Kafka's thread brings new budgets into
force: here at once, then on spend.budgets, where the other gateways read them.
Several gateways make the same budgets from the same object, so the second one has nothing to do.
"""

import asyncio
import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from prometheus_client import Counter

from spendmeter.budgets.plan import BudgetPlan, Change
from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.litellm.budgets import ADOPTED_BY, adopted, changes
from spendmeter.litellm.entities import LitellmEntity, owner_of
from spendmeter.topics.budgets import BudgetTopic
from spendmeter_gateway.loops import call_soon
from spendmeter_gateway.outbox.kafka import KafkaError
from spendmeter_gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

ADOPTED = Counter("spendmeter_adopted_total", "Budgets adopted from LiteLLM.", ["what"])
PROBLEMS = Counter(
    "spendmeter_adoption_problems_total", "Objects of LiteLLM's with a budget that cannot be adopted."
)
POSTPONED = Counter(
    "spendmeter_adoption_postponed_total", "Objects left for a later request: too many at once."
)

# A forgotten object is compared with the budgets in force when it is seen again.
MAX_REMEMBERED = 50_000
MAX_WAITING = 10_000
# Each needs up to a millisecond of the thread that also sends and reads.
_AT_ONCE = 50
_RETRY_SECONDS = 1.0


class BudgetEnforcer(Protocol):
    """The budgets in force at this gateway, and how to change them. One thread calls."""

    @property
    def budgets(self) -> BudgetTopic:
        """The budgets from Kafka, and those enforced since."""

    def adopted_from(self, owner: str) -> list[Budget]:
        """The budgets in force that were adopted from that object."""

    def enforce(self, budget_id: str, budget: Budget | None) -> None:
        """Put a budget in force here, or remove it (None), while its record is on the way to Kafka."""


class _PendingChange(NamedTuple):
    before: Budget | None
    after: Budget | None


class Adopter:
    """`note` may be called from any thread; `run` does the rest until cancelled."""

    def __init__(self, settings: GatewaySettings, force: BudgetEnforcer) -> None:
        self._settings, self._force = settings, force
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, ...], LitellmEntity] = OrderedDict()
        self._waiting: dict[tuple[str, ...], LitellmEntity] = {}
        self._outgoing: dict[str, _PendingChange] = {}
        self._woken: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_idle = False
        self.is_on = settings.adopt != "off"
        """Whether anything is adopted."""
        self.edition = 0
        """Rises if several keys showed one object differently: then each must show it again."""

    @property
    def has_work(self) -> bool:
        """Whether anything noted is not yet on spend.budgets."""
        return bool(self._waiting or self._outgoing or not self._is_idle)

    def forget(self) -> None:
        """Compare every object again when it is next seen."""
        with self._lock:
            self._known.clear()
            self.edition += 1

    def note(self, objects: Iterable[LitellmEntity]) -> bool:
        """Note the objects that a request shows; False if some must be shown again."""
        has_news, is_taken = False, True
        for seen in objects:
            name = (seen.kind, *seen.names)
            with self._lock:
                if self._known.get(name) == seen:
                    self._known.move_to_end(name)
                elif len(self._waiting) >= MAX_WAITING and name not in self._waiting:
                    POSTPONED.inc()
                    is_taken = False
                else:
                    # Only the key itself is current; the rest is as old as this key's copy of it.
                    self.edition += seen.kind != "key" and name in self._known
                    self._waiting[name] = self._known[name] = seen
                    has_news = True
                    if len(self._known) > MAX_REMEMBERED:
                        self._known.popitem(last=False)
        if has_news and self._is_idle:
            self._wake()
        return is_taken

    async def run(self) -> None:
        """Bring the noted objects' budgets into force."""
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        # Before everything is read, budgets already in force would seem new.
        await self._force.budgets.caught_up.wait()
        while True:
            self._woken.clear()
            await self._check()
            if self._outgoing:
                await self._publish()
            else:
                self._is_idle = True
                # Objects noted before this point woke nobody.
                if not self._waiting:
                    await self._woken.wait()
                self._is_idle = False

    def _wake(self) -> None:
        if self._loop is not None and self._woken is not None:
            self._is_idle = False
            call_soon(self._loop, self._woken.set)

    async def _check(self) -> None:
        while waiting := self._some_waiting():
            self._enforce(waiting)
            await asyncio.sleep(0)

    def _some_waiting(self) -> list[LitellmEntity]:
        with self._lock:
            return [self._waiting.pop(name) for name in list(self._waiting)[:_AT_ONCE]]

    def _enforce(self, waiting: list[LitellmEntity]) -> None:
        for seen in waiting:
            try:
                self._enforce_one(seen)
            except Exception:
                # Owners write metadata freely: a surprise there must not cost other objects their budgets.
                PROBLEMS.inc()
                log.exception("not adopted: %s", seen.description)

    def _enforce_one(self, seen: LitellmEntity) -> None:
        now = datetime.now(UTC)
        found = adopted(seen, self._settings.adopt, now)
        for problem in found.problems:
            PROBLEMS.inc()
            log.warning("not adopted, the request is served: %s", problem)
        made = changes(found, self._force.adopted_from(seen.owner), now)
        for budget in made.created:
            self._change(budget.id, None, budget)
        for before, after in made.changed:
            self._change(after.id, before, after)
        for budget in made.removed:
            self._change(budget.id, budget, None)

    def _change(self, budget_id: str, before: Budget | None, after: Budget | None) -> None:
        known = self._outgoing.get(budget_id)
        self._outgoing[budget_id] = _PendingChange(known.before if known else before, after)
        self._force.enforce(budget_id, after)

    async def _publish(self) -> None:
        try:
            async with connect(self._settings, followed=self._force.budgets, by=ADOPTED_BY) as client:
                while self._outgoing:
                    for budget_id, (before, after) in list(self._outgoing.items()):
                        await client.carry_out(_plan(before, after))
                        ADOPTED.labels("removed" if after is None else "changed" if before else "new").inc()
                        log.info("adopted %s: %s", budget_id, "removed" if after is None else "in force")
                        if self._outgoing[budget_id] == (before, after):
                            del self._outgoing[budget_id]
                    await self._check()
        except KafkaError as error:
            log.warning("adopted budgets are enforced here only, trying again: %r", error)
            await asyncio.sleep(_RETRY_SECONDS)


def _plan(before: Budget | None, after: Budget | None) -> BudgetPlan:
    nothing = BudgetPlan([], [], [], [], [])
    if after is not None:
        return (
            nothing._replace(changed=[Change(before, after)]) if before else nothing._replace(created=[after])
        )
    return nothing._replace(removed=[before] if before else [])


class AdoptionIndex:
    """Ids of budgets by the object that they were adopted from."""

    def __init__(self) -> None:
        self._ids: defaultdict[str, set[str]] = defaultdict(set)

    def put(self, budget_id: str, *, is_there: bool) -> None:
        """Note that a budget was set, or removed."""
        owner = owner_of(budget_id)
        if owner is None:
            return
        if is_there:
            self._ids[owner].add(budget_id)
        elif owner in self._ids:
            self._ids[owner].discard(budget_id)
            if not self._ids[owner]:
                del self._ids[owner]

    def of(self, owner: str) -> list[str]:
        """The budgets of that object, in order."""
        return sorted(self._ids.get(owner, ()))
