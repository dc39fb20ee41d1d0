"""Turns spend that LiteLLM counted before us into usage events: one per day, key and model. Pure.

A key's spend is also in the sums of its team, its user and the proxy. So we use the finest sum that LiteLLM
keeps, with everything known about the key, and it counts once in every budget. Each
event is dated at the beginning of its day (UTC). In a window that begins later it does not count, though some
of it may have been spent there; in a window that began earlier, all of it was. So nothing is refused wrongly.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import NamedTuple

from spendmeter.contract.money import InvalidAmount, NanoUsd, from_float_usd
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.litellm.api import Row
from spendmeter.litellm.entities import mapping
from spendmeter.values.ids import derived_uuid7

CALL_TYPE = "import"
_DIGITS = 12


class Spent(NamedTuple):
    """LiteLLM's sum for one key and model on one day."""

    day: date
    key: str
    model_group: str
    cost_nanousd: NanoUsd
    requests: int
    input_tokens: int
    output_tokens: int

    @property
    def history_key(self) -> tuple[date, str, str]:
        """The key under which history counts it."""
        return self.day, self.key, self.model_group


class HistorySpend(NamedTuple):
    """What history has: spend by day, key and model, and the last sequence number of each key's imports."""

    spent: Mapping[tuple[date, str, str], NanoUsd]
    last_seq: Mapping[str, int]


def spent_of(days: Iterable[Row]) -> Iterator[Spent]:
    """The results of `/user/daily/activity`."""
    for row in days:
        for model_group, found in mapping(mapping(row.get("breakdown")).get("model_groups")).items():
            for key, of_key in mapping(mapping(found).get("api_key_breakdown")).items():
                metrics = mapping(mapping(of_key).get("metrics"))
                cost = _amount(metrics.get("spend"))
                if cost > 0:
                    yield Spent(
                        date.fromisoformat(str(row["date"])),
                        str(key),
                        str(model_group),
                        cost,
                        _count(metrics.get("api_requests")),
                        _count(metrics.get("prompt_tokens")),
                        _count(metrics.get("completion_tokens")),
                    )


def events_of(
    spent: Iterable[Spent], known: HistorySpend, keys: Mapping[str, Row], source: str, today: date
) -> list[UsageEvent]:
    """The spend that history lacks, up to yesterday; nothing in a second run.

    Today is left out, because spend on its way to history would count twice. A request that ran across
    midnight may count for different days there and here, so the amount is bounded by that of all days
    together.
    """
    spent = sorted(spent)
    events: list[UsageEvent] = []
    last_seq = dict(known.last_seq)
    left = _missing_of_all_days(spent, known)
    for one in spent:
        account = (one.key, one.model_group)
        missing = min(one.cost_nanousd - known.spent.get(one.history_key, 0), left[account])
        # LiteLLM adds floats; we add amounts that are each rounded to a nano-dollar.
        if one.day >= today or missing <= one.requests:
            continue
        left[account] -= missing
        producer_id = producer_of(source, one.key)
        seq = last_seq[producer_id] = last_seq.get(producer_id, 0) + 1
        events.append(_event(one, NanoUsd(missing), producer_id, seq, keys.get(one.key, {})))
    return events


def _missing_of_all_days(spent: Iterable[Spent], known: HistorySpend) -> Counter[tuple[str, str]]:
    missing: Counter[tuple[str, str]] = Counter()
    for one in spent:
        missing[one.key, one.model_group] += one.cost_nanousd
    for (_, key, model_group), cost in known.spent.items():
        missing[key, model_group] -= cost
    return missing


def producer_of(source: str, key: str) -> str:
    """The producer that records that key's spend: `import/litellm/…/HASH`."""
    return f"{source}/{key}"


def source_of(url: str) -> str:
    """A LiteLLM, by its address."""
    return f"import/litellm/{sha256(url.encode()).hexdigest()[:_DIGITS]}"


def _event(one: Spent, cost: NanoUsd, producer_id: str, seq: int, key: Row) -> UsageEvent:
    at = datetime(one.day.year, one.day.month, one.day.day, tzinfo=UTC)
    is_whole = cost == one.cost_nanousd
    return UsageEvent(
        event_id=derived_uuid7(int(at.timestamp() * 1000), producer_id, str(seq)),
        producer_id=producer_id,
        seq=seq,
        occurred_at=at,
        started_at=at,
        key=one.key,
        key_alias=key.get("key_alias") or None,
        user=key.get("user_id") or None,
        team=key.get("team_id") or None,
        organization=key.get("organization_id") or key.get("org_id") or None,
        project=key.get("project_id") or None,
        model_group=one.model_group,
        call_type=CALL_TYPE,
        # For a part of a sum the number of tokens is unknown.
        input_tokens=one.input_tokens if is_whole else 0,
        output_tokens=one.output_tokens if is_whole else 0,
        total_tokens=one.input_tokens + one.output_tokens if is_whole else 0,
        cost_nanousd=cost,
        cost_source=CostSource.LITELLM,
    )


def _amount(value: object) -> NanoUsd:
    try:
        return from_float_usd(float(value)) if isinstance(value, int | float) else NanoUsd(0)
    except InvalidAmount:
        return NanoUsd(0)


def _count(value: object) -> int:
    return max(0, value) if isinstance(value, int) else 0
