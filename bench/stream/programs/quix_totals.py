"""Quix Streams as its documentation has it: a tumbling window's sum, kept in its own store.

Runs in an environment of its own, so it imports nothing of ours.
"""

import sys
from datetime import datetime
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found]

HOUR_MS = 3_600_000


def occurred_ms(value: Any, headers: Any, timestamp: float, timestamp_type: Any) -> int:
    return int(datetime.fromisoformat(value["occurred_at"]).timestamp() * 1000)


def main(bootstrap: str, topic_name: str, group: str, state_dir: str) -> None:
    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        commit_interval=1.0,
        state_dir=state_dir,
        loglevel="WARNING",
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
        producer_extra_config={"compression.type": "lz4"},
    )
    topic = app.topic(topic_name, value_deserializer="json", timestamp_extractor=occurred_ms)
    rows = app.dataframe(topic).apply(lambda value: value["cost_nanousd"])
    rows.tumbling_window(HOUR_MS, grace_ms=24 * HOUR_MS, name="totals").sum().current()
    print("bench: ready", flush=True)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
