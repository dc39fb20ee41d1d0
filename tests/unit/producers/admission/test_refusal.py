"""What a refused client is told."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from spendmeter.contract.budget import Budget
from spendmeter.contract.decision import MAX_NAMED, Decision, Why
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import Account, Subject
from spendmeter.domain.window import Window
from spendmeter.settings import Settings
from spendmeter_gateway.admission import decision_log
from spendmeter_gateway.admission.decide import BLIND_AT_START, Denied
from spendmeter_gateway.admission.decision_log import decision_of
from spendmeter_gateway.admission.refusal import Refusal, plain, refusal_of
from spendmeter_gateway.model import Caller
from spendmeter_gateway.outbox import side_queue as record_queue
from spendmeter_gateway.spend.window_balance import KnownSpend

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CALLER = Caller(Subject(key="abc"), "my-key")
BUDGET = Budget(
    id="key-day", match={"key": "*"}, limit_nanousd=NanoUsd(1_000_000), period="day", updated_at=NOW
)


def refuse(**changes: Any) -> Denied:
    made = Denied(
        Why.LIMIT_REACHED,
        Account(BUDGET, "key-day|key=abc", (("key", "abc"),)),
        Window(NOW - timedelta(hours=12), NOW + timedelta(hours=12)),
        NanoUsd(1_050_000),
        NanoUsd(1_000_000),
        KnownSpend(1_050_000, 0, 840_000, {1: 8, 0: 41}, None),
    )
    return made._replace(**changes)


def test_the_message_is_litellms_own() -> None:
    told = refusal_of(refuse(), CALLER, NOW)

    assert told.message.startswith(
        "Budget has been exceeded! Key=my-key Current cost: 0.00105, Max budget: 0.001 "
    )


@pytest.mark.parametrize(
    ("match", "subject", "whose"),
    [
        ({"key": "*"}, {"key": "abc"}, "Key=my-key"),
        ({"key": "*"}, {"key": "def"}, "Key=def"),
        ({"team": "red"}, {"team": "red"}, "Team=red"),
        ({"user": "*"}, {"user": "ann"}, "User=ann"),
        ({"organization": "*"}, {"organization": "acme"}, "Organization=acme"),
        ({"project": "*"}, {"project": "p1"}, "Project=p1"),
        ({"end_user": "*"}, {"end_user": "eve"}, "End User=eve"),
        ({"tag": "*"}, {"tag": "cheap"}, "Tag=cheap"),
        ({"model": "*"}, {"model": "gpt-4o"}, "Model=gpt-4o"),
        ({"user": "*", "team": "*"}, {"team": "red", "user": "ann"}, "User=ann Team=red"),
        ({}, {}, ""),
    ],
)
def test_the_message_says_whose_budget_it_is(
    match: dict[Any, str], subject: dict[Any, str], whose: str
) -> None:
    budget = BUDGET.model_copy(update={"match": match})
    told = refusal_of(refuse(account=Account(budget, "a", tuple(subject.items()))), CALLER, NOW)

    of_whom = f" {whose}" if whose else ""
    assert told.message.startswith(f"Budget has been exceeded!{of_whom} Current cost: 0.00105,")


def test_the_message_names_budget_and_window_in_the_budgets_zone() -> None:
    berlin = BUDGET.model_copy(update={"timezone": "Europe/Berlin"})
    window = Window(NOW, datetime(2026, 11, 22, 23, tzinfo=UTC))
    told = refusal_of(refuse(account=Account(berlin, "a", ()), window=window), CALLER, NOW)

    assert told.message.endswith(" (budget key-day, period day, until 2026-11-23T00:00:00+01:00)")


def test_a_lifetime_has_no_end_in_the_message() -> None:
    lifetime = BUDGET.model_copy(update={"period": "lifetime"})
    told = refusal_of(refuse(account=Account(lifetime, "a", ()), window=Window(NOW, None)), CALLER, NOW)

    assert told.message.endswith(" (budget key-day, period lifetime)")


def test_the_page_is_named_at_the_end_and_in_a_header_where_a_setting_says_where_it_is() -> None:
    plainly, named = (refusal_of(refuse(), CALLER, NOW, page) for page in ("", "https://spend.example"))
    url = f"https://spend.example/refusals/{named.id}"

    assert named.message == f"{plainly.message} Why: {url}"
    assert named.headers == plainly.headers | {
        "x-spendmeter-decision": str(named.id),
        "x-spendmeter-decision-url": url,
    }
    assert "http" not in plainly.message


@pytest.mark.parametrize(
    ("name", "plainly"),
    [
        ("red", "red"),
        ("größe 1", "größe 1"),
        ("a\r\nx-injected: 1", "a��x-injected: 1"),
        ("a\x00b\x7fc\x85d\u2028e\u202ef\ud800", "a�b�c�d�e�f�"),
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 99 + "…"),
    ],
)
def test_a_name_that_a_client_chose_stays_on_one_line(name: str, plainly: str) -> None:
    assert plain(name) == plainly


def test_the_headers_say_what_to_do() -> None:
    told = refusal_of(refuse(), CALLER, NOW)

    assert told.id.version == 7
    assert told.headers == {
        "retry-after": "43200",
        "x-should-retry": "false",
        "x-spendmeter-account": "key-day|key=abc",
        "x-spendmeter-budget-limit-usd": "0.001",
        "x-spendmeter-budget-resets-at": "2026-11-23T00:00:00.000000Z",
        "x-spendmeter-budget": "key-day",
        "x-spendmeter-decision": str(told.id),
    }


@pytest.mark.parametrize(
    ("left", "seconds"),
    [
        (timedelta(microseconds=1), "1"),
        (timedelta(seconds=1), "1"),
        (timedelta(seconds=1, microseconds=1), "2"),
    ],
)
def test_retry_after_is_at_least_a_second_and_never_too_early(left: timedelta, seconds: str) -> None:
    told = refusal_of(refuse(window=Window(NOW - timedelta(hours=1), NOW + left)), CALLER, NOW)

    assert told.headers["retry-after"] == seconds


def test_a_lifetime_has_no_retry_after() -> None:
    told = refusal_of(refuse(window=Window(NOW - timedelta(hours=1), None)), CALLER, NOW)

    assert "retry-after" not in told.headers


def test_the_facts_name_budget_window_spend_limit_and_offsets() -> None:
    told = refusal_of(refuse(), CALLER, NOW)

    assert told.facts == (
        f"decision={told.id} why=limit_reached budget=key-day revision=1 account=key-day|key=abc"
        " window_start=2026-11-22T00:00:00.000000Z window_end=2026-11-23T00:00:00.000000Z"
        " spent_nanousd=1050000 limit_nanousd=1000000 signal_nanousd=840000 watermark=0:41,1:8"
    )


def test_a_blind_gateway_says_so_and_claims_no_exceeded_budget() -> None:
    told = refusal_of(BLIND_AT_START, CALLER, NOW)

    assert told.message == "Budget cannot be verified at the moment. Key=my-key"
    assert told.headers["retry-after"] == "1"
    assert "x-spendmeter-budget" not in told.headers
    assert told.facts == f"decision={told.id} why=blind"


def test_a_decision_names_all_that_it_rests_on() -> None:
    told = refusal_of(refuse(held_nanousd=NanoUsd(7)), CALLER, NOW)
    decision = decision_of(told, "g1", "producer", 12, {})

    assert decision == Decision(
        decision_id=told.id,
        decided_at=NOW,
        gateway="g1",
        why=Why.LIMIT_REACHED,
        name="my-key",
        message=told.message,
        budget_id="key-day",
        revision=BUDGET.revision,
        account="key-day|key=abc",
        window_start=NOW - timedelta(hours=12),
        window_end=NOW + timedelta(hours=12),
        limit_nanousd=NanoUsd(1_000_000),
        spent_nanousd=NanoUsd(1_050_000),
        signal_nanousd=NanoUsd(840_000),
        held_nanousd=NanoUsd(7),
        watermark={0: 41, 1: 8},
        producer_id="producer",
        seq=12,
        pending_nanousd=NanoUsd(0),
    )


@pytest.mark.parametrize(
    ("pending_nanousd", "named"),
    [
        # The others reach the limit by themselves; lack 1; lack so much that it takes two; lack it all.
        (50_000, ()),
        (50_001, (3,)),
        (80_001, (3, 1)),
        (1_050_000, (3, 1, 2)),
    ],
)
def test_a_decision_names_the_costliest_answers_that_it_takes(
    pending_nanousd: int, named: tuple[int, ...]
) -> None:
    known = KnownSpend(1_050_000, 0, 840_000, {}, None, pending_nanousd)
    pending = {UUID(int=1): 20_000, UUID(int=2): 10_000, UUID(int=3): 30_000}
    decision = decision_of(refusal_of(refuse(known=known), CALLER, NOW), "g1", "p", 12, pending)

    assert decision.pending_nanousd == pending_nanousd
    assert decision.pending == tuple(UUID(int=one) for one in named)


def test_a_decision_for_want_of_room_names_what_leaves_none() -> None:
    known = KnownSpend(900_000, 0, 0, {}, None, 30_000)
    short = refuse(why=Why.NO_ROOM, spent_nanousd=NanoUsd(900_000), known=known)
    pending = {UUID(int=1): 20_000, UUID(int=2): 10_000}

    def named(least_nanousd: int) -> int:
        told = refuse_with(short, least_nanousd)
        return len(decision_of(told, "g1", "p", 12, pending).pending)

    assert [named(least) for least in (130_001, 130_000, 110_000)] == [0, 1, 2]


def test_a_decision_names_answers_up_to_a_bound() -> None:
    known = KnownSpend(1_000_000, 0, 0, {}, None, 1_000_000)
    pending = {UUID(int=n): 1 for n in range(MAX_NAMED + 1)}
    decision = decision_of(refusal_of(refuse(known=known), CALLER, NOW), "g1", "p", 12, pending)

    assert len(decision.pending) == MAX_NAMED


def refuse_with(short: Denied, least_nanousd: int) -> Refusal:
    return refusal_of(short._replace(least_nanousd=NanoUsd(least_nanousd)), CALLER, NOW)


def test_a_decision_made_blind_names_no_budget() -> None:
    decision = decision_of(refusal_of(BLIND_AT_START, CALLER, NOW), "g1", None, 0, {})

    assert decision.why is Why.BLIND
    assert decision.budget_id is None
    assert decision.watermark == {}


def test_decisions_beyond_the_bound_are_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_queue, "MAX_WAITING", 2)
    waiting = decision_log.DecisionLog(Settings())
    before = decision_log.LOST._value.get()
    for _ in range(3):
        waiting.add(decision_of(refusal_of(refuse(), CALLER, NOW), "g1", None, 0, {}))

    assert decision_log.LOST._value.get() - before == 1


def test_a_model_without_a_price_is_told_so_and_that_waiting_does_not_help() -> None:
    told = refusal_of(refuse(why=Why.UNPRICED), CALLER, NOW)

    assert told.message == (
        "Budget allows no model whose price is not known, and this one's is not. Key=my-key"
        " (budget key-day, period day, until 2026-11-23T00:00:00+00:00)"
    )
    assert "retry-after" not in told.headers
    assert told.headers["x-spendmeter-budget"] == "key-day"
    assert "why=unpriced" in told.facts
