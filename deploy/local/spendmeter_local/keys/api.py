"""LiteLLM's key API without its database: what generate, update, info, list and delete do.

Requests and answers have LiteLLM's names and shapes, so that clients written for it work
unchanged. A limit that cannot be enforced here is refused, never ignored.
"""

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any

from litellm.constants import LENGTH_OF_LITELLM_GENERATED_KEY
from litellm.proxy._types import (
    GenerateKeyRequest,
    KeyRequest,
    ProxyErrorTypes,
    UpdateKeyRequest,
)
from pydantic import ValidationError

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import render_validation_error
from spendmeter.litellm.values import InvalidDuration
from spendmeter_local.keys import answers as answers
from spendmeter_local.keys.answers import Answer
from spendmeter_local.keys.ledger import KeyLedger, LedgerUnavailable
from spendmeter_local.keys.requests import check_form, expiry, kept, limit, refusal, refuse_unknown_limits
from spendmeter_local.keys.store import KeyRow, KeyStore, hash_key


class KeyApi:
    """The five operations. One change at a time; a key exists only once its budget is in force."""

    def __init__(self, store: KeyStore, ledger: KeyLedger, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._changing = asyncio.Lock()

    async def generate(self, data: GenerateKeyRequest, created_by: str | None) -> Answer:
        """`POST /key/generate`."""
        refuse_unknown_limits(data)
        key = data.key or f"sk-{secrets.token_urlsafe(LENGTH_OF_LITELLM_GENERATED_KEY)}"
        check_form(key)
        now = self._clock()
        row = KeyRow(
            **kept(data, {}),
            token=hash_key(key),
            key_name=f"sk-...{key[-4:]}",
            expires=expiry(data.duration, now),
            created_by=created_by,
            created_at=now,
            updated_at=now,
        )
        async with self._changing:
            if self._store.get(row.token) is not None:
                raise refusal(f"Key {row.key_name} already exists.", param="key")
            self._check_alias(row)
            row = await self._with_budget(row, data.max_budget)
            self._store.put(row)
        return answers.generated(row, key, self._ledger.budget(row))

    async def update(self, data: UpdateKeyRequest) -> Answer:
        """`POST /key/update`: the fields that were sent change; `max_budget: null` lifts the limit."""
        refuse_unknown_limits(data)
        async with self._changing:
            known = self._found(data.key, data.key_alias)
            now = self._clock()
            changes = {**known.model_dump(), **kept(data, known.metadata), "updated_at": now}
            if "duration" in data.model_fields_set:
                changes["expires"] = expiry(data.duration, now)
            row = KeyRow.model_validate(changes)
            self._check_alias(row)
            row = await self._changed_budget(row, data)
            self._store.put(row)
        answer = answers.described(row, self._ledger.budget(row), (await self._spent([row]))[row.token], now)
        return {**answer, "key": data.key or row.token, "token": row.token}

    async def info(self, key: str) -> tuple[KeyRow, Answer]:
        """`GET /key/info`; `key` may be the key or its hash."""
        row = self._found(key, None)
        spent = (await self._spent([row]))[row.token]
        info = answers.described(row, self._ledger.budget(row), spent, self._clock())
        return row, {"key": key, "info": info}

    async def listing(self, wanted: dict[str, str | None], page: int, size: int, *, full: bool) -> Answer:
        """`GET /key/list`, newest first: hashes, or whole objects if `full`."""
        rows = [
            row
            for row in self._store
            if all(value is None or getattr(row, name) == value for name, value in wanted.items())
        ]
        rows.sort(key=lambda row: (row.created_at, row.token), reverse=True)
        shown = rows[(page - 1) * size : page * size]
        if not full:
            return answers.listed([row.token for row in shown], len(rows), page, size)
        spent, now = await self._spent(shown), self._clock()
        objects = [
            {**answers.described(row, self._ledger.budget(row), spent[row.token], now), "token": row.token}
            for row in shown
        ]
        return answers.listed(objects, len(rows), page, size)

    async def delete(self, data: KeyRequest) -> Answer:
        """`POST /key/delete`: by `keys` (or hashes), else by `key_aliases`."""
        named = data.keys or data.key_aliases
        async with self._changing:
            rows = [self._store.get(hash_key(k)) if data.keys else self._store.of_alias(k) for k in named]
            found = [row for row in rows if row is not None]
            if not found:
                raise refusal("{'error': 'No keys found'}", ProxyErrorTypes.not_found_error, None, 404)
            for row in found:
                # The key first: from here on it gives no access, even if Kafka is away.
                self._store.remove(row.token)
            for row in found:
                await _or_unavailable(self._ledger.remove(row))
        return {"deleted_keys": named}

    def _found(self, key: str | None, key_alias: str | None) -> KeyRow:
        row = self._store.get(hash_key(key)) if key else self._store.of_alias(key_alias or "")
        if row is None:
            raise refusal("Key not found in database", ProxyErrorTypes.not_found_error, "key", 404)
        return row

    def _check_alias(self, row: KeyRow) -> None:
        other = self._store.of_alias(row.key_alias) if row.key_alias is not None else None
        if other is not None and other.token != row.token:
            raise refusal(
                f"Key with alias '{row.key_alias}' already exists."
                " Unique key aliases across all keys are required.",
                param="key_alias",
            )

    async def _changed_budget(self, row: KeyRow, data: UpdateKeyRequest) -> KeyRow:
        if "max_budget" in data.model_fields_set:
            if data.max_budget is None:
                await _or_unavailable(self._ledger.remove(row))
                return row.model_copy(update={"budget_id": None})
            return await self._with_budget(row, data.max_budget)
        budget = self._ledger.budget(row)
        if budget is not None and "budget_duration" in data.model_fields_set:
            await _or_unavailable(self._ledger.put(row, budget.limit_nanousd))
        return row

    async def _with_budget(self, row: KeyRow, max_budget: float | None) -> KeyRow:
        if max_budget is None:
            return row
        budget = await _or_unavailable(self._ledger.put(row, limit(max_budget)))
        return row.model_copy(update={"budget_id": budget.id})

    async def _spent(self, rows: list[KeyRow]) -> dict[str, NanoUsd | None]:
        return await self._ledger.spent(rows)


async def _or_unavailable(change: Any) -> Any:
    try:
        return await change
    except LedgerUnavailable as error:
        raise refusal(f"Service Unavailable: {error}", ProxyErrorTypes.no_db_connection, None, 503) from error
    except InvalidDuration as error:
        raise refusal(str(error), param="budget_duration") from error
    except ValidationError as error:
        raise refusal(render_validation_error(error), param="max_budget") from error
