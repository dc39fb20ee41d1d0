"""`spendmeter explain`: the events that were known when a request was refused, and no others."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.records import (
    encode_alert,
    encode_budget,
    encode_decision,
    encode_signal,
    encode_usage,
)
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.explain.evidence import (
    DecisionEvidence,
    author_of,
    budgets_at,
    evidence_of,
    find_decision,
)
from tests.builders import NOON, budget, signal, usage
from tests.integration.cli.conftest import spendmeter
from tests.integration.sinks.conftest import Eventually, Put, Running

ID = UUID("019a2c5e-5c00-7abc-8def-0123456789ac")
DAY = NOON.replace(hour=0)


def decision(**changes: Any) -> Decision:
    given = {
        "decision_id": ID,
        "decided_at": NOON + timedelta(days=3650),
        "gateway": "g1",
        "why": Why.LIMIT_REACHED,
        "name": "k1",
        "message": "Budget has been exceeded! Key=k1 Current cost: 0.001, Max budget: 0.001",
        "budget_id": "per-key",
        "revision": budget().revision,
        "account": "per-key|key=k1",
        "window_start": DAY,
        "window_end": DAY + timedelta(days=1),
        "limit_nanousd": 1_000_000,
        "spent_nanousd": 1_000_000,
        "signal_nanousd": 700_000,
        "held_nanousd": 0,
        "watermark": {0: 2},
        "producer_id": "own",
        "seq": 2,
    }
    return Decision.model_validate(given | changes)


class Kept:
    """What a test puts into history."""

    def __init__(
        self, settings: SinkSettings, history: Client, put: Put, running: Running, eventually: Eventually
    ) -> None:
        self.settings, self.history = settings, history
        self._put, self._running, self._eventually = put, running, eventually

    async def put(self, events: Sequence[UsageEvent], made: Decision, *budgets: Any) -> None:
        await self._put(Topic.USAGE, [encode_usage(event) for event in events])
        await self._put(Topic.BUDGETS, [encode_budget(one) for one in (budget(), *budgets)])
        await self._put(Topic.DECISIONS, [encode_decision(made)])
        async with self._running():
            await self._eventually("SELECT max(offset) + 1 FROM usage", [(len(events),)])
            await self._eventually("SELECT count() FROM budgets", [(1 + len(budgets),)])
            await self._eventually("SELECT count() FROM decisions", [(1,)])

    async def evidence(self, most: int = 10) -> DecisionEvidence:
        def look() -> DecisionEvidence:
            found = find_decision(self.history, ID)
            assert found is not None
            book = budgets_at(self.history, found)
            return evidence_of(self.history, found, book, self.settings.topic(Topic.USAGE), most)

        return await asyncio.to_thread(look)

    async def says(self, monkeypatch: pytest.MonkeyPatch, *arguments: str, exit_code: int = 0) -> str:
        monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", self.settings.clickhouse_url)
        monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", self.settings.clickhouse_database)
        monkeypatch.setenv("SPENDMETER_TOPIC_PREFIX", self.settings.topic_prefix)
        return await asyncio.to_thread(spendmeter, "explain", *arguments, exit_code=exit_code)


@pytest.fixture
def kept(settings: SinkSettings, history: Client, put: Put, running: Running, eventually: Eventually) -> Kept:
    return Kept(settings, history, put, running, eventually)


async def test_a_decision_is_read_back_as_it_was_made(kept: Kept) -> None:
    made = decision(why=Why.NO_ROOM, held_nanousd=7, least_nanousd=1, window_end=None)
    await kept.put([usage()], made)

    assert await asyncio.to_thread(find_decision, kept.history, ID) == made
    assert await asyncio.to_thread(find_decision, kept.history, None) == made


async def test_exactly_the_events_that_were_known_are_added_up(kept: Kept) -> None:
    events = [
        usage(1, 700_000),
        usage(2, 5_000_000, key="other"),
        usage(3, 6_000_000, occurred_at=DAY - timedelta(microseconds=1)),
        # Above the watermark: the gateway's own, and what it could not know.
        usage(1, 200_000, producer_id="own"),
        usage(2, 100_000, producer_id="own"),
        usage(3, 8_000_000, producer_id="own"),
        # A resend of the first.
        usage(1, 700_000),
        usage(4, 9_000_000),
    ]
    await kept.put(events, decision())

    found = await kept.evidence(most=2)
    assert (found.events, found.spent_nanousd) == (3, 1_000_000)
    assert [one.cost_nanousd for one in found.largest] == [700_000, 200_000]


async def test_what_was_answered_and_not_yet_recorded_is_added_up_by_its_id(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = usage(7, 300_000, producer_id="own")
    # Answered after the refusal, or not needed for it.
    later = usage(8, 9_000_000, producer_id="own")
    made = decision(watermark={0: 0}, pending_nanousd=300_000, pending=(answered.event_id,))
    await kept.put([usage(1, 700_000), answered, later], made)

    assert await asyncio.to_thread(find_decision, kept.history, ID) == made
    found = await kept.evidence()
    assert (found.events, found.spent_nanousd) == (2, 1_000_000)
    said = await kept.says(monkeypatch)
    assert "$0.0003 of that had been answered, and LiteLLM had not logged it yet" in said
    assert said.rstrip().endswith("so the refusal was right")


async def test_an_answer_that_was_logged_at_less_does_not_bear_a_refusal_out(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = usage(7, 299_999, producer_id="own")
    await kept.put(
        [usage(1, 700_000), answered], decision(pending_nanousd=300_000, pending=(answered.event_id,))
    )

    assert "logged at another cost" in await kept.says(monkeypatch, exit_code=1)


async def test_an_event_that_another_budget_counts_instead_is_not_among_them(kept: Kept) -> None:
    replacing = budget(id="vip", match={"key": "k1", "team": "red"}, replaces="per-key")
    await kept.put([usage(1, 1_000_000), usage(2, 5_000_000, team="red")], decision(), replacing)

    assert (await kept.evidence()).spent_nanousd == 1_000_000


async def test_an_unpriced_request_counts_its_flat_amount(kept: Kept) -> None:
    event = usage(1, 0, cost_source=CostSource.UNPRICED)
    await kept.put([event], decision(revision=4), budget(revision=4, unpriced="0.001"))

    assert (await kept.evidence()).spent_nanousd == 1_000_000


async def test_the_command_shows_the_events_and_says_that_the_refusal_was_right(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept.put([usage(1, 700_000), usage(1, 300_000, producer_id="own")], decision())

    said = await kept.says(monkeypatch, str(ID))
    assert "$0.001, $0.0003 of it this gateway's own" in said
    assert "2 events were known then; history adds them up to $0.001" in said
    assert said.rstrip().endswith("so the refusal was right")
    data = json.loads(await kept.says(monkeypatch, "--json"))
    assert (data["right"], data["events"], data["spent_nanousd"]) == (True, 2, 1_000_000)


async def test_a_refusal_that_history_does_not_bear_out_is_named_and_ends_with_1(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept.put([usage(1, 999_999)], decision())

    said = await kept.says(monkeypatch, exit_code=1)
    assert "history does not justify this: $0.000000001 is missing" in said


async def test_a_decision_that_is_not_there_is_told_so(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    await kept.put([usage()], decision())
    other = UUID(int=1)

    assert f"history has no decision and no alert {other}" in await kept.says(
        monkeypatch, str(other), exit_code=1
    )


async def test_it_says_who_claims_to_have_set_the_budget(kept: Kept) -> None:
    await kept.put([usage(1, 700_000)], decision(revision=2), budget(revision=2, updated_by="ann"))

    assert author_of(kept.history, decision(revision=2)) == "claimed: ann"


async def test_an_alert_is_explained_by_the_events_under_its_signal(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, put: Put
) -> None:
    of_account = signal(
        budget_id="per-key",
        account="per-key|key=k1",
        subject={"key": "k1"},
        window_start=DAY,
        window_end=DAY + timedelta(days=1),
        limit_nanousd=1_000_000,
        spent_nanousd=1_000_000,
        watermark={0: 1},
        emitted_at=NOON,
    )
    alerts = [
        Alert(alert_id=UUID(int=n), kind=AlertKind.EXCEEDED, signal=one, message="spent", emitted_at=NOON)
        for n, one in ((21, of_account), (22, None))
    ]
    await put(Topic.SIGNALS, [encode_signal(of_account)])
    await put(Topic.ALERTS, [encode_alert(one) for one in alerts])
    # The third is above the watermark.
    await kept.put([usage(1, 700_000), usage(2, 300_000), usage(3, 5_000)], decision())

    said = await kept.says(monkeypatch, str(UUID(int=21)))
    assert "2 events were known then; history adds them up to $0.001" in said
    assert said.rstrip().endswith("so the alert was right")
    data = json.loads(await kept.says(monkeypatch, str(UUID(int=21)), "--json"))
    assert (data["right"], data["events"], data["alert"]["spent_nanousd"]) == (True, 2, 1_000_000)
    assert "no account is concerned" in await kept.says(monkeypatch, str(UUID(int=22)))
    kept.history.command("ALTER TABLE usage DELETE WHERE seq = 2 SETTINGS mutations_sync = 1")
    said = await kept.says(monkeypatch, str(UUID(int=21)), exit_code=1)
    assert "history does not justify this: it differs by $0.0003" in said
