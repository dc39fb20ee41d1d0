"""What changed on the wire since the last release, and that the checker finds whatever breaks somebody."""

import json
from collections.abc import Callable
from copy import deepcopy
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from spendmeter.contract.asyncapi import schema_of, schemas
from spendmeter.contract.usage import UsageEvent
from tests.schema_changes import Schema, UnknownKeyword, find_breaks
from tests.versions.earlier import GOLDEN

LAST = GOLDEN / "0.1.0/schemas"
"""Made of that release's own models."""
NEW_NAME = "a new name: our readers are upgraded before writers, subscribers pass over what they do not know"
BOUND = "a text or list without a bound could be larger than Kafka allows; nothing of ours wrote one"
NO_POSITION = "no partition or offset of Kafka's is beyond it"
DELIBERATE = {
    "alert.v1/kind: readers: may be '*' now": NEW_NAME,
    "budget.v1/*: writers: max* was None, is *": BOUND,
    "dead-letter.v1/reason: readers: may be 'foreign_producer' now": NEW_NAME,
    "dead-letter.v1/source_*: writers: *imum was None, is *": NO_POSITION,
    "decision.v1/why: readers: may be '*' now": NEW_NAME,
    "total.v1/*: writers: maxLength was None, is *": BOUND,
    "usage.v1/cost_source: readers: may be 'tokens' now": NEW_NAME,
    "usage.v1/*: writers: max* was None, is *": BOUND,
    "usage.v1/prices: writers: propertyNames was True, is {'maxLength': 128}": BOUND,
}
"""What breaks somebody of 0.1.0, and why it is so."""


def released() -> dict[str, Schema]:
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in LAST.glob("*.json")}


def found(before: Schema, after: Schema) -> list[str]:
    return [str(one) for one in find_breaks({"r": before}, {"r": after})]


def test_nothing_breaks_the_readers_and_writers_of_the_last_release_but_what_was_meant_to() -> None:
    breaks = [str(one) for one in find_breaks(released(), schemas())]

    assert [one for one in breaks if not any(fnmatchcase(one, known) for known in DELIBERATE)] == []
    assert [known for known in DELIBERATE if not any(fnmatchcase(one, known) for one in breaks)] == []


def test_nothing_breaks_where_nothing_changed_or_where_a_field_was_added() -> None:
    event = schema_of(UsageEvent)
    more = deepcopy(event)
    more["properties"]["colour"] = {"type": "string", "default": ""}

    assert find_breaks({"usage.v1": event}, {"usage.v1": event}) == []
    assert find_breaks({"usage.v1": event}, {"usage.v1": more, "new.v1": event}) == []
    assert find_breaks({"usage.v1": event}, {}) != []


BEFORE: Schema = {
    "type": "object",
    "required": ["name", "sum", "state"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 10, "format": "uuid"},
        "sum": {"type": "integer", "minimum": 0, "maximum": 99},
        "share": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
        "state": {"$ref": "#/definitions/State"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        "marks": {
            "type": "object",
            "propertyNames": {"pattern": "^[0-9]+$"},
            "additionalProperties": {"type": "integer"},
        },
        "kind": {"const": "a", "type": "string"},
        "part": {"$ref": "#/definitions/Part"},
    },
    "definitions": {
        "State": {"type": "string", "enum": ["ok", "bad"]},
        "Part": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}},
    },
}


def of(name: str, **said: Any) -> Callable[[Schema], None]:
    """A change of one field; None takes a keyword out."""

    def change(schema: Schema) -> None:
        for keyword, value in said.items():
            if value is None:
                del schema["properties"][name][keyword]
            else:
                schema["properties"][name][keyword] = value

    return change


def replaced(name: str, by: Schema) -> Callable[[Schema], None]:
    return lambda schema: schema["properties"].update({name: by})


def defined(name: str, by: Schema) -> Callable[[Schema], None]:
    return lambda schema: schema["definitions"].update({name: by})


def required(*names: str) -> Callable[[Schema], None]:
    return lambda schema: schema.update(required=list(names))


