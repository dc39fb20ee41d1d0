"""A writer of spend.usage who is not the gateway whose `producer_id` he uses: stream and history put his
records aside, both the same ones, and the gateway counts on (docs/decisions/0022).
"""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner
from pydantic import SecretStr

from spendmeter.cli.main import main
from spendmeter.client import connect, who
from spendmeter.contract.alert import AlertKind
from spendmeter.contract.dead_letter import Reader, Reason
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import encode_total, encode_usage
from spendmeter.contract.signing import NO_KEYS, SigningKeys
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import HISTORY, Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import partition_of, producer
from spendmeter.values.ids import uuid7
from spendmeter_gateway.outbox.writer import Outbox
from tests.builders import budget, usage
from tests.integration.producers.sending import KEYS, MAX_BYTES, PARTITIONS, event, log_of, sending
from tests.integration.sinks.test_reconcile import System, now_usage, running_system
from tests.integration.stream.conftest import Stream
from tests.patience import WITHIN_SECONDS

OLD, NEW = "old-key-" + "o" * 32, "new-key-" + "n" * 32
ANOTHER = SigningKeys(["another-key-" + "a" * 32])


@pytest.fixture(scope="module")
def system(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One that checks signatures, in the midst of a change of keys."""
    with running_system(kafka, clickhouse, tmp_path_factory.mktemp("signed"), f"{NEW},{OLD}") as running:
        yield running


@pytest.fixture
async def writer(system: System) -> AsyncIterator[AIOKafkaProducer]:
    """A client that may write every topic and holds no key."""
    kafka = producer(system.settings)
    await kafka.start()
    yield kafka
    await kafka.stop()


async def put(
    kafka: AIOKafkaProducer, system: System, sent: UsageEvent, partition: int, keys: SigningKeys = NO_KEYS
) -> None:
    record, topic = encode_usage(sent), system.settings.topic(Topic.USAGE)
    signature = keys.sign(topic, partition, record.key, record.value)
    await kafka.send_and_wait(
        topic, key=record.key, value=record.value, headers=[*record.headers, *signature], partition=partition
    )


async def until_spent(stream: Stream, account: str, nanousd: int) -> None:
    """Wait until the stream has counted at least so much, beside what history tells; then it must be that."""
    spent = 0
    async with asyncio.timeout(WITHIN_SECONDS):
        while spent < nanousd:
            totals = [one for one in await stream.read(Topic.TOTALS) if one.account == account]
            latest = {one.source_partition: one for one in sorted(totals, key=lambda one: one.last_offset)}
            spent = sum(one.spent_nanousd for source, one in latest.items() if source != HISTORY)
    assert spent == nanousd


def forged(producer_id: str, seq: int, partition: int) -> UsageEvent:
    """What would be charged in that partition if it counted."""
    key = next(key for key in KEYS if partition_of(key, PARTITIONS) == partition)
    now = datetime.now(UTC)
    made = {"event_id": uuid4(), "producer_id": producer_id, "key": key}
    return usage(seq, 10**12, occurred_at=now, started_at=now, **made)


async def test_whoever_uses_a_gateways_producer_id_silences_it_nowhere(
    system: System, writer: AIOKafkaProducer, tmp_path: Path
) -> None:
    async with system.stream() as stream, sending(system.settings, tmp_path) as gateway:
        await stream.client.apply([budget(id="silence", match={}, period="year")])
        mine = gateway.outbox.producer_id
        gateway.append(40)
        await gateway.drained()
        for partition in range(PARTITIONS):
            for seq, keys in ((41, NO_KEYS), (10**6, NO_KEYS), (2**62, NO_KEYS), (10**6, ANOTHER)):
                await put(writer, system, forged(mine, seq, partition), partition, keys)
        for stored in await log_of(system.settings):
            if stored.event.producer_id == mine and stored.event.seq <= 40:
                # As they were, signature included, where their partition is another one.
                await writer.send_and_wait(
                    system.settings.topic(Topic.USAGE),
                    key=stored.key,
                    value=stored.value,
                    headers=list(stored.headers),
                    partition=(stored.partition + 1) % PARTITIONS,
                )
        gateway.append(40)
        await gateway.drained()

        await until_spent(stream, "silence|", sum(range(1, 81)))
        report = await system.compare()
        letters = [one for one in await stream.read(Topic.DEAD_LETTERS) if mine in one.detail]
        alerts = [one for one in await stream.read(Topic.ALERTS) if one.kind is AlertKind.FOREIGN_PRODUCER]
        await stream.client.remove("silence")

    assert report.equal, report
    assert Counter((one.reader, one.reason) for one in letters) == {
        (Reader.STREAM, Reason.FOREIGN_PRODUCER): 4 * PARTITIONS + 40,
        (Reader.HISTORY, Reason.FOREIGN_PRODUCER): 4 * PARTITIONS + 40,
    }
    assert [mine in one.message for one in alerts].count(True) == 1


async def test_without_a_key_a_seq_that_no_gateway_can_have_reached_silences_nobody(
    system: System, writer: AIOKafkaProducer, tmp_path: Path
) -> None:
    without = system.settings.model_copy(update={"signing_keys": SecretStr("")})
    async with system.stream() as stream, sending(without, tmp_path) as gateway:
        await stream.client.apply([budget(id="jump", match={}, period="year")])
        mine = gateway.outbox.producer_id
        gateway.append(40)
        await gateway.drained()
        for partition in range(PARTITIONS):
            for seq in (10**9, 2**63 - 1):
                await put(writer, system, forged(mine, seq, partition), partition)
        gateway.append(40)
        await gateway.drained()

        await until_spent(stream, "jump|", sum(range(1, 81)))
        report = await system.compare()
        letters = [one for one in await stream.read(Topic.DEAD_LETTERS) if mine in one.detail]
        await stream.client.remove("jump")

    assert report.equal, report
    assert Counter((one.reader, one.reason) for one in letters) == {
        (Reader.STREAM, Reason.FOREIGN_PRODUCER): 2 * PARTITIONS,
        (Reader.HISTORY, Reason.FOREIGN_PRODUCER): 2 * PARTITIONS,
    }


async def test_what_is_restored_or_was_begun_under_the_key_before_is_the_gateways_own(
    system: System, tmp_path: Path
) -> None:
    root, saved = tmp_path / "outbox", tmp_path / "saved"
    dead = Outbox.open(root, max_bytes=MAX_BYTES, is_signed=True)
    for _ in range(30):
        dead.append(lambda seq: event(dead.producer_id, seq))
    dead.close()
    shutil.copytree(root, saved)
    async with system.stream() as stream:
        await stream.client.apply([budget(id="restored", match={}, period="year")])
        # With the key before, then from the restored disk with the new one; and nobody sends without any.
        for keys in (OLD, "", f"{NEW},{OLD}"):
            settings = system.settings.model_copy(update={"signing_keys": SecretStr(keys)})
            if not root.exists() or not any(root.iterdir()):
                shutil.copytree(saved, root, dirs_exist_ok=True)
            left = Outbox.predecessors(root, can_sign=bool(keys))
            assert len(left) == bool(keys)
            async with sending(settings, root, left) as successor:
                successor.append(1)
                await successor.drained()
        # Each successor has sent one of its own, of seq 1.
        await until_spent(stream, "restored|", sum(range(1, 31)) + 3)
        report = await system.compare()
        letters = [one for one in await stream.read(Topic.DEAD_LETTERS) if dead.producer_id in one.detail]
        await stream.client.remove("restored")

    assert report.equal, report
    assert letters == []


async def test_a_total_that_includes_more_than_there_is_stands_for_nothing(
    system: System, writer: AIOKafkaProducer
) -> None:
    account = "totals|key=totals"
    async with system.stream() as stream:
        await stream.client.apply([budget(id="totals", match={"key": "totals"}, period="year")])
        await stream.send([now_usage(1, 5, producer_id="totals", key="totals")])

        def counted(totals: Sequence[Total]) -> list[Total]:
            return [one for one in totals if one.account == account and one.source_partition != HISTORY]

        told = counted(await stream.until(Topic.TOTALS, counted))[0]
        for forged_total in (
            told.model_copy(update={"last_offset": 2**62, "spent_nanousd": 10**12, "source_partition": p})
            for p in (*range(PARTITIONS), 77)
        ):
            key, value, headers = encode_total(forged_total, datetime.now(UTC))
            await writer.send_and_wait(
                system.settings.topic(Topic.TOTALS),
                key=key,
                value=value,
                headers=headers,
                partition=partition_of(account, PARTITIONS),
            )
        await stream.send([now_usage(2, 7, producer_id="totals", key="totals")])
        signals = await stream.until(
            Topic.SIGNALS,
            lambda told: any(one.account == account and one.spent_nanousd >= 12 for one in told),
        )
        letters = await stream.read(Topic.DEAD_LETTERS)
        report = await system.compare()
        await stream.client.remove("totals")

    assert report.equal, report
    assert max(one.spent_nanousd for one in signals if one.account == account) == 12
    assert len([one for one in letters if "includes more of" in one.detail]) == PARTITIONS + 1


def command(system: System, *arguments: str) -> Any:
    ran = CliRunner().invoke(main, [*arguments, "--json"], env=system.env())
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.output)


async def authors(system: System, of: str, count: int) -> list[tuple[Any, ...]]:
    """What history has of who changed something, once it has so many."""
    found: list[tuple[Any, ...]] = []
    async with asyncio.timeout(WITHIN_SECONDS):
        while len(found) < count:
            asked = f"SELECT done, by, signed_by != '' FROM authors WHERE of = '{of}' ORDER BY appended_at"
            found = [(*row,) for row in (await asyncio.to_thread(system.history.query, asked)).result_rows]
    return found


async def test_who_set_a_budget_is_told_from_who_is_only_claimed_to_have(system: System) -> None:
    unsigned = system.settings.model_copy(update={"signing_keys": SecretStr("")})
    async with system.stream() as stream:
        async with connect(system.settings, by="ann") as ann:
            await ann.apply([budget(id="by-ann", match={}, period="year")])
            await ann.apply([budget(id="by-both", match={}, period="year")])
        async with connect(unsigned, by="ann") as mallory:
            await mallory.set_limit("by-both", NanoUsd(7))
            await mallory.apply([budget(id="by-nobody", match={}, period="year")])
        listed = {one["id"]: one for one in await asyncio.to_thread(command, system, "budget", "list")}
        text = await asyncio.to_thread(
            CliRunner().invoke, main, ["budget", "list"], env=system.env(), terminal_width=300
        )
        # A claim is in force all the same.
        await stream.send([now_usage(1, 5, producer_id="authors", key="authors")])
        await stream.until(
            Topic.SIGNALS, lambda told: {"by-ann|", "by-both|", "by-nobody|"} <= {one.account for one in told}
        )
        async with connect(system.settings, by="ann") as ann, connect(unsigned, by="bob") as bob:
            await ann.remove("by-ann")
            await bob.remove("by-both")
            await bob.remove("by-nobody")

    assert {name: bool(one["signed_by"]) for name, one in listed.items()} == {
        "by-ann": True,
        "by-both": False,
        "by-nobody": False,
    }
    assert text.output.count("claimed: ann") == 2, text.output
    assert await authors(system, "by-ann", 2) == [("set", "ann", 1), ("removed", "ann", 1)]
    assert await authors(system, "by-both", 3) == [
        ("set", "ann", 1),
        ("set", "claimed: ann", 0),
        ("removed", "claimed: bob", 0),
    ]


async def test_who_made_a_correction_is_told_from_who_is_only_claimed_to_have(system: System) -> None:
    event = now_usage(
        1, 900, event_id=uuid7(int(datetime.now(UTC).timestamp() * 1000)), producer_id="corrected"
    )
    async with system.stream() as stream:
        await stream.send([event])
        kept = f"SELECT count() FROM usage WHERE event_id = '{event.event_id}'"
        async with asyncio.timeout(WITHIN_SECONDS):
            while not (await asyncio.to_thread(system.history.query, kept)).result_rows[0][0]:
                pass
        arguments = ("correct", str(event.event_id), "--cost-usd", "0.0000005", "--reason", "half of it")
        await asyncio.to_thread(command, system, *arguments)
        env = system.env() | {"SPENDMETER_SIGNING_KEYS": ""}
        ran = await asyncio.to_thread(
            CliRunner().invoke, main, ["void", str(event.event_id), "--reason", "none of it"], env=env
        )
        assert ran.exit_code == 0, ran.output

    # They count alike.
    net = f"SELECT toString(net_usd) FROM usage_net WHERE event_id = '{event.event_id}'"
    assert (await asyncio.to_thread(system.history.query, net)).result_rows == [("0",)]
    assert await authors(system, str(event.event_id), 2) == [
        ("correction", who(), 1),
        ("void", f"claimed: {who()}", 0),
    ]
