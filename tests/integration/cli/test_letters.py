"""`spendmeter letters` on a live system: what is replayed counts once, in budgets and in history."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from spendmeter.cli.main import main
from spendmeter.contract.dead_letter import DeadLetter, Reason
from spendmeter.contract.records import MAX_AHEAD, encode_usage
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.history.dead_letters import producer_of
from spendmeter.values.ids import uuid7
from spendmeter_local.probes import wait_until
from tests.builders import budget, usage
from tests.integration.cli.conftest import spendmeter
from tests.integration.sinks.test_reconcile import System, running_system
from tests.integration.stream.conftest import Stream
from tests.patience import WITHIN_SECONDS

# Beyond what is allowed by so much, and so for as long: then the event can be read.
TOO_FAR_AHEAD = timedelta(seconds=6)


@pytest.fixture(scope="module")
def system(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(kafka, clickhouse, tmp_path_factory.mktemp("letters")) as running:
        yield running


@pytest.fixture(autouse=True)
def found_by_the_commands(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in system.env().items():
        monkeypatch.setenv(name, value)


def request(key: str, seq: int, cost_nanousd: int, **fields: Any) -> UsageEvent:
    now = datetime.now(UTC)
    given = {"event_id": uuid7(int(now.timestamp() * 1000)), "key": key, "producer_id": f"gateway of {key}"}
    return usage(seq, cost_nanousd, **{"occurred_at": now, "started_at": now, **given, **fields})


def ahead(key: str, seq: int, cost_nanousd: int) -> UsageEvent:
    """An event of a gateway whose clock is ahead: put aside now, and to be read in a few seconds."""
    return request(key, seq, cost_nanousd, occurred_at=datetime.now(UTC) + MAX_AHEAD + TOO_FAR_AHEAD)


async def says(*arguments: str, exit_code: int = 0) -> str:
    return await asyncio.to_thread(spendmeter, *arguments, exit_code=exit_code)


async def letters(*arguments: str) -> list[Any]:
    found: list[Any] = json.loads(await says("letters", "list", *arguments, "--json"))
    return found


async def until_put_aside(stream: Stream, events: list[UsageEvent]) -> list[str]:
    """The ids of the letters of these events, once stream and history have written theirs."""
    costs = {event.cost_nanousd for event in events}

    def ids(found: list[DeadLetter]) -> dict[str, set[str]]:
        readers: dict[str, set[str]] = {}
        for letter in found:
            if any(f'"cost_nanousd":{cost},' in letter.payload for cost in costs):
                readers.setdefault(letter.id, set()).add(letter.reader)
        return readers

    found = await stream.until(
        Topic.DEAD_LETTERS,
        lambda found: list(ids(found).values()) == [{"stream", "history"}] * len(events),
    )
    return list(ids(found))


async def replayed(ids: list[str]) -> list[str]:
    """What became of the letters, once all of them can be read."""

    def outcomes() -> list[str]:
        result = CliRunner().invoke(main, ["letters", "replay", *ids, "--json"])
        assert result.exit_code in (0, 1), result.output
        last.append((result.exit_code, [one["outcome"] for one in json.loads(result.output)]))
        return last[-1][1] if result.exit_code == 0 else []

    last: list[tuple[int, list[str]]] = []
    is_done = await asyncio.to_thread(wait_until, lambda: bool(outcomes()), timeout_seconds=WITHIN_SECONDS)
    assert is_done, last
    # The first in which anything could be read: after that it has been counted.
    return next(found for _, found in last if set(found) != {"refused"})


def has_spent(account: str, spent_nanousd: int) -> Callable[[list[Signal]], bool]:
    def told(signals: list[Signal]) -> bool:
        of_account = [s for s in signals if s.account == account]
        assert all(s.spent_nanousd <= spent_nanousd for s in of_account), "counted twice"
        return any(s.spent_nanousd == spent_nanousd and not s.opening for s in of_account)

    return told


async def is_equal(system: System) -> None:
    report = await system.compare()
    assert report.equal, report.differences


async def test_a_replayed_event_counts_once_however_often_it_is_sent(system: System) -> None:
    async with system.stream() as stream:
        await stream.client.apply([budget(id="replayed", match={"key": "replayed"}, period="lifetime")])
        early = ahead("replayed", 2, 7_001)
        await stream.send([request("replayed", 1, 10), early, request("replayed", 3, 10)])
        ids = await until_put_aside(stream, [early])
        assert "1 from_the_future" in await says("letters", "list", *ids)
        assert await replayed(ids) == ["replayed"]
        await stream.until(Topic.SIGNALS, has_spent("replayed|key=replayed", 7_021))
        # Once more by the command, and by somebody who sends the very record again.
        assert "0 replayed, 1 had been counted already" in await says("letters", "replay", *ids)
        again = early.model_copy(update={"producer_id": producer_of(early.event_id), "seq": 1})
        await stream.send([again, again, request("replayed", 4, 10)])
        await stream.until(Topic.SIGNALS, has_spent("replayed|key=replayed", 7_031))
        (known,) = await letters(*ids, "--all")
        assert (known["resolution"], known["readers"]) == ("replayed", ["history", "stream"])
    rows = f"SELECT count(), sum(cost_nanousd) FROM usage_once WHERE event_id = '{early.event_id}'"
    assert system.history.query(rows).result_rows == [(1, 7_001)]
    await is_equal(system)


async def test_two_letters_of_one_event_are_one_event(system: System) -> None:
    async with system.stream() as stream:
        await stream.client.apply([budget(id="twice", match={"key": "twice"}, period="lifetime")])
        early = ahead("twice", 1, 7_002)
        # A chunk that was sent again before it was acknowledged.
        await stream.send([early, early, request("twice", 2, 10)])
        ids = await until_put_aside(stream, [early, early])
        assert len(ids) == 2
        assert await replayed(ids) == ["replayed", "replayed"]
        await stream.send([request("twice", 3, 10)])
        await stream.until(Topic.SIGNALS, has_spent("twice|key=twice", 7_022))
    await is_equal(system)


async def test_an_event_that_was_counted_meanwhile_is_not_sent(system: System) -> None:
    async with system.stream() as stream:
        await stream.client.apply([budget(id="meanwhile", match={"key": "meanwhile"}, period="lifetime")])
        early = ahead("meanwhile", 1, 7_003)
        await stream.send([early])
        ids = await until_put_aside(stream, [early])
        # Recorded anew, on time and by another producer.
        await stream.send(
            [early.model_copy(update={"producer_id": "other", "occurred_at": datetime.now(UTC)})]
        )
        assert await replayed(ids) == ["counted"]
        await stream.send([request("meanwhile", 2, 10)])
        await stream.until(Topic.SIGNALS, has_spent("meanwhile|key=meanwhile", 7_013))
    await is_equal(system)


def unreadable(found: list[DeadLetter]) -> list[str]:
    return sorted({letter.id for letter in found if letter.reason in (Reason.INVALID, Reason.NOT_JSON)})


async def test_what_cannot_be_replayed_says_why_and_can_be_discarded(system: System) -> None:
    async with system.stream() as stream:
        value = encode_usage(request("bad", 1, 7_004)).value.replace(
            b'"cost_nanousd":7004', b'"cost_nanousd":-7004'
        )
        await stream.send_raw(Topic.USAGE, value, key=b"bad")
        await stream.send_raw(Topic.USAGE, b"\x1b[31m{", key=b"bad")
        await stream.send_raw(Topic.BUDGETS, b"{", key=b"[/x]")
        found = await stream.until(
            Topic.DEAD_LETTERS,
            lambda found: len({le.id for le in found if le.reason in ("invalid", "not_json")}) == 3,
        )
        ids = sorted({letter.id for letter in found if letter.reason in ("invalid", "not_json")})
    said = await says("letters", "replay", *ids, exit_code=1)
    assert "it can still not be read: value: cost_nanousd of a usage event is negative" in said
    assert "only records of spend.usage can be replayed" in said
    assert "0 replayed, 0 had been counted already, 3 not replayed" in said
    shown = "".join([await says("letters", "show", id_) for id_ in ids])
    assert "\\x1b[31m{" in shown
    assert "\x1b" not in shown
    assert "[/x]" in shown
    assert "2 discarded" in await says("letters", "discard", "--reason", "not_json")
    waiting = {letter["id"] for letter in await letters()}
    assert [id_ in waiting for id_ in ids].count(True) == 1
    assert {le["resolution"] for le in await letters("--reason", "not_json", "--all")} == {"discarded"}
    await is_equal(system)


async def test_letters_are_chosen_by_the_time_at_which_they_were_put_aside(system: System) -> None:
    everything = await letters("--all")
    moment = sorted(letter["failed_at"] for letter in everything)[1]
    later = await letters("--all", "--since", moment)
    earlier = await letters("--all", "--until", moment)
    assert later
    assert earlier
    assert {one["id"] for one in later}.isdisjoint({one["id"] for one in earlier})
    assert len(later) + len(earlier) == len(everything)


async def test_a_command_that_names_nothing_or_what_is_not_there_does_nothing(system: System) -> None:
    for command in ("replay", "discard"):
        assert "say which: give IDs, or --reason, --since or --until" in await says(
            "letters", command, exit_code=2
        )
    assert "there is no dead letter x\\x07:0:1" in await says("letters", "discard", "x\x07:0:1", exit_code=1)