def removed(name: str) -> Callable[[Schema], None]:
    return lambda schema: schema["properties"].pop(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (removed("tags"), ["r/tags: readers: removed"]),
        (required("name", "sum"), ["r/state: readers: may be absent now"]),
        (required("name", "sum", "state", "tags"), ["r/tags: writers: required now"]),
        (
            replaced("sum", {"type": "string"}),
            ["r/sum: readers: may be string now", "r/sum: writers: may not be integer any more"],
        ),
        (of("sum", type="number"), ["r/sum: readers: may be no integer now"]),
        (
            replaced("share", {"type": "number", "default": None}),
            ["r/share: writers: may not be null any more"],
        ),
        (
            replaced("tags", {"anyOf": [BEFORE["properties"]["tags"], {"type": "null"}]}),
            ["r/tags: readers: may be null now"],
        ),
        (
            replaced("share", {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}),
            ["r/share: writers: may be no number but an integer any more"],
        ),
        (of("share", default=0.5), ["r/share: writers: absent meant None and means 0.5"]),
        (of("sum", maximum=98), ["r/sum: writers: maximum was 99, is 98"]),
        (of("sum", maximum=None), ["r/sum: readers: maximum was 99, is None"]),
        (of("sum", minimum=1), ["r/sum: writers: minimum was 0, is 1"]),
        (of("sum", minimum=-1), ["r/sum: readers: minimum was 0, is -1"]),
        (of("sum", exclusiveMinimum=3), ["r/sum: writers: exclusiveMinimum was None, is 3"]),
        (of("name", maxLength=9), ["r/name: writers: maxLength was 10, is 9"]),
        (of("name", minLength=None), ["r/name: readers: minLength was 1, is None"]),
        (of("name", format=None), ["r/name: readers: format was uuid, is None"]),
        (of("name", pattern="^x"), ["r/name: writers: pattern was None, is ^x"]),
        (of("tags", maxItems=2), ["r/tags: writers: maxItems was 3, is 2"]),
        (
            of("tags", items={"type": "string", "maxLength": 5}),
            ["r/tags/[]: writers: maxLength was None, is 5"],
        ),
        (of("marks", additionalProperties={"type": "number"}), ["r/marks/*: readers: may be no integer now"]),
        (
            of("marks", additionalProperties=False),
            ["r/marks: writers: additionalProperties was {'type': 'integer'}, is False"],
        ),
        (
            of("marks", propertyNames=None),
            ["r/marks: readers: propertyNames was {'pattern': '^[0-9]+$'}, is True"],
        ),
        (
            of("kind", const="b"),
            ["r/kind: readers: may be 'b' now", "r/kind: writers: may not be 'a' any more"],
        ),
        (of("kind", const=None), ["r/kind: readers: may be other than ['a'] now"]),
        (of("name", enum=["x"]), ["r/name: writers: only ['x'] now"]),
        (
            defined("State", {"type": "string", "enum": ["ok"]}),
            ["r/state: writers: may not be 'bad' any more"],
        ),
        (
            defined("State", {"type": "string", "enum": ["ok", "bad", "odd"]}),
            ["r/state: readers: may be 'odd' now"],
        ),
        (
            defined("Part", {"type": "object", "properties": {"id": {"type": "integer"}}}),
            [
                "r/part/id: readers: may be absent now",
                "r/part/id: readers: may be integer now",
                "r/part/id: writers: may not be string any more",
            ],
        ),
        (
            lambda schema: schema.update(additionalProperties=False),
            ["r: writers: additionalProperties was True, is False"],
        ),
        (
            lambda schema: schema.update(additionalProperties={"type": "string"}),
            ["r: writers: additionalProperties was True, is {'type': 'string'}"],
        ),
    ],
)
def test_each_kind_of_break_is_found(change: Callable[[Schema], None], said: list[str]) -> None:
    after = deepcopy(BEFORE)
    change(after)

    assert found(BEFORE, after) == said


def test_a_keyword_that_it_does_not_know_is_no_agreement() -> None:
    after = deepcopy(BEFORE)
    after["properties"]["sum"]["multipleOf"] = 5

    with pytest.raises(UnknownKeyword, match="multipleOf"):
        found(BEFORE, after)
    with pytest.raises(UnknownKeyword, match="two alternatives of type integer"):
        found(BEFORE, {"anyOf": [{"type": "integer"}, {"type": "integer", "minimum": 5}]})


def test_the_checked_in_schemas_are_of_the_release_and_not_of_today() -> None:
    """It knew neither objects nor deliveries."""
    assert {Path(name).stem for name in schemas().keys() - released().keys()} == {"object", "delivery"}
