"""One history for all tests of dashboards: filled once, then only read."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.contract.records import (
    Record,
    encode_alert,
    encode_budget,
    encode_decision,
    encode_delivery,
    encode_signal,
    encode_usage,
)
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.fetch import FetchedRecord
from spendmeter.values.times import to_unix_us
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.tables import ALERTS, BUDGETS, DECISIONS, DELIVERIES, SIGNALS, USAGE, Table
from spendmeter_sinks.clickhouse.writer import Writer, open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.roll_ups.roller import read_stale, roll_up
from spendmeter_sinks.roll_ups.spans import by_day
from tests.integration.grafana.content import LAST, Content
from tests.integration.grafana.expected import Asked
from tests.integration.grafana.plugin import PanelView
from tests.spend_oracle import SpendOracle

SUMMED_DAYS = 5
TABLES = ("usage", "signals", "alerts", "deliveries", "budgets", "decisions")


class StoredHistory:
    """A database, and what it was given. Nobody changes it."""

    def __init__(self, client: Client, content: Content, events: Sequence[UsageEvent]) -> None:
        self.client = client
        self.content = content
        self.oracle = SpendOracle(events)
        self._asked: dict[tuple[str, tuple[str, ...]], Asked] = {}

    def asked(self, name: str, view: PanelView, variables: tuple[str, ...]) -> Asked:
        """What somebody asks who looks like this; the view of a name is always the same."""
        if (name, variables) not in self._asked:
            self._asked[name, variables] = Asked(self.oracle, self.content, view, variables)
        return self._asked[name, variables]


@pytest.fixture(scope="session")
def stored(clickhouse: str) -> Iterator[StoredHistory]:
    """History after resends, a thousand corrections and voids, and a replayed day.

    Its first days are read from sums of days, then there are hours that were corrected after they were summed
    up, and the last days were never summed up.
    """
    settings, content = database_settings(clickhouse), Content()
    client = open_client(settings, database=None)
    migrate(client, settings.clickhouse_database)
    for table in TABLES:
        # Else copies might be gone before anybody reads.
        client.command(f"SYSTEM STOP MERGES {table}")
    into = _Inserts(settings)
    into.usage(content.requests)
    into.usage([*content.copies, *content.corrections])
    into.usage(content.replayed)
    days = by_day(stale := read_stale(client))
    for day in sorted(days)[:SUMMED_DAYS]:
        roll_up(client, {span: stale[span] for span in days[day]}, datetime.now(UTC))
    into.usage(content.late_corrections)
    for _ in range(2):
        into.records(SIGNALS, [encode_signal(one) for one in content.signals])
        into.records(DECISIONS, [encode_decision(one) for one in content.decisions])
        into.records(ALERTS, [encode_alert(one) for one in content.alerts])
        into.records(DELIVERIES, [encode_delivery(one) for one in content.deliveries])
    into.records(BUDGETS, [encode_budget(one) for one in content.budgets])
    events = [*content.requests, *content.copies, *content.corrections]
    yield StoredHistory(client, content, [*events, *content.replayed, *content.late_corrections])
    client.close()


def database_settings(url: str) -> SinkSettings:
    return SinkSettings(clickhouse_url=url, clickhouse_database=f"t{uuid4().hex[:12]}")


class _Inserts:
    """Each batch one insert, at the next offsets."""

    def __init__(self, settings: SinkSettings) -> None:
        self._writer = Writer(settings)
        self._keys = settings.read_signing_keys()
        self._offset = 0

    def usage(self, events: Sequence[UsageEvent]) -> None:
        self.records(USAGE, [encode_usage(event) for event in events])

    def records(self, table: Table, records: Sequence[Record]) -> None:
        appended_ms = to_unix_us(LAST + timedelta(hours=1)) // 1_000
        fetched = []
        for record in records:
            self._offset += 1
            headers: list[tuple[str, bytes | None]] = [*record.headers]
            fetched.append(
                FetchedRecord(
                    f"spend.{table.name}", 0, self._offset, appended_ms, 0, record.key, record.value, headers
                )
            )
        batch = table.read(fetched, self._keys)
        assert not batch.unreadable
        batch.with_incarnation("one")
        self._writer.insert(table, batch.columns, f"{table.name}-{self._offset}")
