"""Faust as its user guide has it: an agent, a record, a table, and `table[key] += amount`."""

import os

import faust

app = faust.App(
    os.environ["GROUP"],
    broker=f"kafka://{os.environ['BOOTSTRAP']}",
    store="memory://",
    web_enabled=False,
    topic_partitions=4,
    consumer_auto_offset_reset="earliest",
    broker_commit_interval=1.0,
)


class Usage(faust.Record):  # type: ignore[misc]
    key: str
    occurred_at: str
    cost_nanousd: int


usage = app.topic(os.environ["TOPIC"], key_type=bytes, value_type=Usage)
totals = app.Table("totals", default=int, partitions=4)


@app.agent(usage)  # type: ignore[untyped-decorator]
async def add_up(events: faust.Stream[Usage]) -> None:
    async for event in events:
        # The key and the hour of it.
        totals[f"{event.key}|{event.occurred_at[:13]}"] += event.cost_nanousd


@app.task  # type: ignore[untyped-decorator]
async def say_ready() -> None:
    print("bench: ready", flush=True)


if __name__ == "__main__":
    app.main()
