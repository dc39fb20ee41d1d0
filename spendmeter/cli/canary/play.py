"""One round: spend the budget until a refusal, reset it, and be served again."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from spendmeter.budgets.change import InvalidChange
from spendmeter.cli.canary.model import (
    CanaryFailure,
    CanaryPlan,
    CanaryRound,
    DailyAllowance,
    FailedAt,
    UnansweredRequests,
)
from spendmeter.cli.canary.proxy import CanaryAnswer, CanaryProxy
from spendmeter.client import NoSuchBudget, SpendmeterClient, connect
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.kafka.client import KafkaError
from spendmeter.kafka.errors import explained
from spendmeter.runtime.process import pause
from spendmeter.settings import Settings

AUTHOR = "spendmeter canary"
KAFKA_WITHIN_SECONDS = 20.0
MAX_REQUESTS = 200
"""Until the limit is reached, and again until the refusal."""
PROBES = 3
"""Requests after the first refusal: each must be refused, too."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.002, 0.1


class CanaryStopped(Exception):
    """The process is to end; the round has no result."""


class CanaryPlayer:
    """Plays rounds with one plan, one proxy and one allowance."""

    def __init__(
        self,
        settings: Settings,
        plan: CanaryPlan,
        proxy: CanaryProxy,
        allowance: DailyAllowance,
        stop: asyncio.Event,
    ) -> None:
        self._settings, self._plan, self._proxy = settings, plan, proxy
        self._allowance, self._stop = allowance, stop
        self._unanswered, self._dearest = UnansweredRequests(), 0
        self.has_armed = False
        """Whether the budget has been written."""
        self._clear()

    def _clear(self) -> None:
        self._refused_after: float | None = None
        self._readmitted_after: float | None = None
        self._requests = self._past_limit = self._below_limit = self._cost = 0

    async def play(self) -> CanaryRound:
        """One round. Raises CanaryStopped if the process is to end meanwhile."""
        self._clear()
        at, failure = _now(), None
        try:
            self._check_allowance()
            async with self._connected() as client:
                await self._measure(client)
        except CanaryFailure as error:
            failure = error
        return CanaryRound(
            at=at,
            refused_after_ms=_milliseconds(self._refused_after),
            readmitted_after_ms=_milliseconds(self._readmitted_after),
            requests=self._requests,
            served_past_limit=self._past_limit,
            refused_below_limit=self._below_limit,
            cost_nanousd=NanoUsd(self._cost),
            spent_today_nanousd=self._allowance.spent(_now()),
            failed_at=failure.failed_at if failure else None,
            failure=str(failure or ""),
        )

    async def disarm(self) -> None:
        """Leave the budget paused and with nothing spent. Raises CanaryFailure."""
        async with self._connected() as client, asyncio.timeout(KAFKA_WITHIN_SECONDS):
            await client.change(
                self._plan.budget_id,
                lambda known: self._plan.disarmed(known, _now()),
                (await client.get(self._plan.budget_id)).revision,
            )

    async def _measure(self, client: SpendmeterClient) -> None:
        async with asyncio.timeout(KAFKA_WITHIN_SECONDS):
            await self._arm(client)
        reached_at = await self._spend(await self._until_served())
        refused_at = await self._until_refused(reached_at)
        self._refused_after = refused_at - reached_at
        for _ in range(PROBES):
            self._past_limit += (await self._complete()).refusal is None
        reset_at = time.perf_counter()
        async with asyncio.timeout(KAFKA_WITHIN_SECONDS):
            await client.reset(self._plan.budget_id)
        self._readmitted_after = (await self._until_served()).at - reset_at

    async def _arm(self, client: SpendmeterClient) -> None:
        known = (await client.budgets()).get(self._plan.budget_id)
        if known is None:
            await client.create(self._plan.new_budget(_now()))
        else:
            self._plan.check(known)
            await client.change(known.id, lambda found: self._plan.armed(found, _now()), known.revision)
        self.has_armed = True

    async def _spend(self, answer: CanaryAnswer) -> float:
        """Spend up to the limit, this answer included; returns when the answer came that reached it."""
        spent, limit = answer.cost_nanousd, self._plan.limit_nanousd
        for _ in range(MAX_REQUESTS):
            if spent >= limit:
                return answer.at
            answer = await self._complete()
            if answer.refusal is not None:
                self._check_unanswered(spent)
                self._below_limit += 1
                raise CanaryFailure(
                    FailedAt.BELOW_LIMIT,
                    f"refused when the answers had cost ${format_usd(NanoUsd(spent))} of"
                    f" ${format_usd(limit)} ({answer.refusal.message}); `spendmeter explain` shows the events"
                    " behind it. A price book that differs from LiteLLM's prices does this, too",
                )
            spent = NanoUsd(spent + answer.cost_nanousd)
        raise CanaryFailure(
            FailedAt.PRICE,
            f"{MAX_REQUESTS} requests cost ${format_usd(spent)} and did not reach ${format_usd(limit)};"
            " set a lower --limit-usd",
        )

    async def _until_refused(self, reached_at: float) -> float:
        """When the first refusal came."""
        for wait in _waits():
            answer = await self._complete()
            if answer.refusal is not None:
                return answer.at
            self._past_limit += 1
            if answer.at - reached_at > self._plan.within_seconds or self._past_limit >= MAX_REQUESTS:
                break
            await pause(self._stop, wait)
        raise CanaryFailure(
            FailedAt.REFUSAL,
            f"{self._past_limit} requests were served after the limit was reached; is the key a virtual one,"
            " not LiteLLM's master key, is the callback in"
            f" the configuration of the proxy at {self._proxy.url}, and does it read this Kafka"
            f" ({self._settings.kafka_bootstrap})? `spendmeter doctor` examines both",
        )

    async def _until_served(self) -> CanaryAnswer:
        """The first answer that is served, within the plan's time."""
        deadline = time.perf_counter() + self._plan.within_seconds
        for wait in _waits():
            answer = await self._complete()
            if answer.refusal is None:
                return answer
            if answer.at > deadline:
                raise CanaryFailure(
                    FailedAt.READMISSION,
                    f"still refused {self._plan.within_seconds:g} s after a reset ({answer.refusal.message});"
                    " does the gateway read Kafka, and is the clock of this machine behind the gateway's?"
                    " `spendmeter doctor` examines both",
                )
            await pause(self._stop, wait)
        raise AssertionError("waits have no end")

    async def _complete(self) -> CanaryAnswer:
        if self._stop.is_set():
            raise CanaryStopped
        self._check_allowance()
        self._requests += 1
        try:
            answer = await asyncio.to_thread(self._proxy.complete)
        except CanaryFailure as failure:
            if failure.may_be_billed:
                self._unanswered.add(time.monotonic())
            raise
        self._cost += answer.cost_nanousd
        self._dearest = max(self._dearest, answer.cost_nanousd)
        self._allowance.spend(answer.cost_nanousd, _now())
        if answer.refusal is not None and answer.refusal.budget != self._plan.budget_id:
            by = f"budget {answer.refusal.budget}" if answer.refusal.budget else "a budget of LiteLLM's own"
            raise CanaryFailure(
                FailedAt.OTHER_BUDGET,
                f"refused by {by}, not by {self._plan.budget_id} ({answer.refusal.message}); give the"
                " canary a key, user and team that no other budget refuses",
            )
        return answer

    def _check_unanswered(self, spent: NanoUsd) -> None:
        """Raises CanaryFailure if requests without an answer may have cost the rest of the limit."""
        count, limit = self._unanswered.count(time.monotonic()), self._plan.limit_nanousd
        if spent + count * self._dearest >= limit:
            raise CanaryFailure(
                FailedAt.PROXY,
                f"refused when the answers had cost ${format_usd(spent)} of ${format_usd(limit)}; the"
                f" {count} requests of before that the proxy did not answer in time may be the rest",
            )

    def _check_allowance(self) -> None:
        if not self._allowance.is_left(_now()):
            raise CanaryFailure(
                FailedAt.DAILY_LIMIT,
                f"${format_usd(self._allowance.limit_nanousd)} are spent today; the canary goes on at 00:00"
                " UTC, or with a higher --max-usd-per-day",
            )

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[SpendmeterClient]:
        """A client; what Kafka or the budget does not allow is a CanaryFailure."""
        try:
            async with (
                asyncio.timeout(KAFKA_WITHIN_SECONDS) as connecting,
                connect(self._settings, by=AUTHOR) as client,
            ):
                connecting.reschedule(None)
                yield client
        except TimeoutError:
            raise CanaryFailure(
                FailedAt.KAFKA,
                f"Kafka at {self._settings.kafka_bootstrap} has not answered for {KAFKA_WITHIN_SECONDS:g} s",
            ) from None
        except KafkaError as error:
            raise CanaryFailure(FailedAt.KAFKA, await explained(error, self._settings)) from None
        except (NoSuchBudget, InvalidChange) as error:
            raise CanaryFailure(
                FailedAt.BUDGET, f"{error}; somebody else changes it: give each canary a --budget of its own"
            ) from None


def _waits() -> Iterator[float]:
    wait = FIRST_WAIT_SECONDS
    while True:
        yield wait
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def _now() -> datetime:
    return datetime.now(UTC)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
