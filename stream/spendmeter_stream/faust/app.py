"""The Faust app: its topics, its two tables, its settings. Declarations only."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from faust import App, Worker
from faust.auth import Credentials, SASLCredentials, SSLCredentials
from faust.types import TP
from yarl import URL

from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import connection, producer
from spendmeter.runtime import metrics
from spendmeter.topics.state import TopicState, changes, until_changed
from spendmeter_stream.faust.batch_consumer import BatchTransport
from spendmeter_stream.faust.store import VersionedStore, VersionedTable
from spendmeter_stream.output_writer import publish
from spendmeter_stream.processor import Processor
from spendmeter_stream.settings import StreamSettings
from spendmeter_stream.state import JUDGE_TABLE, METER_TABLE

MAX_POLL_RECORDS = 20_000
STOP_SECONDS = 5.0


class StreamApp(App):
    """A Faust app whose consumer hands whole batches to `processor`."""

    processor: Processor
    settings: StreamSettings
    known_topics: dict[str, TopicState]
    """Their state when this worker started, by name."""
    _kafka: AIOKafkaProducer | None = None

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    async def on_start(self) -> None:
        metrics.READY.watch(asyncio.get_running_loop())
        metrics.READY.needs_kafka(lambda: self.processor.budgets.last_answer)
        self._kafka = producer(self.settings, compression="snappy")
        await self._kafka.start()
        self.processor.store_with(partial(publish, self._kafka))
        # Not an app task: Faust starts those after recovery, which itself ends by waiting for the budgets.
        self.add_future(self.processor.budgets.run())
        self.add_future(self._watch_topics())
        await super().on_start()

    async def _watch_topics(self) -> None:
        """Stop counting once the topics are not what they were."""
        now = self.known_topics
        while self.known_topics:
            now = await until_changed(self.settings, self.known_topics, now)
            self.processor.halt("; ".join(changes(self.known_topics, now)))

    async def on_stop(self) -> None:
        metrics.READY.set(0)
        await super().on_stop()
        await self.processor.stop()
        if self._kafka is not None:
            await asyncio.wait_for(self._kafka.stop(), STOP_SECONDS)


def run_worker(settings: StreamSettings, topics: Mapping[str, TopicState]) -> None:
    """Run a worker until it is stopped, and end the process. `topics`: their present state."""
    worker = Worker(make_app(settings, topics), override_logging=False, loglevel=settings.log_level)
    worker.execute_from_commandline()


def make_app(settings: StreamSettings, topics: Mapping[str, TopicState] | None = None) -> StreamApp:
    """The worker's app, ready to run; nothing is connected yet. `topics`: their present state."""
    app = StreamApp(
        settings.app_id,
        broker=[URL(f"kafka://{server}") for server in settings.kafka_bootstrap.split(",")],
        broker_credentials=_credentials(settings),
        datadir=settings.data_dir,
        store="memory://",
        Table=VersionedTable,
        # Faust's web server would listen on all interfaces; ours is the metrics page on loopback.
        web_enabled=False,
        # We create topics before any worker starts, with the partitions that they must share.
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance_id,
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=settings.session_timeout_seconds / 3,
        broker_max_poll_records=MAX_POLL_RECORDS,
        stream_recovery_delay=0.0,
        table_standby_replicas=settings.standby_replicas,
    )
    app.settings = settings
    app.known_topics = dict(topics or {})
    usage = app.known_topics.get(settings.topic(Topic.USAGE))
    app.processor = Processor(
        settings,
        _table(app, METER_TABLE, settings.partitions),
        _table(app, JUDGE_TABLE, settings.partitions),
        usage.incarnation if usage is not None else "",
    )
    for topic in (Topic.USAGE, Topic.TOTALS):
        app.topics.add(app.topic(settings.topic(topic), key_type=bytes, value_type=bytes))
    _run_beside(app)
    return app


def _credentials(settings: StreamSettings) -> Credentials | None:
    """The settings' TLS and SASL in Faust's form; None for a plaintext connection without either."""
    needed = connection(settings)
    if "sasl_mechanism" in needed:
        return SASLCredentials(
            username=needed["sasl_plain_username"],
            password=needed["sasl_plain_password"],
            mechanism=needed["sasl_mechanism"],
            ssl_context=needed.get("ssl_context"),
        )
    return SSLCredentials(needed["ssl_context"]) if "ssl_context" in needed else None


def _table(app: App, name: str, partitions: int) -> VersionedStore:
    # Not windowed by Faust: its tumbling tables lose windows (docs/decisions/0001). The window is in the key.
    table = app.Table(name, partitions=partitions, key_type=bytes, value_type=bytes)
    store: VersionedStore = table.data
    return store


def _run_beside(app: StreamApp) -> None:
    usage, totals = app.settings.topic(Topic.USAGE), app.settings.topic(Topic.TOTALS)

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
    async def _given_up(app: StreamApp, revoked: set[TP], **_: Any) -> None:
        metrics.READY.set(0)
        app.processor.forget()

    @app.on_rebalance_complete.connect  # type: ignore[untyped-decorator]
    async def _recovered(app: StreamApp, **_: Any) -> None:
        assigned = app.consumer.assignment()
        app.processor.own(
            meters=[tp.partition for tp in assigned if tp.topic == usage],
            judges=[tp.partition for tp in assigned if tp.topic == totals],
        )
        await app.processor.budgets.caught_up.wait()
        metrics.READY.set(int(not app.processor.is_halted))
