"""What `spendmeter explain` says of a refusal, and when it calls it right."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import NanoUsd
from spendmeter_sinks.explain.command import is_right, render
from spendmeter_sinks.explain.evidence import CountedEvent, DecisionEvidence
from tests.builders import NOON


def decision(**changes: Any) -> Decision:
    given = {
        "decision_id": UUID(int=7),
        "decided_at": NOON,
        "gateway": "eu-1",
        "why": Why.LIMIT_REACHED,
        "name": "ci",
        "message": "Budget has been exceeded!",
        "budget_id": "per-key",
        "revision": 3,
        "account": "per-key|key=k1",
        "window_start": NOON - timedelta(hours=1),
        "limit_nanousd": 100,
        "spent_nanousd": 100,
        "signal_nanousd": 90,
        "watermark": {1: 8, 0: 41},
    }
    return Decision.model_validate(given | changes)


def evidence(spent: int, events: int = 1) -> DecisionEvidence:
    return DecisionEvidence(
        events, NanoUsd(spent), [CountedEvent(NanoUsd(spent), NOON, UUID(int=1), "gpt-4o", "ci", "eu-1")]
    )


@pytest.mark.parametrize(("spent", "right"), [(99, False), (100, True)])
def test_a_refusal_at_the_limit_is_right_once_the_events_reach_it(spent: int, right: bool) -> None:
    assert is_right(decision(), evidence(spent)) is right


@pytest.mark.parametrize(("spent", "right"), [(80, False), (81, True)])
def test_a_refusal_for_want_of_room_is_right_where_the_least_did_not_fit(spent: int, right: bool) -> None:
    made = decision(why=Why.NO_ROOM, held_nanousd=15, least_nanousd=5)
    assert is_right(made, evidence(spent)) is right


@pytest.mark.parametrize("why", [Why.BLIND, Why.UNPRICED, Why.UNBOUNDED, Why.CONTROL, Why.TAG_MISSING])
def test_a_refusal_that_claims_no_spend_needs_no_events(why: Why) -> None:
    assert is_right(decision(why=why), evidence(0))


def test_all_that_it_rests_on_is_told() -> None:
    assert render(decision(), evidence(100, events=3)) == (
        "refused      2026-11-22 12:00:00 UTC at gateway eu-1, for ci\n"
        "  message    Budget has been exceeded!\n"
        "  decision   00000000-0000-0000-0000-000000000007\n"
        "  budget     per-key, revision 3, account per-key|key=k1\n"
        "  window     from 2026-11-22 11:00:00 to never\n"
        "  limit      $0.0000001\n"
        "  known      $0.0000001, $0.00000001 of it this gateway's own and in no signal yet\n"
        "  watermark  0:41, 1:8 (partition:offset of spend.usage)\n"
        "3 events were known then; history adds them up to $0.0000001\n"
        "  2026-11-22 12:00:00      $0.0000001  gpt-4o  key ci  event 00000000-0000-0000-0000-000000000001\n"
        "  … and 2 smaller ones\n"
        "so the refusal was right"
    )


def test_whose_account_it_is_is_said_by_name() -> None:
    named = evidence(100)._replace(names={"key": "ci", "team": "Research"})
    assert "\n  whose      key ci, team Research\n" in render(decision(), named)


def test_a_blind_refusal_says_so() -> None:
    told = render(decision(why=Why.BLIND, budget_id=None, account=None, window_start=None), None)
    assert told.endswith("The gateway could not verify what had been spent, and `on_stale` is `block`.")


def test_it_says_who_set_the_budget_as_far_as_anybody_knows() -> None:
    for by, told in (("ann", "revision 3 by ann, account"), ("claimed: ann", "revision 3 by claimed: ann,")):
        assert told in render(decision(revision=3), evidence(100)._replace(budget_by=by))
    assert "revision 3, account" in render(decision(revision=3), evidence(100))
