"""Replays: which letters can be sent again, and as what."""

from datetime import timedelta
from typing import Any

import pytest

from spendmeter.contract.dead_letter import DeadLetter, Reader, Reason, hold
from spendmeter.contract.records import encode_usage
from spendmeter.contract.signing import SigningKeys
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import BudgetBook
from spendmeter.history.dead_letters import (
    HistoryCopy,
    NotReplayable,
    PutAside,
    is_counted,
    producer_of,
    replay_of,
)
from spendmeter.values.ids import uuid7
from spendmeter_stream.meter.meter import Meter, UsageRecord
from tests.builders import NOON, budget, usage

AHEAD = timedelta(hours=2)


def letter(event: UsageEvent | bytes, reason: Reason = Reason.FROM_THE_FUTURE, **fields: Any) -> DeadLetter:
    payload = event if isinstance(event, bytes) else encode_usage(event).value
    return DeadLetter(
        **{
            "source_topic": "spend.usage",
            "source_partition": 1,
            "source_offset": 7,
            "reason": reason,
            "detail": "what is wrong",
            "component": "stream",
            "failed_at": NOON,
            **hold(b"k1", payload),
            **fields,
        }
    )


def aside(*readers: Reader) -> PutAside:
    return PutAside(letter(b""), 0, frozenset(readers))


def test_the_event_is_sent_as_it_was_by_a_producer_of_its_own() -> None:
    event = usage(3, occurred_at=NOON + AHEAD)
    sent = replay_of(letter(event), NOON + AHEAD)
    assert sent == event.model_copy(update={"producer_id": f"replays/{event.event_id}", "seq": 1})


def test_a_replay_that_is_put_aside_itself_is_replayed_as_the_same_record() -> None:
    sent = replay_of(letter(usage(3)), NOON)
    assert replay_of(letter(sent, source_offset=99), NOON) == sent


def test_what_still_lies_ahead_waits() -> None:
    with pytest.raises(NotReplayable, match=r"it can still not be read: occurred_at .* is more than 1:00:00"):
        replay_of(letter(usage(3, occurred_at=NOON + AHEAD)), NOON)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (letter(b"{", Reason.NOT_JSON), "it can still not be read: Invalid JSON"),
        (letter(usage(), Reason.UNKNOWN_SCHEMA, headers={"ce_type": "dev.spendmeter.usage.v9"}), "usage.v9"),
        (letter(b"x" * 3_000_000, Reason.INVALID), "too large to hold; read it from spend.usage:1:7"),
        (letter(usage(), Reason.REFUSED_BY_HISTORY), "budgets count it already.*what is wrong"),
    ],
)
def test_what_cannot_be_read_or_counts_by_itself_is_not_sent(one: DeadLetter, why: str) -> None:
    with pytest.raises(NotReplayable, match=why):
        replay_of(one, NOON)


def test_an_event_counts_where_history_has_it_from_another_place() -> None:
    both = aside(Reader.STREAM, Reader.HISTORY)
    assert not is_counted(both, [])
    assert is_counted(both, [HistoryCopy(1, 8)])
    assert not is_counted(aside(Reader.STREAM), [HistoryCopy(1, 7)]), (
        "history could read it, the stream could not"
    )


def test_what_only_history_put_aside_the_stream_counted() -> None:
    assert is_counted(aside(Reader.HISTORY), [])
    assert not is_counted(aside(Reader.UNKNOWN), []), "of an older version nobody knows"


def test_the_stream_counts_a_replay_once_though_later_events_of_its_producer_were_counted() -> None:
    book, meter = BudgetBook([budget(period="lifetime")]), Meter(0)
    lost = usage(2, 700)
    replays = [replay_of(letter(lost), NOON)] * 3
    events = [usage(1, 10), None, usage(3, 10), *replays, replay_of(letter(lost, source_offset=8), NOON)]
    folded = meter.fold([UsageRecord(n, NOON, event) for n, event in enumerate(events)], book)
    assert (folded.counted, folded.resent) == (3, 3)
    assert [total.spent_nanousd for total in folded.totals] == [720]
    assert meter.producers[producer_of(lost.event_id)].seq == 1


def foreign(event: UsageEvent, signature: dict[str, str]) -> DeadLetter:
    headers = {name: (text or b"").decode() for name, text in encode_usage(event).headers}
    return letter(event, reason=Reason.FOREIGN_PRODUCER, headers=headers | signature)


def test_what_was_put_aside_for_a_wrong_key_is_replayed_once_the_key_is_right() -> None:
    event, keys = usage(3, producer_id=f"{uuid7(0)}.signed"), SigningKeys(["k" * 32])
    [(name, text)] = keys.sign("spend.usage", 1, *encode_usage(event)[:2])
    sent = foreign(event, {name: text.decode()})

    assert replay_of(sent, NOON, keys).event_id == event.event_id
    with pytest.raises(NotReplayable, match="set SPENDMETER_SIGNING_KEYS"):
        replay_of(sent, NOON)


@pytest.mark.parametrize("seq", [3, 2**62])
def test_what_is_still_somebody_elses_is_not_replayed(seq: int) -> None:
    with pytest.raises(NotReplayable, match="it is still not its producer's"):
        replay_of(foreign(usage(seq, producer_id=f"{uuid7(0)}.signed"), {}), NOON, SigningKeys(["k" * 32]))
