"""docs/reference/asyncapi.json and the schemas beside it are made of the models; what is on the wire fits."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft7Validator
from pydantic import ValidationError

from spendmeter.contract.asyncapi import DRAFT, document, pages, schema_of, schemas
from spendmeter.contract.records import TYPES, Record, encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.wire import Wire
from tests.builders import usage
from tests.property.spendmeter.contract.test_writer import signals, totals, usage_events
from tests.schema_changes import Schema
from tests.unit.spendmeter.contract.test_examples import WIRE
from tests.versions.earlier import GOLDEN, Earlier

REFERENCE = Path(__file__).parents[4] / "docs/reference"
LAST = GOLDEN / "0.1.0"
ANNOTATIONS = {"$ref", "default", "description", "title"}
INT64 = 2**63
UNREADABLE = b"{not json"
"""Somebody wrote it to the last release's spend.usage."""

channels: dict[str, Any] = document()["channels"]
messages: dict[str, Any] = document()["components"]["messages"]
by_topic = {channel["address"]: schemas()[f"{name}.v1"] for name, channel in channels.items()}


def problems(schema: Schema, value: Any) -> list[str]:
    return [problem.message for problem in Draft7Validator(schema).iter_errors(value)]


def nodes(value: Any) -> list[dict[str, Any]]:
    """Every object in a document, at any depth."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ([value] if isinstance(value, dict) else []) + [node for one in inner for node in nodes(one)]


def test_the_files_are_what_the_code_makes() -> None:
    there = {
        path.relative_to(REFERENCE).as_posix(): path.read_text(encoding="utf-8")
        for path in (REFERENCE / "asyncapi.json", *(REFERENCE / "schemas").iterdir())
    }

    assert there == pages(), "`make asyncapi` writes them anew"


def test_each_topic_and_each_type_of_record_is_there() -> None:
    assert {channel["address"] for channel in channels.values()} == set(Topic)
    assert {message["name"].encode() for message in messages.values()} == set(TYPES.values())


def test_each_reference_leads_somewhere() -> None:
    whole = document()
    references = [node["$ref"] for node in nodes(whole) if "$ref" in node]

    assert references
    for reference in references:
        if reference.startswith("#/"):
            at: Any = whole
            for step in reference.removeprefix("#/").split("/"):
                at = at[step]
        else:
            assert (REFERENCE / reference).is_file()


@pytest.mark.parametrize("name", schemas())
def test_each_schema_is_one_of_draft_7_and_says_the_same_to_its_readers(name: str) -> None:
    """In draft 7 whatever stands beside `$ref` is ignored, so it may only explain."""
    schema = schemas()[name]

    Draft7Validator.check_schema(schema)
    assert schema["$schema"] == DRAFT
    assert [node for node in nodes(schema) if "$ref" in node and node.keys() - ANNOTATIONS] == []
    assert [
        node for node in nodes(schema) if node.get("type") == "integer" and node.get("format") != "int64"
    ] == []


@pytest.mark.parametrize("name", WIRE)
def test_each_record_as_it_is_written_is_valid(name: str) -> None:
    topic, _, record = WIRE[name]
    [of] = [one for one, channel in channels.items() if channel["address"] == topic]

    assert problems(by_topic[topic], json.loads(record.value)) == []
    assert problems(messages[of]["headers"], texts(record)) == []
    shown = [(one["headers"], one["payload"]) for one in messages[of]["examples"]]
    assert (texts(record), json.loads(record.value)) in shown


def texts(record: Record) -> dict[str, str]:
    return {header: text.decode() for header, text in record.headers}


@given(totals | signals | usage_events)
def test_whatever_our_writers_may_write_is_valid(value: Wire) -> None:
    written = json.loads(value.model_dump_json())

    assert problems(schema_of(type(value)), written) == []


@pytest.mark.parametrize("topic", sorted(by_topic))
def test_each_record_of_the_last_release_is_valid(topic: str) -> None:
    """In today's schema; in that release's own, so that its copy is the right one."""
    kind = {channel["address"]: name for name, channel in channels.items()}[topic]
    kept = LAST / f"schemas/{kind}.v1.json"
    own = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else by_topic[topic]
    values = [record.value for record in Earlier(LAST).records if record.topic == topic and record.value]

    assert bool(values) == kept.exists()
    for value in values:
        if value == UNREADABLE:
            continue
        written = json.loads(value)
        assert problems(by_topic[topic], written) == problems(own, written) == []
        assert written.keys() <= own["properties"].keys()


@pytest.mark.parametrize("name", WIRE)
def test_schema_and_model_agree_on_what_may_be_absent_null_or_something_else(name: str) -> None:
    """But for what the model alone checks: which values may stand beside each other."""
    topic, value, record = WIRE[name]
    written = json.loads(record.value)
    for field in written:
        absent = {other: one for other, one in written.items() if other != field}
        for changed in (absent, {**written, field: None}, {**written, field: {"a": {}}}):
            said, found = problems(by_topic[topic], changed), errors(type(value), changed)
            assert found if said else found <= {"value_error"}, (field, changed.get(field, "absent"))


def errors(model: type[Wire], value: Any) -> set[str]:
    """The kinds of what the model refuses."""
    try:
        model.model_validate_json(json.dumps(value))
    except ValidationError as error:
        return {one["type"] for one in error.errors()}
    return set()


def test_a_field_of_a_later_release_is_valid() -> None:
    for name, (topic, _, record) in WIRE.items():
        assert problems(by_topic[topic], {**json.loads(record.value), "colour": {"a": 1}}) == [], name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cost_nanousd", 0.5),
        ("cost_nanousd", "1"),
        ("cost_nanousd", 10**18),
        ("seq", 0),
        ("seq", INT64),
        ("kind", "refund"),
        ("tags", ["t"] * 101),
        ("key", "k" * 513),
        ("prices", {"input_token": 0.1}),
        ("occurred_at", 1_795_340_000),
    ],
)
def test_what_a_reader_would_put_aside_is_not_valid(field: str, value: object) -> None:
    event = json.loads(encode_usage(usage()).value)

    assert problems(by_topic[Topic.USAGE], event) == []
    assert len(problems(by_topic[Topic.USAGE], {**event, field: value})) == 1
