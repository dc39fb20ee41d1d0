"""The law of quick reading, of totals: what it takes, the model takes too, and to equal values."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spendmeter.contract.fast_json import read_total
from spendmeter.contract.records import encode_total
from spendmeter.contract.total import HISTORY, Total
from tests.builders import NOON
from tests.property.spendmeter.contract.test_usage_reader import ODD, json_values, written


def total(**fields: Any) -> Total:
    defaults: dict[str, Any] = {
        "account": "per-key|key=k1",
        "window_start": NOON,
        "source_partition": 0,
        "spent_nanousd": 5,
        "events": 1,
        "first_offset": 0,
        "last_offset": 3,
        "last_event_id": UUID(int=1),
        "shape": "86f8bde3",
    }
    return Total.model_validate({**defaults, **fields})


TOTAL: dict[str, Any] = json.loads(encode_total(total(), NOON).value)
GOOD = {name: json.dumps(value) for name, value in TOTAL.items()}


def is_read_alike(value: bytes) -> bool:
    """Whether it is read quickly; then the model must read it to the same."""
    read = read_total(value)
    if read is None:
        return False
    try:
        by_the_model = Total.model_validate_json(value)
    except ValidationError as error:
        raise AssertionError(f"the model refuses what was read quickly: {value!r}") from error
    assert read == by_the_model
    # Equal is not enough: True == 1.
    assert repr(read) == repr(by_the_model)
    return True


@pytest.mark.parametrize("field", TOTAL)
def test_a_total_with_an_odd_value_is_read_as_the_model_reads_it(field: str) -> None:
    for text in [*ODD, '"history"', '{"0":-1}', '{"0":3}']:
        is_read_alike(written({**GOOD, field: text}))


@given(st.dictionaries(st.sampled_from(sorted(TOTAL)), json_values.map(json.dumps), min_size=1, max_size=2))
def test_a_total_with_any_fields_spoilt_is_read_as_the_model_reads_it(fields: dict[str, str]) -> None:
    is_read_alike(written({**GOOD, **fields}))


@given(st.sets(st.sampled_from(sorted(TOTAL))), st.dictionaries(st.text(), json_values, max_size=2))
def test_a_total_of_another_version_is_read_as_the_model_reads_it(
    missing: set[str], new: dict[str, object]
) -> None:
    known = {name: text for name, text in GOOD.items() if name not in missing}

    is_read_alike(written({**known, **{name: json.dumps(value) for name, value in new.items()}}))


@pytest.mark.parametrize("fields", [{}, {"spent_nanousd": -5}, {"last_event_id": None}, {"shape": None}])
def test_a_total_of_the_stream_is_read_quickly(fields: dict[str, Any]) -> None:
    assert is_read_alike(encode_total(total(**fields), NOON).value)


def test_a_total_of_history_is_left_to_the_model() -> None:
    of_history = total(source_partition=HISTORY, before={0: 3}, revision=2)

    assert read_total(encode_total(of_history, NOON).value) is None
