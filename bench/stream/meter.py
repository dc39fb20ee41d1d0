"""spendmeter as a contender: the real stream worker, with one budget per event or with three."""

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

from bench.stream.contender import Contender, Start
from bench.stream.job import Spent, Sums
from bench.stream.place import Place
from bench.stream.results import differences, read_topic
from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import from_usd
from spendmeter.contract.records import decode
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import Total
from spendmeter.kafka.client import connection, consumer
from spendmeter.kafka.groups import STREAM_GROUP
from spendmeter.topics.create import create_topics
from spendmeter.values.times import to_unix_us
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_stream.settings import StreamSettings
from spendmeter_stream.state import JUDGE_TABLE, METER_TABLE

_STARTED = datetime(2026, 1, 1, tzinfo=UTC)
# High enough that nothing is refused, low enough that the busiest accounts cross their warnings.
_LIMIT = from_usd("100")
KEY_HOUR = Budget(id="key-hour", match={"key": "*"}, limit_nanousd=_LIMIT, period="hour", updated_at=_STARTED)
USER_DAY = Budget(id="user-day", match={"user": "*"}, limit_nanousd=_LIMIT, period="day", updated_at=_STARTED)
TEAM_MONTH = Budget(
    id="team-month", match={"team": "*"}, limit_nanousd=_LIMIT, period="month", updated_at=_STARTED
)
ONE, THREE = (KEY_HOUR,), (KEY_HOUR, USER_DAY, TEAM_MONTH)


def contender(name: str, title: str, budgets: tuple[Budget, ...], note: str = "") -> Contender:
    return Contender(name, title, _begin(budgets), _check(budgets), build=lambda: "", note=note)


def _begin(budgets: tuple[Budget, ...]) -> Callable[[Place, str], Awaitable[Start]]:
    async def begin(place: Place, name: str) -> Start:
        settings = StreamSettings(kafka_bootstrap=place.bootstrap, topic_prefix=place.prefix)
        await forget(place, settings)
        async with connect(settings, by="bench") as client:
            await client.apply(budgets)
        port = free_port()
        env = {
            "SPENDMETER_KAFKA_BOOTSTRAP": place.bootstrap,
            "SPENDMETER_TOPIC_PREFIX": place.prefix,
            "SPENDMETER_COMPONENT": name,
            "SPENDMETER_DATA_DIR": str(place.directory / name),
            "SPENDMETER_METRICS_PORT": str(port),
        }
        return Start(
            [sys.executable, "-m", "spendmeter_stream"],
            group=settings.app_id,
            env=env,
            metrics_url=f"http://{LOOPBACK}:{port}/metrics",
            also_reads=settings.topic(Topic.TOTALS),
        )

    return begin


async def forget(place: Place, settings: StreamSettings) -> None:
    """Everything but the usage topic as if no worker had ever run."""
    names = [settings.topic(t) for t in Topic if t is not Topic.USAGE]
    names += [settings.changelog(table) for table in (METER_TABLE, JUDGE_TABLE)]
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        for name, code, *_ in (await admin.delete_topics(names)).topic_error_codes:
            error = for_code(code)
            if code and error is not UnknownTopicOrPartitionError:
                raise error(name)
    finally:
        await admin.close()
    await create_topics(settings)
    await _rewind(
        settings,
        [*place.ends, *(TopicPartition(settings.topic(Topic.TOTALS), p) for p in range(settings.partitions))],
    )


async def _rewind(settings: StreamSettings, tps: list[TopicPartition]) -> None:
    """Put the group, which has no members now, back to the beginning."""
    # Not through runtime.kafka's `group`: that would put the prefix before it a second time.
    reader = consumer(settings, group=STREAM_GROUP)
    assert reader._group_id == settings.app_id
    await reader.start()
    try:
        reader.assign(tps)
        await reader.commit({tp: OffsetAndMetadata(0, "") for tp in tps})
    finally:
        await reader.stop()


def _check(budgets: tuple[Budget, ...]) -> Callable[[Place, Start, Path], Awaitable[str | None]]:
    async def check(place: Place, start: Start, log: Path) -> str | None:
        latest: dict[tuple[str, int, int], int] = {}

        def take(record: ConsumerRecord) -> None:
            total = decode(Total, record.value, record.headers)
            at = (total.account, to_unix_us(total.window_start), int(total.source_partition))
            latest[at] = total.spent_nanousd

        await read_topic(place.settings, place.settings.topic(Topic.TOTALS), place.settings.partitions, take)
        found: dict[str, Counter[Spent]] = {budget.id: Counter() for budget in budgets}
        for (account, window_start_us, _), spent in latest.items():
            budget_id, _, subject = account.partition("|")
            found[budget_id][Spent(subject.partition("=")[2], window_start_us)] += spent
        wrong = [differences(found[budget.id], _expected(place.sums, budget)) for budget in budgets]
        return "; ".join(told for told in wrong if told) or None

    return check


def _expected(sums: Sums, budget: Budget) -> Counter[Spent]:
    by_budget = {
        KEY_HOUR.id: sums.by_key_and_hour,
        USER_DAY.id: sums.by_user_and_day,
        TEAM_MONTH.id: sums.by_team_and_month,
    }
    return by_budget[budget.id]
