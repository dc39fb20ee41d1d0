"""The meter, promise by promise. `log` numbers the records as the broker would: offsets from 0."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import pytest

from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.matching import BudgetBook
from spendmeter.domain.window import KEEP_CLOSED_WINDOWS
from spendmeter_stream.meter import window_cache as places
from spendmeter_stream.meter.meter import KEEP_PRODUCERS, FoldResult, Meter, TopicRecreated, UsageRecord
from spendmeter_stream.state import TALLY, AccountWindow, ChangelogEntry, CounterKey
from tests.builders import NOON, budget, usage

K1 = "per-key|key=k1"
MIDNIGHT = NOON.replace(hour=0)
TODAY = AccountWindow(K1, MIDNIGHT)


def log(*events: UsageEvent | None, start: int = 0, at: datetime = NOON) -> list[UsageRecord]:
    return [UsageRecord(start + n, at, event) for n, event in enumerate(events)]


def book(**fields: object) -> BudgetBook:
    return BudgetBook([budget(**fields)])


def stored(*folds: FoldResult) -> list[tuple[bytes, bytes]]:
    """What the changelog amounts to after these folds."""
    return after(e for folded in folds for e in [*folded.openings, *folded.entries])


def after(entries: Iterable[ChangelogEntry]) -> list[tuple[bytes, bytes]]:
    kept: dict[bytes, bytes] = {}
    for key, value in entries:
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
    return list(kept.items())


def spent(meter: Meter) -> dict[AccountWindow, tuple[int, int]]:
    return {AccountWindow(*w[:2]): (t.spent_nanousd, t.events) for w, t in meter.tallies.items()}


def tallies_in(entries: Sequence[ChangelogEntry]) -> list[AccountWindow]:
    keys = [CounterKey.read(e.key[len(TALLY) :]) for e in entries if e.key.startswith(TALLY)]
    return [AccountWindow(*key[:2]) for key in keys]


# Counting.


def test_events_add_up_per_account_and_window() -> None:
    meter = Meter(0)
    folded = meter.fold(log(usage(1, 5), usage(2, 7), usage(3, 11, key="k2")), book())
    assert spent(meter) == {TODAY: (12, 2), AccountWindow("per-key|key=k2", MIDNIGHT): (11, 1)}
    assert [(t.account, t.spent_nanousd, t.first_offset, t.last_offset) for t in folded.totals] == [
        (K1, 12, 0, 1),
        ("per-key|key=k2", 11, 0, 2),
    ]


def test_places_that_are_not_remembered_change_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = book()
    batches = [
        log(
            usage(2 * n + 1, 5),
            usage(2 * n + 2, 7, key="k2", occurred_at=NOON - timedelta(days=n)),
            start=2 * n,
        )
        for n in range(3)
    ]
    remembering, forgetting = Meter(0), Meter(0)
    said = [remembering.fold(batch, rules) for batch in batches]
    monkeypatch.setattr(places, "MAX_REMEMBERED", 0)
    assert [forgetting.fold(batch, rules) for batch in batches] == said
    assert forgetting.tallies == remembering.tallies


def test_what_another_book_opened_meanwhile_is_counted_anew() -> None:
    meter, rules = Meter(0), book()
    meter.fold(log(usage(1, 5)), rules)
    meter.open(BudgetBook(), 1)
    total = meter.fold(log(usage(2, 7), start=1), rules).totals[0]
    assert (total.spent_nanousd, total.first_offset) == (7, 1)


def test_an_event_of_no_budget_only_moves_the_position() -> None:
    meter = Meter(0)
    folded = meter.fold(log(usage(1, 5)), BudgetBook())
    assert (meter.position, meter.tallies, folded.totals) == (0, {}, [])


def test_a_late_event_goes_into_the_window_it_occurred_in() -> None:
    meter = Meter(0)
    yesterday = NOON - timedelta(days=1)
    meter.fold(log(usage(1, 5), usage(2, 7, occurred_at=yesterday)), book())
    assert spent(meter) == {TODAY: (5, 1), AccountWindow(K1, MIDNIGHT - timedelta(days=1)): (7, 1)}


def test_the_end_of_a_window_belongs_to_the_next() -> None:
    meter = Meter(0)
    end = MIDNIGHT + timedelta(days=1)
    last = end - timedelta(microseconds=1)
    meter.fold(log(usage(1, 5, occurred_at=last), usage(2, 7, occurred_at=end)), book())
    assert spent(meter) == {TODAY: (5, 1), AccountWindow(K1, end): (7, 1)}


def test_a_dead_letter_moves_the_position_and_nothing_else() -> None:
    meter = Meter(0)
    folded = meter.fold(log(None, usage(1, 5), None), book())
    assert (meter.position, folded.totals[0].last_offset, folded.counted) == (2, 1, 1)


def test_a_correction_takes_off_what_it_corrects() -> None:
    meter = Meter(0)
    first = usage(1, 5)
    meter.fold(log(first, usage(2, -5, kind="correction", corrects=first.event_id)), book())
    assert spent(meter) == {TODAY: (0, 2)}


def test_only_a_served_request_without_a_price_is_told_as_unpriced() -> None:
    events = [
        usage(1, 0, cost_source=CostSource.UNPRICED),
        usage(2, 0, cost_source=CostSource.UNPRICED, status="failure"),
        usage(3, 0),
    ]
    assert Meter(0).fold(log(*events), book()).unpriced == [events[0]]


def test_a_doubted_cost_is_told_once_whatever_is_resent() -> None:
    doubted = usage(1, 5, cost_source=CostSource.TOKENS, cost_doubt="zero")
    events = [doubted, usage(2, 5, cost_source=CostSource.TOKENS), doubted]
    assert Meter(0).fold(log(*events), book()).doubted == [doubted]


# Resends and replays.


def test_a_resent_event_adds_nothing_but_moves_last_offset() -> None:
    meter = Meter(0)
    folded = meter.fold(log(usage(1, 5), usage(2, 7), usage(1, 5)), book())
    assert spent(meter) == {TODAY: (12, 2)}
    assert folded.totals[0].last_offset == 2
    assert (folded.counted, folded.resent) == (2, 1)


def test_the_first_resend_after_another_producers_event_is_still_one() -> None:
    meter = Meter(0)
    meter.fold(log(usage(3, 5), usage(1, 7, producer_id="p2"), usage(3, 5)), book())
    assert spent(meter) == {TODAY: (12, 2)}


def test_a_replayed_batch_adds_nothing() -> None:
    meter, batch = Meter(0), log(usage(1, 5), usage(2, 7), usage(1, 5))
    first = meter.fold(batch, book())
    again = meter.fold(batch, book())
    assert spent(meter) == {TODAY: (12, 2)}
    assert again.totals == first.totals
    assert (again.counted, again.resent, again.replayed) == (0, 0, 3)


def test_a_replay_says_again_what_a_crash_kept_from_being_said() -> None:
    """The tally was stored, the total beside it was not, and no other event of the account ever comes."""
    before, batch = Meter(0), log(usage(1, 5))
    folded = before.fold(batch, book())
    again = Meter.restore(0, stored(folded)).fold(batch, book())
    assert again.totals == folded.totals
    assert tallies_in(again.entries) == [TODAY]


def test_the_position_never_goes_back() -> None:
    meter = Meter(0)
    meter.fold(log(usage(1, 5), usage(2, 7)), book())
    meter.fold(log(usage(1, 5)), book())
    assert meter.position == 1


def test_tallies_are_written_before_producers_and_the_position_last() -> None:
    folded = Meter(0).fold(log(usage(1, 5), usage(1, 7, key="k2", producer_id="p2")), book())
    assert [e.key.partition(b"|")[0] for e in folded.entries] == [b"t", b"t", b"p", b"p", b"position"]


def test_a_meter_restored_from_its_entries_is_the_same_meter() -> None:
    meter = Meter(0)
    folded = meter.fold(log(usage(1, 5), usage(2, 7, occurred_at=NOON - timedelta(days=3)), None), book())
    again = Meter.restore(0, stored(folded))
    assert (again.tallies, again.producers, again.position) == (meter.tallies, meter.producers, 2)
    more = log(usage(2, 7), usage(3, 9), start=3)
    assert again.fold(more, book()) == meter.fold(more, book())


# Openings.


def test_a_budget_counts_from_the_first_event_it_meets() -> None:
    meter = Meter(0)
    meter.fold(log(usage(1, 5)), BudgetBook())
    folded = meter.fold(log(usage(2, 7), start=1), book())
    assert (folded.totals[0].spent_nanousd, folded.totals[0].first_offset) == (7, 1)
    assert len(folded.openings) == 1


def test_a_budget_first_met_in_a_replay_opens_behind_it() -> None:
    meter, batch = Meter(0), log(usage(1, 5), usage(1, 5))
    meter.fold(batch, BudgetBook())
    assert meter.fold(batch, book()).totals == []
    total = meter.fold(log(usage(2, 7), start=2), book()).totals[0]
    assert (total.spent_nanousd, total.first_offset) == (7, 2)


def test_a_raise_changes_no_count() -> None:
    meter = Meter(0)
    meter.fold(log(usage(1, 5)), book())
    folded = meter.fold(log(usage(2, 7), start=1), book(limit_nanousd=10, revision=2))
    assert folded.totals[0].spent_nanousd == 12
    assert folded.openings == []


def test_the_order_of_a_match_changes_no_count() -> None:
    meter = Meter(0)
    meter.fold(log(usage(1, 5, team="t")), book(match={"key": "*", "team": "t"}))
    folded = meter.fold(log(usage(2, 7, team="t"), start=1), book(match={"team": "t", "key": "*"}))
    assert folded.totals[0].spent_nanousd == 12


def test_a_reset_opens_a_new_window_and_a_new_opening() -> None:
    meter = Meter(0)
    meter.fold(log(usage(1, 5)), book())
    reset = NOON + timedelta(minutes=1)
    later = usage(2, 7, occurred_at=reset)
    total = meter.fold(log(later, start=1), book(reset_at=reset, revision=2)).totals[0]
    assert (total.window_start, total.spent_nanousd, total.first_offset) == (reset, 7, 1)


def test_a_changed_shape_counts_anew_from_where_it_was_met() -> None:
    meter = Meter(0)
    meter.fold(log(usage(1, 5)), book())
    total = meter.fold(log(usage(2, 7), start=1), book(match={"key": "k1"}, revision=2)).totals[0]
    assert (total.account, total.spent_nanousd, total.first_offset, total.events) == (K1, 7, 1, 1)


def test_what_came_while_a_budget_was_away_is_not_claimed() -> None:
    """Removed and applied again, as it was, before anything expired."""
    meter = Meter(0)
    meter.fold(log(usage(1, 5)), book())
    meter.fold(log(usage(2, 7), start=1), BudgetBook())
    total = meter.fold(log(usage(3, 9), start=2), book()).totals[0]
    assert (total.spent_nanousd, total.first_offset) == (9, 2)


def test_what_came_while_a_budget_was_narrower_is_not_claimed() -> None:
    meter = Meter(0)
    k2 = "k2"
    meter.fold(log(usage(1, 5, key=k2)), book())
    meter.fold(log(usage(2, 7, key=k2), start=1), book(match={"key": "k1"}, revision=2))
    total = meter.fold(log(usage(3, 9, key=k2), start=2), book(revision=3)).totals[0]
    assert (total.spent_nanousd, total.first_offset) == (9, 2)


def test_what_came_while_a_budget_was_replaced_is_not_claimed() -> None:
    meter = Meter(0)
    everything = budget(id="all", match={})
    instead = budget(id="vip", match={"key": "k1"}, replaces="all")
    meter.fold(log(usage(1, 5)), BudgetBook([everything]))
    meter.fold(log(usage(2, 7), start=1), BudgetBook([everything, instead]))
    total = meter.fold(log(usage(3, 9), start=2), BudgetBook([everything])).totals[0]
    assert (total.account, total.spent_nanousd, total.first_offset) == ("all|", 9, 2)


def test_a_closed_opening_is_closed_after_a_crash_too() -> None:
    meter = Meter(0)
    folds = [meter.fold(log(usage(1, 5)), book()), meter.fold(log(usage(2, 7), start=1), BudgetBook())]
    total = Meter.restore(0, stored(*folds)).fold(log(usage(3, 9), start=2), book()).totals[0]
    assert (total.spent_nanousd, total.first_offset) == (9, 2)


def test_a_resend_behind_a_zombies_opening_is_not_counted_again() -> None:
    """Another worker opened the budget at 1, for a resend, and died; this one had passed it already."""
    ours = Meter(0)
    batch = log(usage(1, 5), usage(1, 5), usage(2, 7))
    kept = stored(ours.fold(batch, BudgetBook()))
    zombie = Meter(0)
    zombie.fold(batch[:1], BudgetBook())
    opening = zombie.fold(batch[1:], book()).openings
    successor = Meter.restore(0, [*kept, *after(opening)])
    folded = successor.fold(batch, book())
    assert folded.totals == []
    # Whether it lives on or crashes here: what comes next begins behind the replay, not at the opening.
    heir = Meter.restore(0, [*kept, *after(opening), *stored(folded)])
    for meter in (successor, heir):
        total = meter.fold(log(usage(3, 9), start=3), book()).totals[0]
        assert (total.spent_nanousd, total.first_offset) == (9, 3)


def test_a_late_write_of_a_worker_that_knew_the_budget_as_it_was_replaces_nothing() -> None:
    """Both count the window that a reset cut short; the frozen worker wakes up last."""
    batch, reset = log(usage(1, 5)), book(reset_at=NOON + timedelta(hours=1), revision=2)
    frozen = Meter(0).fold(batch, book())
    ours = Meter(0).fold(batch, reset)
    successor = Meter.restore(0, stored(ours, frozen))
    total = successor.fold(log(usage(2, 7), start=1), reset).totals[0]
    assert (total.spent_nanousd, total.first_offset) == (12, 0)


def test_a_shape_that_is_gone_leaves_nothing_behind() -> None:
    meter = Meter(0)
    meter.fold(log(usage(1, 5)), book(period="lifetime"))
    reset = book(period="lifetime", reset_at=NOON, revision=2)
    meter.fold(log(usage(2, 7), start=1), reset)
    tombstones, totals = meter.expire(reset)
    assert (len(tallies_in(tombstones)), len(totals), len(meter.tallies)) == (1, 1, 1)


# Expiry.


def test_a_closed_window_is_forgotten_after_its_time_and_not_before() -> None:
    meter, rules = Meter(0), book()
    meter.fold(log(usage(1, 5)), rules)
    end = MIDNIGHT + timedelta(days=1) + KEEP_CLOSED_WINDOWS
    meter.fold(log(None, start=1, at=end), rules)
    assert meter.expire(rules) == ([], [])
    meter.fold(log(None, start=2, at=end + timedelta(microseconds=1)), rules)
    tombstones, totals = meter.expire(rules)
    assert tallies_in(tombstones) == [TODAY]
    assert all(entry.value is None for entry in tombstones)
    assert totals == [f"{K1}|2026-11-22T00:00:00.000000Z|0"]
    assert meter.tallies == {}


def test_what_comes_after_a_window_was_forgotten_is_counted_from_there_on() -> None:
    meter, rules = Meter(0), book()
    meter.fold(log(usage(1, 5)), rules)
    late = NOON + timedelta(days=9)
    meter.fold(log(None, start=1, at=late), rules)
    meter.expire(rules)
    total = meter.fold(log(usage(2, 7), start=2, at=late), rules).totals[0]
    assert (total.spent_nanousd, total.first_offset, total.last_offset) == (7, 2, 2)


def test_a_replay_of_a_forgotten_window_does_not_claim_what_was_forgotten() -> None:
    meter, rules = Meter(0), book()
    almost = MIDNIGHT + timedelta(days=1) + KEEP_CLOSED_WINDOWS
    before = meter.fold(log(usage(1, 5)), rules)
    batch = [*log(usage(2, 7), start=1, at=almost), *log(None, start=2, at=almost + timedelta(seconds=1))]
    folded = meter.fold(batch, rules)
    entries = [*before.openings, *before.entries, *folded.entries, *meter.expire(rules)[0]]
    again = Meter.restore(0, after(entries)).fold(batch, rules)
    assert all(total.first_offset > 0 for total in again.totals)


def test_a_removed_budget_leaves_nothing_behind() -> None:
    meter = Meter(0)
    folded = meter.fold(log(usage(1, 5)), book())
    tombstones, totals = meter.expire(BudgetBook())
    assert totals == [f"{K1}|2026-11-22T00:00:00.000000Z|0"]
    left = after([*folded.openings, *folded.entries, *tombstones])
    assert [key.partition(b"|")[0] for key, _ in left] == [b"p", b"position"]


def test_no_tally_is_gone_before_the_opening_that_vouches_for_it() -> None:
    meter = Meter(0)
    folded = meter.fold(log(usage(1, 5)), book())
    tombstones, _ = meter.expire(BudgetBook())
    for crash in range(len(tombstones) + 1):
        left = after([*folded.openings, *folded.entries, *tombstones[:crash]])
        total = Meter.restore(0, left).fold(log(usage(2, 7), start=1), book()).totals[0]
        assert (total.spent_nanousd, total.first_offset) in [(12, 0), (7, 1)]


def test_an_idle_producer_is_forgotten_after_its_time_and_not_before() -> None:
    meter, rules = Meter(0), book()
    meter.fold(log(usage(1, 5)), rules)
    meter.fold(log(None, start=1, at=NOON + KEEP_PRODUCERS), rules)
    meter.expire(rules)
    assert list(meter.producers) == ["p1"]
    meter.fold(log(None, start=2, at=NOON + KEEP_PRODUCERS + timedelta(microseconds=1)), rules)
    meter.expire(rules)
    assert meter.producers == {}


def test_a_lifetime_never_ends() -> None:
    meter = Meter(0)
    meter.fold(log(usage(1, 5)), book(period="lifetime"))
    assert [t.window_end for t in meter.tallies.values()] == [None]


# A topic created anew.


def test_newer_records_at_offsets_that_were_folded_before_stop_the_meter() -> None:
    meter = Meter(0)
    folded = meter.fold(log(usage(1, 5), usage(2, 7)), book())
    successor = Meter.restore(0, stored(folded))
    later = NOON + timedelta(milliseconds=1)
    for one in (meter, successor):
        with pytest.raises(TopicRecreated, match=r"created anew.*count as a replay"):
            one.fold(log(usage(1, 9, producer_id="p2"), at=later), book())
        assert spent(one) == {TODAY: (12, 2)}


def test_a_replay_and_what_follows_it_are_no_topic_made_anew() -> None:
    meter = Meter(0)
    meter.fold(log(usage(1, 5), usage(2, 7)), book())
    meter.fold(log(usage(1, 5), usage(2, 7)) + log(usage(3, 1), start=2, at=NOON + timedelta(1)), book())
    assert spent(meter) == {TODAY: (13, 3)}


def test_a_replay_of_what_came_after_the_position_that_was_stored_is_no_topic_made_anew() -> None:
    meter = Meter(0)
    first = meter.fold(log(usage(1, 5)), book())
    second = meter.fold(log(usage(2, 7), start=1, at=NOON + timedelta(1)), book())
    # A crash before the position of the second batch was written.
    successor = Meter.restore(0, after([*first.openings, *first.entries, *second.entries[:-1]]))
    successor.fold(log(usage(2, 7), start=1, at=NOON + timedelta(1)), book())
    assert spent(successor) == {TODAY: (12, 2)}
