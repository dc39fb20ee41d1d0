"""What orders signals, what names totals, and what makes a repeated alert recognisable."""

from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from spendmeter.contract.alert import AlertKind, alert_id
from spendmeter.contract.signal import Signal
from spendmeter.contract.total import HISTORY, Total
from tests.builders import NOON, signal


def total(**fields: Any) -> Total:
    defaults = {
        "account": "b|key=k1",
        "window_start": NOON,
        "source_partition": 3,
        "spent_nanousd": 5,
        "events": 1,
        "first_offset": 0,
        "last_offset": 9,
    }
    return Total.model_validate({**defaults, **fields})


def test_a_later_revision_then_a_later_window_then_a_later_version_is_the_latest() -> None:
    later = NOON + timedelta(microseconds=1)
    rising = [
        signal(revision=1, version=1),
        signal(revision=1, version=2),
        signal(window_start=later, revision=1, version=1),
        signal(window_start=later, revision=1, version=2),
        signal(revision=2, version=1),
    ]

    for earlier, later_one in pairwise(rising):
        assert earlier.order() < later_one.order()
    assert len({one.order() for one in rising}) == len(rising)


def test_a_month_that_replaces_a_day_is_the_latest_though_it_began_before() -> None:
    day = signal(window_start=NOON, revision=1, version=7)
    month = signal(window_start=NOON - timedelta(days=21), revision=2, version=7)

    assert max(day, month, key=Signal.order) is month


def test_a_watermark_is_offsets_by_partition() -> None:
    assert Signal.model_validate_json(signal(watermark={0: 1, 12: 2**53}).model_dump_json()).watermark == {
        0: 1,
        12: 2**53,
    }


def test_the_key_of_a_total_names_every_component_apart() -> None:
    assert total().key() == "b|key=k1|2026-11-22T12:00:00.000000Z|3"
    assert total(source_partition=HISTORY).key() == "b|key=k1|2026-11-22T12:00:00.000000Z|history"


@pytest.mark.parametrize("wrong", ["3", "future", -1.0, None])
def test_a_component_comes_from_a_partition_or_from_history(wrong: object) -> None:
    with pytest.raises(ValidationError, match="source_partition"):
        total(source_partition=wrong)


@pytest.mark.parametrize("field", ["events", "first_offset", "last_offset"])
def test_a_total_counts_from_zero(field: str) -> None:
    assert getattr(total(**{field: 0}), field) == 0
    with pytest.raises(ValidationError, match=field):
        total(**{field: -1})


def test_the_id_of_an_alert_is_for_ever() -> None:
    """Relays remember ids across releases: another value here would tell every open crossing again."""
    assert alert_id("b|key=k1", NOON, AlertKind.THRESHOLD, "0.8") == UUID(
        "07861de1-4e12-57bb-8491-846cbe33835e"
    )


def test_another_account_window_kind_or_qualifier_is_another_alert() -> None:
    ids = {
        alert_id(account, start, kind, qualifier)
        for account in ("a", "b")
        for start in (NOON, NOON + timedelta(microseconds=1))
        for kind in AlertKind
        for qualifier in ("", "0.8")
    }

    assert len(ids) == 2 * 2 * len(AlertKind) * 2
    assert {made.version for made in ids} == {5}
