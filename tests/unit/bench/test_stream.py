"""The stream benchmark's own arithmetic: the job's sums, what counts as wrong, and rates from commits."""

from collections import Counter
from datetime import UTC, datetime

from bench.stream.job import Spent, Sums, events
from bench.stream.measure import Mark, Run
from bench.stream.results import differences
from spendmeter.contract.records import decode_usage, encode_usage

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)


def test_the_same_seed_makes_the_same_events_and_real_ones() -> None:
    first, again = list(events(50, NOW)), list(events(50, NOW))
    assert first == again
    record = encode_usage(first[0])
    assert decode_usage(record.value, record.headers, NOW) == first[0]


def test_every_budgets_sums_add_up_to_what_was_spent() -> None:
    sums = Sums()
    made = list(events(500, NOW))
    for event in made:
        sums.add(event)
    spent = sum(event.cost_nanousd for event in made)
    assert (
        sums.by_key_and_hour.total()
        == sums.by_user_and_day.total()
        == sums.by_team_and_month.total()
        == spent
    )


def test_a_result_that_is_off_by_one_nano_is_wrong() -> None:
    expected = Counter({Spent("k", 0): 5, Spent("k", 1): 7})
    assert differences({Spent("k", 0): 5, Spent("k", 1): 7}, expected) is None
    assert "1 of 2 totals differ" in (differences({Spent("k", 0): 5, Spent("k", 1): 8}, expected) or "")


def test_a_total_too_many_or_too_few_is_wrong() -> None:
    expected = Counter({Spent("k", 0): 5})
    assert differences({}, expected) is not None
    assert differences({Spent("k", 0): 5, Spent("other", 0): 1}, expected) is not None


def test_the_rate_ends_with_the_last_commit_before_the_end_and_processor_time_with_the_end() -> None:
    marks = [Mark(0.0, 0, 1.0, 0.0), Mark(2.0, 800, 3.0, 1.0), Mark(3.0, 1000, 3.5, 1.5)]
    run = Run("one", 1000, 1.0, 1.0, marks)
    assert run.events_per_second == 400.0
    assert run.cpu_per_million == 2_500.0
    assert run.broker_cpu_per_million == 1_500.0
