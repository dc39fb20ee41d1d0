"""What LiteLLM counted before us: taken in once, from the finest sums, and never more than is missing."""

from datetime import date, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import BudgetBook, subject_of
from spendmeter.domain.window import window_of
from spendmeter.litellm.spend import HistorySpend, Spent, events_of, source_of, spent_of
from tests.builders import NOON, budget

TODAY = date(2026, 11, 22)
DAYS = [TODAY - timedelta(days=n) for n in range(4)]
SOURCE = source_of("https://litellm.example")
ROW = {"token": "h", "key_alias": "vip", "user_id": "ann", "team_id": "red", "organization_id": "acme"}
NOTHING = HistorySpend({}, {})


def answer(day: date, spend: float, key: str = "h", model: str = "house") -> dict[str, Any]:
    """A day of /user/daily/activity, as LiteLLM 1.106.2 answers; shortened."""
    metrics = {
        "spend": spend,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "total_tokens": 30,
        "successful_requests": 1,
        "api_requests": 1,
    }
    of_key = {"metrics": metrics, "metadata": {"key_alias": "vip", "team_id": "red", "user_id": "ann"}}
    groups = {model: {"metrics": metrics, "metadata": {}, "api_key_breakdown": {key: of_key}}}
    return {"date": day.isoformat(), "metrics": metrics, "breakdown": {"models": {}, "model_groups": groups}}


def spent(day: date, cost: int, key: str = "h", model: str = "house") -> Spent:
    return Spent(day, key, model, NanoUsd(cost), 1, 10, 20)


def added(known: HistorySpend, events: list[UsageEvent]) -> HistorySpend:
    """History once it has these events too."""
    sums, seqs = dict(known.spent), dict(known.last_seq)
    for event in events:
        place = (event.occurred_at.date(), event.key, event.model_group)
        sums[place] = NanoUsd(sums.get(place, 0) + event.cost_nanousd)
        seqs[event.producer_id] = max(seqs.get(event.producer_id, 0), event.seq)
    return HistorySpend(sums, seqs)


def test_a_day_of_a_key_and_model_is_read_from_litellms_answer() -> None:
    (found,) = spent_of([answer(DAYS[1], 0.0007000000000000001)])

    assert found == Spent(DAYS[1], "h", "house", NanoUsd(700_000), 1, 10, 20)
    assert list(spent_of([answer(DAYS[1], 0.0), {"date": "2026-11-21"}, answer(DAYS[1], float("nan"))])) == []


def test_an_event_counts_in_every_budget_of_its_key_once() -> None:
    (event,) = events_of([spent(DAYS[1], 700_000)], NOTHING, {"h": ROW}, SOURCE, TODAY)
    matches = [
        {},
        {"key": "*"},
        {"team": "red"},
        {"team": "red", "user": "*"},
        {"organization": "acme"},
        {"user": "ann", "model_group": "house"},
    ]
    book = BudgetBook(budget(id=f"b{n}", match=match) for n, match in enumerate(matches))

    assert len(book.accounts_of(subject_of(event))) == len(matches)
    assert (event.cost_nanousd, event.total_tokens, event.call_type) == (700_000, 30, "import")
    assert event.event_id.version == 7


def test_it_lies_at_the_beginning_of_its_day_so_that_it_is_in_no_window_that_began_later() -> None:
    (event,) = events_of([spent(DAYS[1], 5)], NOTHING, {}, SOURCE, TODAY)
    began_at_noon = budget(period="P1D", starts_at="2026-11-01T12:00:00Z")
    window = window_of(began_at_noon, NOON)

    assert event.occurred_at == NOON.replace(hour=0) - timedelta(days=1)
    assert window is not None
    assert not window.holds(event.occurred_at)


def test_today_is_left_out() -> None:
    events = events_of([spent(TODAY, 500), spent(DAYS[1], 300)], NOTHING, {}, SOURCE, TODAY)

    assert [(event.occurred_at.date(), event.cost_nanousd) for event in events] == [(DAYS[1], 300)]


def test_what_history_has_is_not_taken_again() -> None:
    known = HistorySpend({(DAYS[1], "h", "house"): NanoUsd(400), (DAYS[2], "h", "house"): NanoUsd(300)}, {})

    events = events_of([spent(DAYS[1], 700), spent(DAYS[2], 300)], known, {}, SOURCE, TODAY)

    assert [(event.occurred_at.date(), event.cost_nanousd) for event in events] == [(DAYS[1], 300)]
    assert events[0].total_tokens == 0, "of a part nobody knows"


def test_a_request_across_midnight_is_not_missing_on_the_day_before() -> None:
    known = HistorySpend({(DAYS[1], "h", "house"): NanoUsd(500), (DAYS[2], "h", "house"): NanoUsd(300)}, {})

    events = events_of([spent(DAYS[1], 300), spent(DAYS[2], 500)], known, {}, SOURCE, TODAY)

    assert events == []


def test_sums_of_floats_that_differ_in_their_last_digit_are_the_same() -> None:
    known = HistorySpend({(DAYS[1], "h", "house"): NanoUsd(699)}, {})

    assert events_of([spent(DAYS[1], 700)], known, {}, SOURCE, TODAY) == []


def test_a_repeat_before_history_has_it_is_the_same_events_again() -> None:
    asked = [spent(DAYS[2], 500), spent(DAYS[1], 300), spent(DAYS[1], 200, key="i")]

    first = events_of(asked, NOTHING, {}, SOURCE, TODAY)

    assert events_of(asked[::-1], NOTHING, {}, SOURCE, TODAY) == first
    assert [(event.key, event.seq) for event in first] == [("h", 1), ("h", 2), ("i", 1)]


AMOUNTS = st.dictionaries(
    st.tuples(st.sampled_from(DAYS), st.sampled_from("hi"), st.sampled_from(["m", "n"])),
    st.integers(0, 10_000),
    max_size=12,
)


@given(AMOUNTS, AMOUNTS)
def test_never_more_than_is_missing_and_nothing_the_second_time(
    theirs: dict[Any, int], ours: dict[Any, int]
) -> None:
    asked = [spent(day, cost, key, model) for (day, key, model), cost in theirs.items() if cost]
    known = HistorySpend({place: NanoUsd(cost) for place, cost in ours.items()}, {})

    events = events_of(asked, known, {}, SOURCE, TODAY)
    after = added(known, events)

    assert events_of(asked, after, {}, SOURCE, TODAY) == []
    for event in events:
        place = (event.occurred_at.date(), event.key, event.model_group)
        assert after.spent[place] <= theirs[place]
    for key in "hi":
        sequence = [event.seq for event in events if event.key == key]
        assert sequence == list(range(1, len(sequence) + 1))
