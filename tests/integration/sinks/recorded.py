"""History as it comes to be: events that come twice or late, corrections, voids, replays and merges."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from clickhouse_connect.driver.client import Client

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import encode_usage
from spendmeter.contract.usage import UsageEvent, UsageKind
from spendmeter.history.correction import CorrectedEvent, correct
from spendmeter.kafka.fetch import FetchedRecord
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.tables import USAGE
from spendmeter_sinks.clickhouse.writer import Writer
from tests.builders import usage

MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
DAYS = 3


class Recorded:
    """History in one database, and what is known to have been sent to it."""

    def __init__(self, client: Client, settings: SinkSettings, random: Random) -> None:
        self.client = client
        self._writer = Writer(settings)
        self._random = random
        self._next = 1_000
        self._batches: list[tuple[Sequence[Sequence[Any]], str]] = []
        self.first: dict[UUID, tuple[int, UsageEvent]] = {}
        """Of each event the offset and the copy that counts."""

    @property
    def requests(self) -> list[UsageEvent]:
        return [event for _, event in self.first.values() if event.kind is UsageKind.USAGE]

    def put(self, events: Sequence[UsageEvent], below: int = 0) -> None:
        """One insert; `below`: at that offset and lower ones, as of a part of the log that is read late."""
        records: list[FetchedRecord] = []
        for event in events:
            offset = self._next if not below else below - len(records)
            self._next += not below
            record = encode_usage(event)
            records.append(
                FetchedRecord("spend.usage", 0, offset, 1_796_000_000_000, 0, record.key, record.value, [])
            )
            known = self.first.get(event.event_id)
            if known is None or offset < known[0]:
                self.first[event.event_id] = (offset, event)
        reading = USAGE.read(records, SinkSettings().read_signing_keys())
        assert not reading.unreadable
        reading.with_incarnation("one")
        batch = (reading.columns, f"token-{self._next}-{below}")
        self._batches.append(batch)
        self._writer.insert(USAGE, *batch)

    def repeat(self) -> None:
        """The same insert once more, as after a crash."""
        self._writer.insert(USAGE, *self._random.choice(self._batches))

    def new(self) -> None:
        self.put([self._event() for _ in range(self._random.randint(1, 12))])

    def resend(self) -> None:
        self.put(self._random.choices(self.requests, k=3))

    def replay_a_day(self) -> None:
        day = MIDNIGHT + timedelta(days=self._random.randrange(DAYS))
        of_it = [e for _, e in self.first.values() if day <= e.occurred_at < day + timedelta(days=1)]
        if of_it:
            self.put(of_it)

    def correct(self) -> None:
        event = self._random.choice(self.requests)
        kind = self._random.choice((UsageKind.CORRECTION, UsageKind.VOID))
        corrections = [e for _, e in self.first.values() if e.corrects == event.event_id]
        cost = NanoUsd(0 if kind is UsageKind.VOID else self._random.randrange(10**12))
        made = correct(
            CorrectedEvent(event, corrections), cost, kind=kind, reason="a test", recorded_by="ann"
        )
        if made is not None:
            self.put([made])

    def merge(self) -> None:
        """Copies that ClickHouse merges leave a fingerprint behind that fits no sum any more."""
        for command in (
            "SYSTEM START MERGES usage",
            "OPTIMIZE TABLE usage FINAL",
            "SYSTEM STOP MERGES usage",
        ):
            self.client.command(command)

    def find_an_earlier_copy(self) -> None:
        """A copy of before, which says another team: the group that had the event may be gone."""
        event = self._random.choice(self.requests)
        offset, _ = self.first[event.event_id]
        if offset > 500:
            self.put([event.model_copy(update={"team": "earlier", "team_alias": None})], below=offset - 600)

    def _event(self) -> UsageEvent:
        random, number = self._random, self._next
        team = random.choice(("red", "blue", None))
        return usage(
            number + len(self.first),
            random.randrange(10**12),
            event_id=UUID(int=random.getrandbits(128), version=4),
            occurred_at=MIDNIGHT + timedelta(seconds=random.randrange(DAYS * 86_400)),
            key=random.choice(("k1", "k2")),
            team=team,
            team_alias=team and team.title(),
            provider="openai",
            model=random.choice(("gpt-4o", "openai/gpt-4o", "o3")),
            tags=tuple(random.sample(("prod", "eval", "rag"), random.randrange(3))),
            input_tokens=random.randrange(1_000),
        )
