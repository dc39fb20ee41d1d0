"""The struct that events are read into: made of the model, and nothing is guessed about a field."""

import json
from datetime import datetime
from typing import Annotated, Any

import pytest
from pydantic import Field

from spendmeter.contract.fast_json import event_of, read_fields, struct_of
from spendmeter.contract.records import encode_usage
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import Wire
from tests.builders import usage


class AFloat(Wire):
    share: float


class APattern(Wire):
    name: Annotated[str, Field(pattern="[a-z]+")]


class ATime(Wire):
    at: datetime


@pytest.mark.parametrize("model", [AFloat, APattern, ATime])
def test_a_field_that_is_not_known_to_be_read_alike_stops_whoever_adds_it(model: type[Wire]) -> None:
    with pytest.raises(TypeError, match="not known to be read alike"):
        struct_of(model)


def test_an_event_of_a_version_before_a_field_existed_is_read_quickly() -> None:
    required = {name for name, field in UsageEvent.model_fields.items() if field.is_required()}
    least = {name: value for name, value in _fields().items() if name in required}

    fields = read_fields(json.dumps(least).encode())

    assert fields is not None
    assert event_of(fields) == UsageEvent.model_validate(least)


def test_an_event_with_a_field_that_this_version_does_not_know_is_left_to_the_model() -> None:
    assert read_fields(json.dumps({**_fields(), "new_in_v1_1": 1}).encode()) is None


def test_a_changed_copy_of_an_event_that_was_read_quickly_is_a_copy() -> None:
    fields = read_fields(encode_usage(usage()).value)
    assert fields is not None
    event = event_of(fields)

    assert event.model_copy(update={"seq": 2}) == usage(seq=2, event_id=event.event_id)
    assert event == usage()


def _fields() -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(encode_usage(usage()).value)
    return fields
