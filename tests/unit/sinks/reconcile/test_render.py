"""What people and programs read, literally."""

from datetime import UTC, datetime
from uuid import UUID

from spendmeter_sinks.reconcile.report import (
    Compared,
    ConflictingEvents,
    DeadLetters,
    Events,
    LostEvents,
    NotCompared,
    Report,
    SignalDiffers,
    Sums,
    TotalDiffers,
    render,
)

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
A, B = UUID(int=1), UUID(int=2)
EQUAL = Report(
    equal=True,
    checked_at=MIDNIGHT,
    watermark={0: 11, 1: 7},
    compared=Compared(events=1_234, producers=2, accounts=3, windows=4, signals=3),
    nanousd=Sums(recorded=5_000, stream=7_000, history=7_000, signals=6_000, totals=6_000),
    dead_letters=DeadLetters(),
    differences=(),
    more_differences=0,
    not_compared=(),
    seconds=2.5,
    rows_read=1_200,
    rows_per_second=300_000,
)


def test_equal_is_said_first_with_what_was_compared() -> None:
    assert render(EQUAL) == (
        "equal to the nano-dollar\n"
        "  recorded   1,234 events of 2 producers, $0.000005\n"
        "  totals     4 windows of 3 accounts: stream $0.000007, history $0.000007\n"
        "  signals    3 accounts: signals $0.000006, totals $0.000006\n"
        "  read       1,200 rows of history in 2.5 s (300,000 rows/s)"
    )


def test_each_difference_is_a_line_that_names_accounts_amounts_and_events() -> None:
    differences = (
        LostEvents(producer_id="p1", ranges=((2, 2), (5, 6)), events=3),
        ConflictingEvents(producer_id="p1", seq=9, event_ids=(A, B), costs_nanousd=(1, 2)),
        TotalDiffers(
            account="b|key=k", window_start=MIDNIGHT, source_partition=0, first_offset=1, last_offset=9,
            stream_nanousd=30, history_nanousd=10, stream_events=2, history_events=1,
            missing_in_history=Events.of((A,)),
        ),
        SignalDiffers(
            account="b|key=k", window_start=MIDNIGHT, signal_nanousd=None, totals_nanousd=30,
            detail="there is no signal",
        ),
    )  # fmt: skip
    report = EQUAL.model_copy(
        update={
            "equal": False,
            "differences": differences,
            "more_differences": 2,
            "dead_letters": DeadLetters(records=4, refused_by_history=1, with_seq=3),
            "not_compared": (
                NotCompared(what="windows", count=2, reason="the budget is no longer in force"),
            ),
        }
    )
    assert render(report).splitlines()[0] == "6 differences"
    assert render(report).splitlines()[4:] == [
        "  dead       4 records of spend.usage are dead letters; 1 of them are counted events that history"
        " refused",
        "  left out   2 windows: the budget is no longer in force",
        "  read       1,200 rows of history in 2.5 s (300,000 rows/s)",
        "  DIFFERS    producer p1: 3 events lost, seq 2, 5–6",
        f"  DIFFERS    producer p1, seq 9: event ids {A}, {B}; costs $0.000000001, $0.000000002",
        "  DIFFERS    b|key=k from 2026-11-22T00:00:00.000000Z, partition 0 (offsets 1–9):"
        f" stream $0.00000003 in 2 events, history $0.00000001 in 1; missing in history: {A}",
        "  DIFFERS    b|key=k from 2026-11-22T00:00:00.000000Z: signal nothing, totals $0.00000003;"
        " there is no signal",
        "  DIFFERS    and 2 more",
    ]


def test_a_long_list_of_events_is_cut_and_counted() -> None:
    named = Events.of(tuple(UUID(int=n) for n in range(25)))
    assert (len(named.ids), named.more, named.count) == (20, 5, 25)


def test_json_is_exact() -> None:
    assert EQUAL.model_dump_json() == (
        '{"equal":true,"checked_at":"2026-11-22T00:00:00.000000Z","watermark":{"0":11,"1":7},'
        '"compared":{"events":1234,"producers":2,"accounts":3,"windows":4,"signals":3},'
        '"nanousd":{"recorded":5000,"stream":7000,"history":7000,"signals":6000,"totals":6000},'
        '"dead_letters":{"records":0,"refused_by_history":0,"with_seq":0},'
        '"differences":[],"more_differences":0,"not_compared":[],'
        '"seconds":2.5,"rows_read":1200,"rows_per_second":300000}'
    )
