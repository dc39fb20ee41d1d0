"""What was spent, added up in Python from the events that were sent: what a page or a panel must show.

Of an event with several copies the first counts. A correction or void has the time and the subject of its
request, so that amounts add up; a request with all of its corrections is what it cost in the end.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind

H = TypeVar("H", bound=Hashable)


class SpendEntry(NamedTuple):
    """A usage event, a correction or a void. What an event does not have is an empty text."""

    at: datetime
    hour: datetime
    """Where its hour begins."""
    spent_nanousd: int
    is_request: bool
    is_failure: bool
    is_unpriced: bool
    input_tokens: int
    output_tokens: int
    values: Mapping[str, str]
    """Team, key, user, provider and model, without LiteLLM's prefix, by name."""
    aliases: Mapping[str, str]
    """Of team, key and user."""
    event: UsageEvent


class RequestSpend(NamedTuple):
    """One request and what it cost in the end."""

    entry: SpendEntry
    spent_nanousd: int
    corrections: int


class SpendSums(NamedTuple):
    """Added up over entries."""

    spent_nanousd: NanoUsd
    requests: int
    failures: int
    unpriced: int
    corrections: int
    input_tokens: int
    output_tokens: int


class SpendOracle:
    """Of events in the order in which they were stored."""

    def __init__(self, stored: Iterable[UsageEvent]) -> None:
        first: dict[UUID, UsageEvent] = {}
        for event in stored:
            first.setdefault(event.event_id, event)
        self.entries = sorted(map(_entry, first.values()), key=lambda entry: entry.at)
        """Each once, the earliest first."""
        self.requests = list(_requests(self.entries))
        """Likewise."""


def sums(entries: Iterable[SpendEntry]) -> SpendSums:
    """All of them together."""
    return sums_by(entries, lambda _: "").get("", SpendSums(NanoUsd(0), 0, 0, 0, 0, 0, 0))


def sums_by(entries: Iterable[SpendEntry], value: Callable[[SpendEntry], H]) -> dict[H, SpendSums]:
    """By a value that each has."""
    found: dict[H, list[int]] = defaultdict(lambda: [0] * len(SpendSums._fields))
    for entry in entries:
        of = found[value(entry)]
        of[0] += entry.spent_nanousd
        of[1] += entry.is_request
        of[2] += entry.is_failure
        of[3] += entry.is_unpriced
        of[4] += not entry.is_request
        of[5] += entry.input_tokens
        of[6] += entry.output_tokens
    return {one: SpendSums(NanoUsd(of[0]), *of[1:]) for one, of in found.items()}


def latest_aliases(entries: Iterable[SpendEntry], of: str) -> dict[str, str]:
    """Of each team, key or user the alias that was recorded last; `entries` in their order."""
    return {entry.values[of]: entry.aliases[of] for entry in entries if entry.aliases[of]}


def day_of(time: datetime, zone: ZoneInfo) -> datetime:
    """Where its day begins in that zone."""
    return time.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def month_of(time: datetime, zone: ZoneInfo, months: int = 0) -> datetime:
    """Where its month begins in that zone, or one some months earlier (below 0)."""
    start = day_of(time, zone).replace(day=1)
    for _ in range(-months):
        start = day_of(start - timedelta(days=1), zone).replace(day=1)
    return start


def hour_of(time: datetime) -> datetime:
    """Where its hour begins."""
    return time.replace(minute=0, second=0, microsecond=0)


def _entry(event: UsageEvent) -> SpendEntry:
    is_request = event.kind is UsageKind.USAGE
    return SpendEntry(
        at=event.occurred_at,
        hour=hour_of(event.occurred_at),
        spent_nanousd=event.cost_nanousd,
        is_request=is_request,
        is_failure=is_request and event.status is Status.FAILURE,
        is_unpriced=is_request and event.cost_source is CostSource.UNPRICED,
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens,
        values={
            "team": event.team or "",
            "key": event.key,
            "user": event.user or "",
            "provider": event.provider,
            "model": event.model.removeprefix(f"{event.provider}/"),
        },
        aliases={
            "team": event.team_alias or "",
            "key": event.key_alias or "",
            "user": event.user_alias or "",
        },
        event=event,
    )


def _requests(entries: Iterable[SpendEntry]) -> Iterable[RequestSpend]:
    corrections: dict[UUID, list[int]] = defaultdict(list)
    for entry in entries:
        if entry.event.corrects is not None:
            corrections[entry.event.corrects].append(entry.spent_nanousd)
    for entry in entries:
        if entry.is_request:
            amounts = corrections[entry.event.event_id]
            yield RequestSpend(entry, entry.spent_nanousd + sum(amounts), len(amounts))
