"""The owner of a database: one system, identified by its topic prefix.

The owner is a row, inserted under a deduplication token: of two that want to be it ClickHouse keeps the
first, and both read who it was.
"""

from spendmeter.contract.topics import Topic
from spendmeter.runtime.clickhouse import Client
from spendmeter.settings import ClickHouseSettings


class OwnedByAnother(Exception):
    """The database belongs to a system with another topic prefix; nothing was written."""


def owner_of(client: Client) -> str | None:
    """The topic prefix that the client's database belongs to; None if it belongs to nobody yet."""
    rows = client.query("SELECT topic_prefix FROM owner ORDER BY generation DESC LIMIT 1").result_rows
    return str(rows[0][0]) if rows else None


def claim(client: Client, settings: ClickHouseSettings) -> None:
    """Return if the database belongs to this system; claim it if it belongs to nobody yet.

    Raises:
        OwnedByAnother: it belongs to another.
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    mine, owner = settings.topic_prefix, owner_of(client)
    if owner is None:
        _become_first(client, mine)
        owner = owner_of(client)
    check_owner(client, settings, owner)


def check_owner(client: Client, settings: ClickHouseSettings, owner: str | None) -> None:
    """Return if the database with this `owner` may be this system's; writes nothing.

    Raises:
        OwnedByAnother: it belongs to another.
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    mine = settings.topic_prefix
    if owner not in (None, mine) and not _has_moved(client, settings):
        raise OwnedByAnother(
            f"database {settings.clickhouse_database} belongs to the system with SPENDMETER_TOPIC_PREFIX"
            f" '{owner}', and this one has '{mine}': set SPENDMETER_CLICKHOUSE_DATABASE to a database of"
            " its own, or correct the prefix; if this system continues that one, run `spendmeter move`"
        )


def _has_moved(client: Client, settings: ClickHouseSettings) -> bool:
    """Whether an operator has decided that one of the two continues the other (`spendmeter move`)."""
    rows = client.query(
        "SELECT count() FROM incarnations"
        " WHERE follows_topic != '' AND {topic:String} IN (topic, follows_topic)",
        parameters={"topic": settings.topic(Topic.USAGE)},
    ).result_rows
    return bool(rows[0][0])


def _become_first(client: Client, topic_prefix: str) -> None:
    client.insert(
        "owner",
        [[1, topic_prefix]],
        column_names=["generation", "topic_prefix"],
        settings={
            "insert_deduplicate": 1,
            "async_insert": 0,
            "insert_deduplication_token": "generation 1",
        },
    )
