"""Print each of spendmeter's alerts once. Needs `aiokafka`; the settings are spendmeter's own."""

import asyncio
import json
import os
import sys

from aiokafka import AIOKafkaConsumer

PREFIX = os.environ.get("SPENDMETER_TOPIC_PREFIX", "")
SERVERS = os.environ.get("SPENDMETER_KAFKA_BOOTSTRAP", "127.0.0.1:9092")
ALERT = ("ce_type", b"dev.spendmeter.alert.v1")


async def main() -> None:
    seen: dict[str, None] = {}
    async with AIOKafkaConsumer(
        PREFIX + "spend.alerts",
        bootstrap_servers=SERVERS,
        group_id=PREFIX + "my-alerts",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as alerts:
        async for record in alerts:
            if record.value and ALERT in record.headers:
                try:
                    alert = json.loads(record.value)
                except ValueError:
                    print(f"offset {record.offset} is no JSON", file=sys.stderr)
                else:
                    if alert["alert_id"] not in seen:
                        print(alert["alert_id"], alert["kind"], alert["message"], flush=True)
                    seen[alert["alert_id"]] = None
            if len(seen) > 10_000:
                del seen[next(iter(seen))]
            await alerts.commit()


asyncio.run(main())
