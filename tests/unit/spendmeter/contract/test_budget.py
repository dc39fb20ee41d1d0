"""The budget: each mistake is refused with the fix in the message."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from zoneinfo import available_timezones

import pytest
from pydantic import ValidationError

from spendmeter.contract.budget import MAX_RAISES, Action
from spendmeter.contract.money import LIMIT_OF_AMOUNTS_NANOUSD
from spendmeter.contract.records import render_validation_error
from spendmeter.domain.matching import Subject
from spendmeter.values.dimensions import DIMENSIONS, Dimension
from spendmeter.values.period import iso_duration_seconds
from tests.builders import NOON, budget

MICROSECOND = timedelta(microseconds=1)


def refusal(**fields: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        budget(**fields)
    return render_validation_error(refused.value)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"id": "-a"},
            "id: id '-a': use 1 to 200 letters, digits and . _ : @ / - and start with a letter or digit",
        ),
        (
            {"id": "a|b"},
            "id: id 'a|b': use 1 to 200 letters, digits and . _ : @ / - and start with a letter or digit",
        ),
        (
            {"id": ""},
            "id: id '': use 1 to 200 letters, digits and . _ : @ / - and start with a letter or digit",
        ),
        (
            {"match": {"team": ""}},
            'match: match.team is empty; give a value, or "*" for one account per value',
        ),
        (
            {"match": {"model": "**"}},
            "match: match.model '**' fits everything; write \"*\" for one account per value,"
            " or leave model out for one account of all",
        ),
        ({"limit_nanousd": 0}, "limit_nanousd: Input should be greater than 0"),
        ({"limit_nanousd": -1}, "limit_nanousd: Input should be greater than 0"),
        (
            {"limit_nanousd": LIMIT_OF_AMOUNTS_NANOUSD + 1},
            "limit_nanousd: Input should be less than or equal to 999999999999999999",
        ),
        ({"limit_nanousd": 1.0}, "limit_nanousd: Input should be a valid integer"),
        (
            {"period": "fortnight"},
            "period: period 'fortnight' is neither one of hour, day, week, month, year, lifetime"
            " (week:sunday and month:15 say where they begin)"
            " nor an ISO 8601 duration of weeks, days, hours, minutes or seconds such as P14D or PT6H",
        ),
        (
            {"period": "week:sun"},
            "period: period 'week:sun': a week begins on monday, tuesday, wednesday, thursday, friday,"
            " saturday, sunday; write week:sunday",
        ),
        (
            {"period": "month:32"},
            "period: period 'month:32': a month begins on one of its days 1 to 31; write month:15",
        ),
        ({"period": "PT0S"}, "period: period 'PT0S' has no length; give at least PT1S"),
        ({"period": "PT6H"}, "value: period PT6H needs starts_at, the moment its first window begins"),
        (
            {"timezone": "Berlin"},
            "timezone: timezone 'Berlin' is not an IANA time zone such as Europe/Berlin",
        ),
        (
            {"timezone": "localtime"},
            "timezone: timezone 'localtime' is not an IANA time zone such as Europe/Berlin",
        ),
        (
            {"warn_at": [0.5, 1.0]},
            "warn_at: warn_at: each fraction lies between 0 and 1, such as 0.8 for 80 %",
        ),
        ({"warn_at": [0.0]}, "warn_at: warn_at: each fraction lies between 0 and 1, such as 0.8 for 80 %"),
        (
            {"warn_at": [float("nan")]},
            "warn_at: warn_at: each fraction lies between 0 and 1, such as 0.8 for 80 %",
        ),
        ({"action": "stop"}, "action: Input should be 'block', 'warn' or 'observe'"),
        ({"enforcement": "lax"}, "enforcement: Input should be 'settled' or 'strict'"),
        (
            {"unpriced": "free"},
            "unpriced: unpriced 'free': use allow, block, or USD per request such as '0.01'",
        ),
        (
            {"unpriced": "-0.01"},
            "unpriced: unpriced '-0.01' is negative; use allow, block, or USD per request such as '0.01'",
        ),
        (
            {"starts_at": "2026-11-22T10:00:00"},
            "starts_at: '2026-11-22T10:00:00' has no UTC offset; write it as 2026-11-22T10:00:00Z",
        ),
        (
            {"replaces": "per-key"},
            "value: replaces names the budget itself; name the budget that per-key overrides",
        ),
        ({"revision": 0}, "revision: Input should be greater than or equal to 1"),
    ],
)
def test_a_mistake_is_told_with_its_fix(fields: dict[str, Any], told: str) -> None:
    assert refusal(**fields) == told


def test_an_unknown_dimension_is_told_with_those_there_are() -> None:
    told = refusal(match={"keys": "*"})

    assert told.startswith("match.keys")
    assert all(f"'{dimension}'" in told for dimension in DIMENSIONS)


def test_every_mistake_is_told_at_once() -> None:
    told = refusal(id="", period="fortnight", timezone="Berlin")

    assert [part.partition(":")[0] for part in told.split("; ") if ": " in part] == [
        "id",
        "period",
        "timezone",
    ]


@pytest.mark.parametrize("id_", ["a", "9", "a" * 200, "team:search/eu-1_x@y.z"])
def test_a_plain_id_is_taken(id_: str) -> None:
    assert budget(id=id_).id == id_
    assert "use 1 to 200 letters" in refusal(id="a" * 201)


def test_the_least_and_the_largest_limit_are_taken() -> None:
    assert budget(limit_nanousd=1).limit_nanousd == 1
    assert budget(limit_nanousd=LIMIT_OF_AMOUNTS_NANOUSD).limit_nanousd == LIMIT_OF_AMOUNTS_NANOUSD


def test_warnings_rise_and_come_once() -> None:
    assert budget(warn_at=[0.9, 0.5, 0.9]).warn_at == (0.5, 0.9)
    assert budget(warn_at=[]).warn_at == ()


def test_every_zone_of_this_machine_is_taken() -> None:
    for zone in available_timezones() - {"localtime"}:
        assert budget(timezone=zone).zone.key == zone


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT1S", 1),
        ("PT6H", 21_600),
        ("PT90M", 5_400),
        ("P14D", 1_209_600),
        ("P1W", 604_800),
        ("P1W1DT1H1M1S", 604_800 + 86_400 + 3_661),
    ],
)
def test_a_duration_has_a_fixed_length(text: str, seconds: int) -> None:
    assert iso_duration_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "P1M", "P1Y", "P-1D", "P1.5D", "p1d", "P1D ", "P1S", "PT1D", "P١D"]
)
def test_what_has_no_fixed_length_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="neither one of hour, day"):
        iso_duration_seconds(text)


def test_a_raise_counts_until_its_last_microsecond_and_no_longer() -> None:
    until = NOON + timedelta(hours=1)
    raised = budget(limit_nanousd=100, raises=[{"amount_nanousd": 30, "until": until}])

    assert raised.limit_at(NOON) == 130
    assert raised.limit_at(until - MICROSECOND) == 130
    assert raised.limit_at(until) == 100


def test_raises_add_up() -> None:
    raises = [{"amount_nanousd": 30, "until": NOON + timedelta(hours=hours)} for hours in (1, 2)]

    assert budget(limit_nanousd=100, raises=raises).limit_at(NOON) == 160


def test_raises_are_bounded_in_size_and_number() -> None:
    one = {"amount_nanousd": 1, "until": NOON}

    assert len(budget(raises=[one] * MAX_RAISES).raises) == MAX_RAISES
    assert refusal(raises=[one] * (MAX_RAISES + 1)).startswith("raises: ")
    assert refusal(raises=[{**one, "amount_nanousd": 0}]).startswith("raises.0.amount_nanousd: ")


@pytest.mark.parametrize(("unpriced", "nano"), [("allow", 0), ("block", 0), ("0", 0), ("0.01", 10_000_000)])
def test_an_unpriced_request_counts_for_the_flat_amount(unpriced: str, nano: int) -> None:
    assert budget(unpriced=unpriced).unpriced_flat_nanousd() == nano


def test_the_dimensions_are_one_list() -> None:
    """Three places name them: the tuple, the type, and the fields of a subject (where tags are several)."""
    assert get_args(Dimension) == DIMENSIONS
    assert tuple(field if field != "tags" else "tag" for field in Subject._fields) == DIMENSIONS


def test_a_time_of_a_budget_is_utc_whatever_zone_it_was_written_in() -> None:
    assert budget(reset_at="2026-11-22T13:00:00+01:00").reset_at == datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["week:", "week:Sunday", "month:", "month:0", "month:05", "month:+5", "month:٥"]
)
def test_a_first_day_that_there_is_not_is_refused(text: str) -> None:
    assert "begins on" in refusal(period=text)


@pytest.mark.parametrize("text", ["day:5", "hour:1", "year:2", "lifetime:1", "P1W:sunday"])
def test_other_periods_have_no_first_day(text: str) -> None:
    assert "is neither one of hour, day" in refusal(period=text)


@pytest.mark.parametrize(
    ("written", "kept"),
    [("week:monday", "week"), ("month:1", "month"), ("week:sunday", "week:sunday"), ("month:31", "month:31")],
)
def test_a_first_day_that_goes_without_saying_is_left_out(written: str, kept: str) -> None:
    """Else to say it would begin the count anew."""
    assert budget(period=written).period == kept


@pytest.mark.parametrize(
    ("action", "paused", "refuses"),
    [("block", False, True), ("block", True, False), ("warn", False, False), ("observe", False, False)],
)
def test_only_a_budget_that_blocks_and_is_not_paused_refuses(
    action: str, paused: bool, refuses: bool
) -> None:
    assert budget(action=Action(action), paused=paused).refuses is refuses


def test_a_limit_and_its_raises_together_can_be_held() -> None:
    most = LIMIT_OF_AMOUNTS_NANOUSD
    raises = [{"amount_nanousd": 5, "until": NOON}, {"amount_nanousd": 5, "until": NOON}]

    assert budget(limit_nanousd=most - 10, raises=raises).limit_at(NOON - MICROSECOND) == most
    assert "raises: with the limit they are beyond" in refusal(limit_nanousd=most - 9, raises=raises)
