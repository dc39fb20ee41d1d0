"""How amounts, names, times and charts are shown, and which stretch of time a word means. Pure."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.domain.window import Window, window_of
from spendmeter.values.ids import short
from spendmeter.values.times import TimeSpan, from_unix_us
from spendmeter_console.api.parameters import InvalidParameter, PageQuery, cursor_text, named_span
from spendmeter_console.history.rows import CurvePoint, Point
from spendmeter_console.history.spans import Interval, InvalidSpan, checked, steps
from spendmeter_console.live.standing import standing_of, untouched
from spendmeter_console.pages.charts import HEIGHT, TOP, curve, stacked
from spendmeter_console.pages.render import environment, moment, money, name, percent, until
from spendmeter_console.pages.sheets import csv_lines
from tests.builders import NOON, budget

BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)


def test_a_time_at_the_end_of_all_clocks_is_shown_all_the_same() -> None:
    last = datetime.max.replace(tzinfo=UTC)

    assert "9999-12-31 23:59:59" in moment(last, BERLIN, NOON)


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (10_500, "$0.0000105"),
        (10_000_000, "$0.01"),
        (12_345_678, "$0.0123"),
        (2_000_000_000, "$2.00"),
        (9_999_999_999, "$10.0000"),
        (1_234_567_890_123, "$1,234.57"),
        (-3_201_080_664, "-$3.2011"),
    ],
)
def test_an_amount_has_as_many_decimals_as_say_something(nano: int, shown: str) -> None:
    assert money(nano) == shown


@given(st.text())
def test_whatever_a_name_is_it_is_text(text: str) -> None:
    shown = environment().from_string("{{ it|name }}{{ it|visible }}").render(it=text)

    assert "<" not in shown.replace("<bdi>", "").replace("</bdi>", "").replace(
        '<span class="none">', ""
    ).replace("</span>", "")
    assert shown.isprintable() or all(c.isprintable() or c.isspace() for c in shown)


def test_a_hash_is_short_and_a_name_is_whole() -> None:
    assert short("0123456789abcdef" * 4) == "01234567…"
    assert short("my key") == "my key"
    assert name("") == '<span class="none">(none)</span>'


@pytest.mark.parametrize(
    ("ahead", "shown"),
    [
        (timedelta(days=3), "in 3 d"),
        (timedelta(hours=5), "in 5 h"),
        (timedelta(minutes=2), "in 2 min"),
        (timedelta(seconds=3), "in less than a minute"),
        (timedelta(0), "now"),
    ],
)
def test_how_long_it_is_until_then(ahead: timedelta, shown: str) -> None:
    assert until(NOON + ahead, NOON) == shown


def test_a_cell_that_would_be_a_formula_is_text() -> None:
    assert csv_lines([["=1", "-1.5", "a,b", "-x"]]) == b"'=1,-1.5,\"a,b\",'-x\r\n"


def test_columns_stack_up_to_their_total_and_the_rest_is_others() -> None:
    at = [NOON, NOON + DAY]
    points = [
        Point(NOON, "a", "A", NanoUsd(60)),
        Point(NOON, "b", "b", NanoUsd(30)),
        Point(at[1], "a", "A", NanoUsd(5)),
    ]
    totals = [Point(NOON, "", "", NanoUsd(100)), Point(at[1], "", "", NanoUsd(5))]

    chart = stacked(points, totals, ["a", "b"], at)

    assert [(one.label, one.spent_nanousd, one.is_rest) for one in chart.series] == [
        ("A", 65, False),
        ("b", 30, False),
        ("others", 10, True),
    ]
    assert [part.spent_nanousd for part in chart.columns[0].parts] == [60, 30, 10]
    first = chart.columns[0].parts
    assert first[0].y == pytest.approx(first[1].y + first[1].height)
    assert min(part.y for part in first) == pytest.approx(TOP)
    assert chart.ticks[-1].amount_nanousd == 100


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=60))
def test_no_column_leaves_its_chart(amounts: list[int]) -> None:
    at = [NOON + DAY * n for n in range(len(amounts))]
    chart = stacked([Point(t, "", "", NanoUsd(a)) for t, a in zip(at, amounts, strict=True)], None, [""], at)

    for column in chart.columns:
        for part in column.parts:
            assert TOP - 0.001 <= part.y <= part.y + part.height <= HEIGHT
    assert [column.spent_nanousd for column in chart.columns] == amounts


def signal(**fields: object) -> Signal:
    given = {
        "budget_id": "per-key",
        "account": "per-key|key=k1",
        "subject": {"key": "k1"},
        "window_start": NOON.replace(hour=0),
        "window_end": NOON.replace(hour=0) + DAY,
        "limit_nanousd": 1_000_000,
        "spent_nanousd": 900_000,
        "state": "warning",
        "watermark": {},
        "revision": 1,
        "version": 1,
        "emitted_at": NOON,
    }
    return Signal.model_validate(given | fields)


def test_a_signal_of_a_window_that_has_ended_says_nothing_of_the_present_one() -> None:
    of = budget()
    before, after = (window_of(of, NOON + DAY * n) for n in (0, 1))
    assert before is not None
    assert after is not None

    assert standing_of(signal(), of, before, NOON).spent_nanousd == 900_000
    later = standing_of(signal(), of, after, NOON + DAY)
    assert (later.spent_nanousd, later.state, later.window, later.signalled_at) == (0, State.OK, after, None)


def test_a_raise_counts_before_any_signal_says_so() -> None:
    raised = budget(raises=[{"amount_nanousd": 1_000_000, "until": NOON + timedelta(hours=1)}])
    window = window_of(raised, NOON)
    assert window is not None

    standing = standing_of(signal(spent_nanousd=1_200_000, state="exceeded"), raised, window, NOON)
    assert (standing.limit_nanousd, standing.state, standing.remaining_nanousd) == (
        2_000_000,
        State.OK,
        800_000,
    )
    then = standing_of(signal(spent_nanousd=1_200_000), raised, window, NOON + timedelta(hours=1))
    assert (then.limit_nanousd, then.state) == (1_000_000, State.EXCEEDED)


def test_a_budget_of_one_account_has_it_before_anything_is_spent() -> None:
    window = Window(NOON, None)

    one = untouched(budget(match={"team": "red"}), window, NOON)
    assert one is not None
    assert (one.account, one.spent_nanousd, one.signalled_at) == ("per-key|team=red", 0, None)
    assert untouched(budget(match={"team": "*"}), window, NOON) is None
    assert untouched(budget(match={"model": "gpt-*"}), window, NOON) is not None


def test_a_curve_reaches_its_limit_where_the_forecast_says() -> None:
    of = budget()
    window = window_of(of, NOON)
    assert window is not None
    assert window.end is not None
    out = NOON + timedelta(hours=6)
    standing = standing_of(signal(forecast_exhausted_at=out), of, window, NOON)
    points = [CurvePoint(NOON - timedelta(hours=1), NanoUsd(900_000), NanoUsd(1_000_000))]

    chart = curve(points, standing, (0.5,), TimeSpan(window.start, window.end), NOON)

    assert chart is not None
    assert chart.forecast.endswith(f" {chart.limit_y}")
    assert curve([], standing, (), TimeSpan(window.start, window.end), NOON) is None


def test_days_are_the_readers_also_when_the_clock_changes() -> None:
    end_of_summer = datetime(2026, 10, 25, 12, tzinfo=UTC)
    today = named_span("today", end_of_summer, BERLIN)

    assert today.end - today.start == timedelta(hours=25)
    assert len(steps(today, Interval.HOUR, BERLIN)) == 25
    week = named_span("7d", end_of_summer, BERLIN)
    assert [at.astimezone(BERLIN).hour for at in steps(week, Interval.DAY, BERLIN)] == [0] * 7
    months = steps(
        TimeSpan(datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)), Interval.MONTH, BERLIN
    )
    assert [at.astimezone(BERLIN).month for at in months] == [1, 2, 3, 4]


def test_a_span_is_bounded() -> None:
    assert checked(TimeSpan(NOON - DAY * 400, NOON))
    for wrong in (TimeSpan(NOON, NOON), TimeSpan(NOON, NOON - DAY), TimeSpan(NOON - DAY * 401, NOON)):
        with pytest.raises(InvalidSpan):
            checked(wrong)
    with pytest.raises(InvalidSpan, match="1,000 pieces"):
        steps(TimeSpan(NOON - DAY * 60, NOON), Interval.HOUR, BERLIN)


def query(**fields: str) -> PageQuery:
    return PageQuery([*fields.items()], NOON)


def test_a_day_that_is_named_as_the_end_is_in_the_span() -> None:
    span = query(**{"from": "2026-11-01", "to": "2026-11-02"}).span(BERLIN)

    assert span == TimeSpan(datetime(2026, 10, 31, 23, tzinfo=UTC), datetime(2026, 11, 2, 23, tzinfo=UTC))


@given(st.integers(0, 2**52), st.uuids())
def test_a_cursor_is_read_as_it_was_written(microseconds: int, identity: UUID) -> None:
    time = from_unix_us(microseconds)

    assert query(after=cursor_text(time, identity)).after() == (time, identity)


@given(st.text(max_size=60))
def test_no_text_breaks_a_cursor(text: str) -> None:
    for read in (query(after=text).after, query(after=text).after_name):
        with suppress(InvalidParameter):
            read()


def test_nothing_is_shown_as_spent_whole_before_it_is() -> None:
    shown = [percent(share) for share in (0.0, 0.29, 0.57, 0.9954, 0.99999, 1.0, 2.339, 100.0)]

    assert shown == ["0 %", "29 %", "57 %", "99 %", "99 %", "100 %", "233 %", "> 9,999 %"]
