"""The budgets and the spend of virtual keys: writes budgets to Kafka, reads spend from signals and
history.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

import httpx

from spendmeter.client import NoSuchBudget, SpendmeterClient, connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd, from_usd
from spendmeter.domain.matching import BudgetBook
from spendmeter.domain.window import window_of
from spendmeter.kafka.client import KafkaError
from spendmeter.litellm.values import period_of
from spendmeter.settings import ClickHouseSettings
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.signals import SignalTopic
from spendmeter.values.account import account_name
from spendmeter_local.keys.store import KeyRow

_FITS_AN_ID = re.compile(r"[A-Za-z0-9._:@/-]{1,190}")
_SHORT_HASH = 12


def budget_of(row: KeyRow, limit: NanoUsd, book: BudgetBook, now: datetime) -> Budget:
    """The budget that stops this key at the limit.

    Its id is `key:<alias>` if the alias is valid in an id and no other budget has that
    id; else `key:<first of the hash>`.

    Raises:
        InvalidDuration: the key's budget_duration is invalid.
        pydantic.ValidationError: the limit is not above 0, or too large.
    """
    period = period_of(row.budget_duration, now)
    return Budget(
        id=row.budget_id or _name(row, book),
        match={"key": row.token},
        limit_nanousd=limit,
        period=period.period,
        starts_at=period.starts_at,
        updated_at=now,
        updated_by="key API",
    )


def account_of(row: KeyRow) -> str:
    """The account of the key's budget."""
    return account_name(row.budget_id or "", [("key", row.token)])


def _name(row: KeyRow, book: BudgetBook) -> str:
    by_hash = f"key:{row.token[:_SHORT_HASH]}"
    if row.key_alias is None or _FITS_AN_ID.fullmatch(row.key_alias) is None:
        return by_hash
    by_alias = f"key:{row.key_alias}"
    taken = book.get(by_alias)
    return by_alias if taken is None or taken.match == {"key": row.token} else by_hash


log = logging.getLogger(__name__)

KAFKA_WITHIN_SECONDS = 10.0
GATEWAY_WITHIN_SECONDS = 5.0
HISTORY_WITHIN_SECONDS = 5.0


class LedgerUnavailable(Exception):
    """Kafka could not store a budget in time; the key API answers 503."""


@runtime_checkable
class EnforcingGateway(Protocol):
    """What the key API needs from the callback in this process, if it is ours."""

    async def budgets_read(self) -> None:
        """Return once every budget stored in Kafka by now is enforced."""

    def spent_nanousd(self, account: str) -> NanoUsd | None:
        """The known spend in the account's present window; None if nothing is known."""


class KeyLedger:
    """Follows budgets and signals while `run` is running; writes budgets."""

    def __init__(
        self, settings: ClickHouseSettings, find_gateway: Callable[[], EnforcingGateway | None]
    ) -> None:
        self._settings = settings
        self._find_gateway = find_gateway
        self._budgets = BudgetTopic(settings)
        self._signals = SignalTopic(settings)
        self._opened = AsyncExitStack()
        self._client: SpendmeterClient | None = None
        self._history = httpx.AsyncClient(timeout=HISTORY_WITHIN_SECONDS)

    async def run(self) -> None:
        """Follow both topics until cancelled."""
        async with asyncio.TaskGroup() as readers:
            readers.create_task(self._budgets.run())
            readers.create_task(self._signals.run())

    async def close(self) -> None:
        """Close the connections to Kafka and ClickHouse."""
        await self._opened.aclose()
        await self._history.aclose()

    def budget(self, row: KeyRow) -> Budget | None:
        """The key's budget in force, whoever changed it last."""
        return self._budgets.book.get(row.budget_id) if row.budget_id else None

    async def put(self, row: KeyRow, limit: NanoUsd) -> Budget:
        """Put the key's budget in force; return once the gateway of this process enforces it.

        Raises:
            LedgerUnavailable: Kafka did not store it in time.
            InvalidDuration, pydantic.ValidationError: see `budget_of`.
        """
        budget = budget_of(row, limit, self._budgets.book, datetime.now(UTC))
        await self._write(lambda client: client.apply([budget]))
        return budget

    async def remove(self, row: KeyRow) -> None:
        """Remove the key's budget, if it has one. Raises LedgerUnavailable."""
        if row.budget_id is None:
            return
        budget_id = row.budget_id
        try:
            await self._write(lambda client: client.remove(budget_id))
        except NoSuchBudget:
            log.info("the budget %s was removed before its key", budget_id)

    async def spent(self, rows: Iterable[KeyRow]) -> dict[str, NanoUsd | None]:
        """By key hash: the spend in the budget's present window, or in all time if the key has no budget.

        None if history could not be queried: unknown is not zero.
        """
        rows = list(rows)
        spent = {row.token: self._of_budget(row, budget) for row in rows if (budget := self.budget(row))}
        unbudgeted = [row.token for row in rows if row.token not in spent]
        return {**spent, **(await self._of_all_time(unbudgeted) if unbudgeted else {})}

    def _of_budget(self, row: KeyRow, budget: Budget) -> NanoUsd:
        gateway = self._find_gateway()
        known = gateway.spent_nanousd(account_of(row)) if gateway else None
        if known is not None:
            return known
        window = window_of(budget, datetime.now(UTC))
        signal = self._signals.signals.get(account_of(row))
        current = signal is not None and window is not None and signal.window_start == window.start
        return signal.spent_nanousd if signal is not None and current else NanoUsd(0)

    async def _of_all_time(self, tokens: list[str]) -> dict[str, NanoUsd | None]:
        settings = self._settings
        query = (
            f"SELECT key, toString(sum(cost_usd)) AS spent FROM {settings.clickhouse_database}.usage FINAL"
            " WHERE key IN {keys:Array(String)} GROUP BY key FORMAT JSONEachRow"
        )
        try:
            answer = await self._history.get(
                settings.clickhouse_address,
                params={"query": query, "param_keys": str(tokens)},
                auth=settings.clickhouse_login,
            )
            answer.raise_for_status()
        except httpx.HTTPError as error:
            log.warning("cannot read from history what keys have spent: %r", error)
            return dict.fromkeys(tokens)
        rows: list[dict[str, Any]] = [json.loads(line) for line in answer.text.splitlines()]
        nothing: dict[str, NanoUsd | None] = dict.fromkeys(tokens, NanoUsd(0))
        return nothing | {row["key"]: from_usd(row["spent"]) for row in rows}

    async def _write(self, change: Callable[[SpendmeterClient], Awaitable[object]]) -> None:
        try:
            async with asyncio.timeout(KAFKA_WITHIN_SECONDS):
                if self._client is None:
                    self._client = await self._opened.enter_async_context(
                        connect(self._settings, followed=self._budgets)
                    )
                await change(self._client)
                await asyncio.gather(self._budgets.catch_up(), self._enforced())
        except (KafkaError, TimeoutError) as error:
            raise LedgerUnavailable(f"Kafka did not store the key's budget: {error!r}") from error

    async def _enforced(self) -> None:
        gateway = self._find_gateway()
        if gateway is None:
            return
        try:
            async with asyncio.timeout(GATEWAY_WITHIN_SECONDS):
                await gateway.budgets_read()
        except (KafkaError, TimeoutError) as error:
            log.warning("a budget is stored, but the gateway has not read it yet: %r", error)
