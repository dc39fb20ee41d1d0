"""The limit: read every record, decode nothing, commit once a second."""

import asyncio
import os
import sys
from time import monotonic

from spendmeter.kafka.client import consumer
from spendmeter.settings import Settings

COMMIT_SECONDS = 1.0
MAX_RECORDS = 20_000


async def main(topic: str, group: str, count: int) -> None:
    reader = consumer(
        Settings(kafka_bootstrap=os.environ["BOOTSTRAP"]), group=group, max_poll_records=MAX_RECORDS
    )
    reader.subscribe([topic])
    await reader.start()
    print("bench: ready", flush=True)
    seen = size = 0
    committed_at = monotonic()
    while seen < count:
        for records in (await reader.getmany(timeout_ms=1_000, max_records=MAX_RECORDS)).values():
            seen += len(records)
            size += sum(len(record.value) for record in records)
        if monotonic() - committed_at >= COMMIT_SECONDS:
            committed_at = monotonic()
            await reader.commit()
    await reader.commit()
    print(f"bench: read {seen} records, {size} bytes", flush=True)
    # The harness reads our processor time before it ends us.
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
