"""The edge to ClickHouse: the incarnations of spend.usage that history covers."""

from spendmeter.runtime.clickhouse import Client
from spendmeter_sinks.history.incarnations import Registered, UsageIncarnation


def read_registered(client: Client) -> list[Registered]:
    """The incarnations of spend.usage that history covers, in the order in which that was decided.

    Raises:
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    rows = client.query(
        "SELECT topic, incarnation, follows_topic, follows_incarnation, has_unnamed FROM incarnations FINAL"
        " ORDER BY registered_at, topic, incarnation"
    ).result_rows
    return [
        Registered(
            UsageIncarnation(topic, name),
            UsageIncarnation(*follows) if follows[0] else None,
            bool(has_unnamed),
        )
        for topic, name, *follows, has_unnamed in rows
    ]


def read_unnamed_topics(client: Client) -> list[str]:
    """The topics whose rows of usage name no incarnation.

    Raises:
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    rows = client.query("SELECT DISTINCT topic FROM usage WHERE incarnation = '' ORDER BY topic").result_rows
    return [topic for (topic,) in rows]


def register(client: Client, one: Registered, by: str) -> None:
    """Record that history covers this incarnation.

    Raises:
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    client.insert(
        "incarnations",
        [[*one.of, *(one.follows or ("", "")), one.has_unnamed, by]],
        column_names=[
            "topic",
            "incarnation",
            "follows_topic",
            "follows_incarnation",
            "has_unnamed",
            "registered_by",
        ],
    )
