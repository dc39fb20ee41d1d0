"""Wire values with everything filled in, so that a test names only what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import from_usd
from spendmeter.contract.signal import Signal
from spendmeter.contract.usage import CostSource, UsageEvent

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def usage(seq: int = 1, cost_nanousd: int = 1_000, **fields: Any) -> UsageEvent:
    """A served request of key `k1`, at noon, by producer `p1`."""
    producer = fields.get("producer_id", "p1")
    defaults = {
        "event_id": UUID(int=abs(hash((producer, seq))) % 2**128),
        "producer_id": "p1",
        "seq": seq,
        "occurred_at": NOON,
        "started_at": NOON,
        "key": "k1",
        "model": "gpt-4o-mini",
        "model_group": "gpt-4o-mini",
        "cost_nanousd": cost_nanousd,
        "cost_source": CostSource.LITELLM,
        "gateway": "g1",
    }
    return UsageEvent.model_validate({**defaults, **fields})


def budget(**fields: Any) -> Budget:
    """A budget of $0.001 a day for each key."""
    defaults = {
        "id": "per-key",
        "match": {"key": "*"},
        "limit_nanousd": from_usd("0.001"),
        "period": "day",
        "updated_at": NOON,
    }
    return Budget.model_validate({**defaults, **fields})


def signal(**fields: Any) -> Signal:
    """An account half way through its limit; `fields` change what it says."""
    defaults = {
        "budget_id": "b",
        "account": "b|key=k1",
        "subject": {"key": "k1"},
        "window_start": NOON,
        "window_end": NOON + timedelta(days=1),
        "limit_nanousd": 10,
        "spent_nanousd": 5,
        "state": "ok",
        "watermark": {0: 1},
        "revision": 1,
        "version": 1,
        "emitted_at": NOON,
    }
    return Signal.model_validate({**defaults, **fields})
