"""Whose history a database is: one system's, known by its topic prefix.

An owner is a row with the number of its generation, inserted under that number as deduplication token: of two
that want the same generation ClickHouse keeps the first, and both read who it was.
"""

from spendmeter.contract.topics import Topic
from spendmeter.runtime.clickhouse import Client
from spendmeter.settings import ClickHouseSettings


class OwnedByAnother(Exception):
    """The database belongs to a system with another topic prefix; nothing was written."""


def owner_of(client: Client) -> str | None:
    """The topic prefix that the client's database belongs to; None where it belongs to nobody yet."""
    return _latest(client)[1]


def claim(client: Client, settings: ClickHouseSettings) -> None:
    """Return if the database is this system's; it becomes so if it belongs to nobody yet.

    Raises:
        OwnedByAnother: it belongs to another.
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    mine, owner = settings.topic_prefix, owner_of(client)
    if owner is None:
        _insert(client, 1, mine)
        owner = owner_of(client)
    if owner != mine and not _has_moved(client, settings):
        raise OwnedByAnother(
            f"database {settings.clickhouse_database} belongs to the system with SPENDMETER_TOPIC_PREFIX"
            f" '{owner}', and this one has '{mine}': set SPENDMETER_CLICKHOUSE_DATABASE to a database of"
            " its own, or the prefix, if that is mistaken; `spendmeter move` says that this system goes on"
            " where that one stood"
        )


def _has_moved(client: Client, settings: ClickHouseSettings) -> bool:
    """Whether an operator has said that one of the two goes on where the other stood (`spendmeter move`)."""
    rows = client.query(
        "SELECT count() FROM incarnations"
        " WHERE follows_topic != '' AND {topic:String} IN (topic, follows_topic)",
        parameters={"topic": settings.topic(Topic.USAGE)},
    ).result_rows
    return bool(rows[0][0])


def set_owner(client: Client, topic_prefix: str) -> None:
    """Hand the client's database over to the system with that prefix, whoever had it.

    Its sinks may start from now on, those of the one before no more. Sinks that run go on: stop them first.

    Raises:
        OwnedByAnother: somebody else handed it over at the same time.
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    generation, owner = _latest(client)
    if owner == topic_prefix:
        return
    _insert(client, generation + 1, topic_prefix)
    if (owner := owner_of(client)) != topic_prefix:
        raise OwnedByAnother(f"the database was handed over to the topic prefix '{owner}' meanwhile")


def _latest(client: Client) -> tuple[int, str | None]:
    rows = client.query(
        "SELECT generation, topic_prefix FROM owner ORDER BY generation DESC LIMIT 1"
    ).result_rows
    return (int(rows[0][0]), str(rows[0][1])) if rows else (0, None)


def _insert(client: Client, generation: int, topic_prefix: str) -> None:
    client.insert(
        "owner",
        [[generation, topic_prefix]],
        column_names=["generation", "topic_prefix"],
        settings={
            "insert_deduplicate": 1,
            "async_insert": 0,
            "insert_deduplication_token": f"generation {generation}",
        },
    )
