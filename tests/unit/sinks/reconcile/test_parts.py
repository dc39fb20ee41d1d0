"""Small parts: evidence, letters, gaps, slices."""

import json
from datetime import timedelta
from uuid import UUID

from spendmeter.contract.dead_letter import DeadLetter, Reason, hold
from spendmeter_sinks.history.dead_letters import scan_dead_letters
from spendmeter_sinks.history.usage_rows import TimeRange, cut
from spendmeter_sinks.reconcile.find import Evidence, FirstCopy, first_copies, weigh
from spendmeter_sinks.reconcile.gaps import still_missing
from spendmeter_sinks.reconcile.replay import ComparedComponent
from spendmeter_sinks.reconcile.sequences import Range
from spendmeter_sinks.reconcile.totals import Version
from tests.builders import NOON, usage

A, B, C = (UUID(int=n) for n in (1, 2, 3))
BOTH = {A: FirstCopy(1, 10), B: FirstCopy(2, 20)}
HOUR = timedelta(hours=1)


def lane(stream: int, history: int) -> ComparedComponent:
    return ComparedComponent(0, 9, Version(0, 9, stream, 2), history, 2)


def test_evidence_names_what_history_lacks_what_it_changed_and_what_only_it_has() -> None:
    found = weigh(lane(30, 47), BOTH, {B: FirstCopy(2, 21), C: FirstCopy(3, 26)}, kafka_from=0)
    assert found == Evidence(missing_in_history=(A,), altered_in_history=(B,), unknown_to_kafka=(C,))


def test_what_kafka_no_longer_keeps_accuses_nobody() -> None:
    assert weigh(lane(10, 30), {}, BOTH, kafka_from=3).unknown_to_kafka == ()


def test_where_kafka_and_history_agree_the_event_that_alone_explains_it_is_suspected() -> None:
    assert weigh(lane(10, 30), BOTH, BOTH, kafka_from=0).suspects == (B,)
    assert weigh(lane(11, 30), BOTH, BOTH, kafka_from=0).suspects == (A, B)


def test_of_copies_the_first_counts() -> None:
    assert first_copies([(A, FirstCopy(5, 1)), (A, FirstCopy(3, 1)), (A, FirstCopy(4, 1))]) == {
        A: FirstCopy(3, 1)
    }


def letter(offset: int, payload: bytes, reason: Reason = Reason.INVALID) -> DeadLetter:
    return DeadLetter(
        source_topic="spend.usage", source_partition=0, source_offset=offset, reason=reason, detail="",
        component="stream", failed_at=NOON, **hold(b"k1", payload),
    )  # fmt: skip


def test_a_letter_whose_seq_can_be_read_counts_as_there() -> None:
    payloads = [
        json.dumps({"producer_id": "p1", "seq": 3, "cost_nanousd": -1}).encode(),
        json.dumps({"producer_id": "p1", "seq": True}).encode(),
        json.dumps({"producer_id": None, "seq": 4}).encode(),
        b"[1]",
        b"\xff",
        b"x" * 3_000_000,
    ]
    found = scan_dead_letters(letter(offset, payload) for offset, payload in enumerate(payloads))
    assert found.records == len(payloads)
    assert found.seqs == {"p1": {3}}
    assert found.refused == {}


def test_an_event_that_history_refused_counts_once_at_its_first_copy() -> None:
    refused = usage(5, 70, tags=("a", "b"))
    payload = refused.model_dump_json().encode()
    found = scan_dead_letters(letter(offset, payload, Reason.REFUSED_BY_HISTORY) for offset in (7, 9))
    (row,) = found.rows(["key", "tag"])
    assert (row.offset, row.amount, row.values) == (7, 70, ("k1", ("a", "b")))
    assert found.seqs == {"p1": {5}}


def test_a_gap_that_opened_since_the_last_look_is_no_loss_yet() -> None:
    before = {"p1": [Range(2, 5)], "p2": [Range(1, 1)]}
    now = {"p1": [Range(4, 9)], "p3": [Range(1, 1)]}
    assert still_missing(before, now) == {"p1": [Range(4, 5)]}


def test_slices_hold_at_most_so_many_rows_but_never_less_than_an_hour() -> None:
    hours = [(NOON, 3), (NOON + HOUR, 2), (NOON + 5 * HOUR, 1), (NOON + 6 * HOUR, 9)]
    assert cut(hours, at_most=5) == [
        TimeRange(NOON, NOON + 2 * HOUR),
        TimeRange(NOON + 5 * HOUR, NOON + 6 * HOUR),
        TimeRange(NOON + 6 * HOUR, NOON + 7 * HOUR),
    ]
