"""The oracle can fail: each way in which an event can be lost, doubled or wrong is found, and named."""

from dataclasses import replace

import pytest

from tests.faults.ledger import Entry, Ledger, Outcome, Request, Requests
from tests.faults.report import Injected, lines
from tests.faults.report import Outcome as RunOutcome
from tests.faults.schedule import EVERY_KIND, FULL, Kind, schedule
from tests.faults.verdict import HOOK_SECONDS, HOUR_US, Call, Row, Verdict, compare_totals, judge, may_know

AT = 1_800_000_000.0
AT_US = int(AT) * 1_000_000
HOUR = AT_US - AT_US % HOUR_US
EVENT = Entry("e1", "gateway-1", "k1", 500, AT, "recorded", AT_US)
ROW = Row("e1", "", "gateway-1", "k1", 500, AT_US)
CALL = Call("r1", "gpt-4o-mini", 1000, 100)
SERVED = Row("e2", "r1", "proxy", "hash", 1000 * 150 + 100 * 600, AT_US)


def book(entry: Entry = EVENT, outcome: Outcome = "recorded") -> Ledger:
    ledger = Ledger()
    ledger.ask(replace(entry, outcome=outcome))
    return ledger


def asked(ended_at: float = AT + 1, *kills: float) -> Requests:
    request = Request("r1", AT, ended_at, answered=True)
    return Requests({"r1": request}, [(kill, kill) for kill in kills])


def events(rows: list[Row], outcome: Outcome = "recorded") -> Verdict:
    return judge(book(outcome=outcome), Requests(), [], rows)


def requests(rows: list[Row], asked_for: Requests | None = None) -> Verdict:
    return judge(Ledger(), asked_for or asked(), [CALL], rows)


def counts(verdict: Verdict) -> tuple[int, int, int]:
    return len(verdict.lost), len(verdict.doubled), len(verdict.wrong)


def test_an_event_that_is_there_once_is_right_and_in_every_account() -> None:
    verdict = events([ROW])
    assert verdict.is_clean
    assert verdict.expected == {
        ("everything|", 0): 500,
        ("alerting|", 0): 500,
        ("per-key|key=k1", 0): 500,
        ("by-gateway|gateway=gateway-1", HOUR): 500,
    }


def test_an_event_that_is_missing_is_lost() -> None:
    assert counts(events([])) == (1, 0, 0)


def test_an_event_that_is_there_twice_is_doubled() -> None:
    assert counts(events([ROW, ROW])) == (0, 1, 0)


@pytest.mark.parametrize(
    "row",
    [
        ROW._replace(cost_nanousd=501),
        ROW._replace(key="k2"),
        ROW._replace(gateway="gateway-2"),
        ROW._replace(occurred_us=AT_US + 1),
    ],
)
def test_an_event_with_another_cost_subject_or_time_is_wrong(row: Row) -> None:
    assert counts(events([row])) == (0, 0, 1)


def test_an_event_that_nobody_asked_for_is_wrong() -> None:
    assert counts(events([ROW, ROW._replace(event_id="other")])) == (0, 0, 1)


def test_an_event_in_doubt_may_be_there_once_or_not_at_all() -> None:
    assert events([], "in doubt").is_clean
    assert events([ROW], "in doubt").is_clean
    assert counts(events([ROW, ROW], "in doubt")) == (0, 1, 0)


@pytest.mark.parametrize("outcome", ["told lost", "from the future", "asked"])
def test_an_event_that_should_not_be_there_is_wrong(outcome: Outcome) -> None:
    assert events([], outcome).is_clean
    assert counts(events([ROW], outcome)) == (0, 0, 1)


def test_a_served_request_counts_once_at_the_upstreams_tokens() -> None:
    verdict = requests([SERVED])
    assert verdict.is_clean
    assert verdict.expected["by-gateway|gateway=proxy", HOUR] == 210_000
    assert counts(requests([SERVED._replace(cost_nanousd=209_999)])) == (0, 0, 1)
    assert counts(requests([SERVED, SERVED])) == (0, 1, 0)


