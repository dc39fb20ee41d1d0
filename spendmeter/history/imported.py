"""What history has of the days and keys that an import may add to."""

from datetime import date

from spendmeter.contract.money import from_usd
from spendmeter.litellm.spend import HistorySpend
from spendmeter.runtime.clickhouse import OF_THE_SYSTEM, Client


def read_known(client: Client, topic: str, source: str, since: date) -> HistorySpend:
    """Spend by day, key and model group since that day (UTC), and what this source has imported.

    Without corrections: what a person took back is not missing.
    """
    of_topic = {"topic": topic, "since": since.isoformat(), "source": f"{source}/"}
    # First: an import that comes into history between the two would be sent again, under new numbers.
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
