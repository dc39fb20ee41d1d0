"""Usage events read back from history, exactly as they were recorded."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from spendmeter.contract.money import from_usd
from spendmeter.contract.usage import UsageEvent
from spendmeter.history.correction import CorrectedEvent
from spendmeter.history.dead_letters import HistoryCopy
from spendmeter.litellm.spend import HistorySpend
from spendmeter.runtime.clickhouse import OF_THE_SYSTEM, Client
from spendmeter.values.dimensions import DIMENSIONS as ALL_DIMENSIONS
from spendmeter.values.dimensions import Dimension, field_of
from spendmeter.values.ids import made_at
from spendmeter.values.times import format_time, from_unix_us

MAX_CORRECTIONS = 1_000
"""Corrections read per event; people never come near this number."""
# An id is made when a request begins. A request that ran longer is found, too, but slowly.
_LONGEST_REQUEST = timedelta(days=2)
_CLOCKS_APART = timedelta(hours=1)
_COLUMNS = ", ".join(
    f"toUnixTimestamp64Micro({name})" if name in ("occurred_at", "started_at") else f"`{name}`"
    for name in UsageEvent.model_fields
)


def find_event(client: Client, topic: str, event_id: UUID) -> UsageEvent | None:
    """The first copy of the event; None if history does not have it (yet)."""
    near = _near(event_id)
    found = _read(client, topic, f"event_id = {{id:UUID}} AND {near}", event_id) if near else []
    found = found or _read(client, topic, "event_id = {id:UUID}", event_id)
    return found[0] if found else None


def find_copies(client: Client, topic: str, event_ids: Sequence[UUID]) -> dict[UUID, list[HistoryCopy]]:
    """The positions of these events in history; missing events are left out."""
    rows = client.query(
        "SELECT DISTINCT event_id, partition, offset FROM usage"
        f" WHERE {OF_THE_SYSTEM} AND event_id IN {{ids:Array(UUID)}}",
        parameters={"topic": topic, "ids": [str(event_id) for event_id in event_ids]},
    ).result_rows
    found: dict[UUID, list[HistoryCopy]] = {}
    for event_id, partition, offset in rows:
        found.setdefault(event_id, []).append(HistoryCopy(partition, offset))
    return found


def find_recorded(client: Client, topic: str, event_id: UUID) -> CorrectedEvent | None:
    """The event with its corrections; None if history does not have it (yet)."""
    original = find_event(client, topic, event_id)
    if original is None:
        return None
    return CorrectedEvent(original, _read(client, topic, "corrects = {id:UUID}", event_id))


def _read(client: Client, topic: str, condition: str, event_id: UUID) -> Sequence[UsageEvent]:
    # Not FINAL, which would read much more: the first of an event's copies counts, all in one partition.
    rows = client.query(
        f"SELECT {_COLUMNS} FROM usage WHERE {OF_THE_SYSTEM} AND {condition}"
        f" ORDER BY occurred_at, seq, offset LIMIT 1 BY event_id LIMIT {MAX_CORRECTIONS}",
        parameters={"topic": topic, "id": str(event_id)},
    ).result_rows
    return [_event(row) for row in rows]


def _event(row: Sequence[Any]) -> UsageEvent:
    fields = dict(zip(UsageEvent.model_fields, row, strict=True))
    for name in ("occurred_at", "started_at"):
        fields[name] = from_unix_us(fields[name])
    return UsageEvent.model_validate(fields)


def _near(event_id: UUID) -> str | None:
    """Condition: the days of the event, from the time in its id; None if the id has no time."""
    if event_id.version != 7:
        return None
    try:
        minted = made_at(event_id)
        first, last = minted - _CLOCKS_APART, minted + _LONGEST_REQUEST
    except OverflowError:
        return None
    return (
        f"occurred_at BETWEEN parseDateTime64BestEffort('{format_time(first)}', 6)"
        f" AND parseDateTime64BestEffort('{format_time(last)}', 6)"
    )


def read_known(client: Client, topic: str, source: str, since: date) -> HistorySpend:
    """Spend by day, key and model group since that day (UTC), and what this source has imported.

    Without corrections: an amount that a person has refunded is not missing.
    """
    of_topic = {"topic": topic, "since": since.isoformat(), "source": f"{source}/"}
    # First: an import that arrives in history between the two queries would be sent again, with new numbers.
    seqs = client.query(
        "SELECT producer_id, max(seq) FROM usage"
        f" WHERE {OF_THE_SYSTEM} AND startsWith(producer_id, {{source:String}}) GROUP BY producer_id",
        parameters=of_topic,
    ).result_rows
    spent = client.query(
        "SELECT toDate(occurred_at, 'UTC') AS day, key, model_group, toString(sum(cost_usd))"
        f" FROM usage FINAL WHERE {OF_THE_SYSTEM} AND kind = 'usage'"
        " AND occurred_at >= toDateTime64({since:String}, 6, 'UTC') GROUP BY day, key, model_group",
        parameters=of_topic,
    ).result_rows
    return HistorySpend(
        {(day, key, model_group): from_usd(usd) for day, key, model_group, usd in spent},
        {producer_id: int(seq) for producer_id, seq in seqs},
    )


# A dimension's form in history. A tag counts for each event that carries it. A model that an earlier
# version recorded with its provider in front counts under its one name.
_AS_KEPT: dict[Dimension, str] = {
    "tag": "arrayJoin(tags)",
    "model": "if(startsWith(model, concat(provider, '/')), substring(model, length(provider) + 2), model)",
}
DIMENSIONS: dict[str, str] = {d: _AS_KEPT.get(d, field_of(d)) for d in ALL_DIMENSIONS}
TAG_OR_NONE = "arrayJoin(if(empty(tags), [''], arrayDistinct(tags)))"
"""The same of tags for questions about all spend: each once, and empty text for an event without any."""