def test_a_served_request_may_be_missing_only_if_it_was_in_flight_at_a_kill() -> None:
    assert counts(requests([])) == (1, 0, 0)
    assert counts(requests([], asked(AT + 1, AT - 0.001))) == (1, 0, 0)
    assert counts(requests([], asked(AT + 1, AT + 1 + HOOK_SECONDS + 0.001))) == (1, 0, 0)
    for kill in (AT, AT + 0.5, AT + 1 + HOOK_SECONDS):
        verdict = requests([], asked(AT + 1, kill))
        assert verdict.is_clean
        assert verdict.in_flight_unrecorded == 1
        assert verdict.hook_late_ms == round(1000 * max(0.0, kill - AT - 1))


def test_a_request_that_was_not_served_must_not_be_there() -> None:
    assert counts(judge(Ledger(), asked(), [], [SERVED])) == (0, 0, 1)


def test_totals_differ_by_a_nano_dollar_an_account_or_a_window() -> None:
    right = {("everything|", 0): 500}
    assert compare_totals(right, {("everything|", 0): 500}) == []
    assert len(compare_totals(right, {("everything|", 0): 501})) == 1
    assert len(compare_totals(right, {})) == 1
    assert len(compare_totals(right, {**right, ("everything|", HOUR): 1})) == 1


def test_a_gateway_may_know_of_more_only_by_what_it_said_was_lost_last() -> None:
    ledger = book()
    assert may_know(ledger, "gateway-1", "k1", 500) == {500}
    for event_id, cost in (("e2", 7), ("e3", 11)):
        ledger.ask(replace(EVENT, id=event_id, cost_nanousd=cost, outcome="told lost"))
    assert may_know(ledger, "gateway-1", "k1", 500) == {500, 511, 518}
    assert may_know(ledger, "gateway-1", None, 900) == {900, 911, 918}
    assert may_know(ledger, "gateway-1", "k2", 400) == {400}
    assert may_know(ledger, "gateway-2", "k1", 500) == {500}


def test_a_schedule_is_its_seeds_alone_and_deals_every_kind() -> None:
    plan = schedule(7, 2 * len(EVERY_KIND), FULL)
    assert plan == schedule(7, 2 * len(EVERY_KIND), FULL)
    assert plan != schedule(8, 2 * len(EVERY_KIND), FULL)
    assert sorted(fault.kind for fault in plan) == sorted(2 * EVERY_KIND)
    assert [fault.kind.loses for fault in plan] == sorted(fault.kind.loses for fault in plan)


def test_what_is_lost_is_told_with_the_fault_it_was_lost_under() -> None:
    kinds = [Kind("kill", "kafka"), Kind("freeze", "stream")]
    one, other = sorted(schedule(1, 2, FULL, kinds), key=lambda fault: kinds.index(fault.kind))
    injected = [Injected(one, AT - 100, AT - 99, 3.0), Injected(other, AT - 10, AT - 5, 2.0)]
    verdict = events([])
    outcome = RunOutcome(1, 60, injected, verdict, [], [], {"events in history": verdict.events})
    told = lines(outcome)
    assert any("freeze stream" in line and "lost 1" in line for line in told)
    assert any("kill kafka" in line and "lost 0" in line for line in told)
    assert told[-1] == "NOT EXACT"
    assert not outcome.is_clean


def test_a_fault_that_nothing_recovered_from_is_no_clean_run() -> None:
    fault = schedule(1, 1, FULL)[0]
    outcome = RunOutcome(1, 60, [Injected(fault, AT, AT, None)], events([ROW]), [], [], {})
    assert not outcome.is_clean
    assert replace(outcome, injected=[Injected(fault, AT, AT, 1.0)]).is_clean
