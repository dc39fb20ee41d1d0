"""Clients of history for comparisons and searches, which read much of it and remember what they found."""

from collections.abc import Iterator
from contextlib import contextmanager

from spendmeter.runtime import clickhouse
from spendmeter.runtime.clickhouse import Client
from spendmeter.settings import ClickHouseSettings

QUERY_WITHIN_SECONDS = 600
IN_MEMORY = {f"max_bytes_before_external_{work}": 256 * 1024 * 1024 for work in ("sort", "group_by")}
"""ClickHouse settings for their queries: above this much memory they spill to its disk."""


@contextmanager
def reading(settings: ClickHouseSettings) -> Iterator[Client]:
    """A client of history that cannot change anything.

    Raises:
        Unusable: history cannot be reached or refuses.
    """
    with clickhouse.raising_unusable(settings):
        client = clickhouse.reader(
            settings, at_least_seconds=QUERY_WITHIN_SECONDS, limits=IN_MEMORY, compress="lz4"
        )
        try:
            yield client
        finally:
            client.close()


@contextmanager
def writing(settings: ClickHouseSettings) -> Iterator[Client]:
    """A client that may write what runs are remembered by.

    Raises:
        Unusable: history cannot be reached or refuses.
    """
    with clickhouse.raising_unusable(settings):
        client = clickhouse.client(settings, database=settings.clickhouse_database)
        try:
            yield client
        finally:
            client.close()
