"""What was asked for, and what came of it: the driver's own count, which no code of the product touches.

Two books. `Ledger` holds events that gateways (and a producer of the driver's own) were told to record.
`Requests` holds what clients asked of the LiteLLM proxy; what those cost is the fake upstream's to say.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["asked", "recorded", "in doubt", "told lost", "from the future"]

# The contract: an event further ahead of the broker's clock goes to the dead letters.
MAX_AHEAD_SECONDS = 3600


@dataclass(slots=True)
class Entry:
    """One event that a source was told to record."""

    id: str
    source: str
    key: str
    cost_nanousd: int
    asked_at: float
    """Seconds since 1970, by the driver's clock."""
    outcome: Outcome = "asked"
    occurred_us: int | None = None
    """What the source said, if it could."""


class Ledger:
    """Append-only: an event is asked for once, and its outcome settled once."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.counts: Counter[Outcome] = Counter()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def ask(self, entry: Entry) -> None:
        assert entry.id not in self.entries, "an id is asked for once"
        self.entries[entry.id] = entry

    def settle(self, event_id: str, occurred_us: int, *, lost: bool) -> None:
        """The source has answered: the append returned, or it said that the event is lost."""
        entry = self.entries[event_id]
        assert entry.outcome == "asked", "an outcome is settled once"
        entry.occurred_us = occurred_us
        is_ahead = occurred_us / 1e6 - entry.asked_at > MAX_AHEAD_SECONDS
        entry.outcome = "told lost" if lost else "from the future" if is_ahead else "recorded"
        self.counts[entry.outcome] += 1

    def doubt(self, event_id: str) -> None:
        """The source was killed before it answered: the event is there once, or not at all."""
        entry = self.entries[event_id]
        assert entry.outcome == "asked", "an outcome is settled once"
        entry.outcome = "in doubt"
        self.counts["in doubt"] += 1


@dataclass(slots=True)
class Request:
    """One request to the LiteLLM proxy; its id travels as `user` to the upstream and into the event."""

    id: str
    sent_at: float
    ended_at: float | None = None
    """When the client had its answer, or knew that none would come."""
    answered: bool = False


@dataclass
class Requests:
    """Every request, and the moments at which the proxy was killed."""

    by_id: dict[str, Request] = field(default_factory=dict)
    kills: list[tuple[float, float]] = field(default_factory=list)
    """When each began, and when it was over."""
    refused: list[str] = field(default_factory=list)
    """Answers that were neither success nor a lost connection: none is ever right here."""
    answered: int = 0

    def in_flight_at_a_kill(self, request: Request, grace_seconds: float) -> bool:
        """Whether the proxy was killed between the request and `grace_seconds` after its end."""
        return any(seconds <= grace_seconds for seconds in self._from_end_to_kill(request))

    def answer_to_kill_ms(self, request: Request) -> int:
        """How long before the next kill of the proxy the request had ended."""
        return round(1000 * min(self._from_end_to_kill(request), default=0.0))

    def _from_end_to_kill(self, request: Request) -> Iterator[float]:
        """Seconds to each kill that came after the request was sent; 0 for one that came before its end."""
        end = float("inf") if request.ended_at is None else request.ended_at
        for begun, over in self.kills:
            if request.sent_at <= over:
                yield max(0.0, begun - end)
