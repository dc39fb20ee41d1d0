"""The topics for everybody else: an AsyncAPI 3 document and a JSON Schema of each record, made of the models.

python -m spendmeter.contract.asyncapi docs/reference      # or `make asyncapi`

The schemas are in JSON Schema's draft 7, which AsyncAPI's tools read. They say what a reader meets, today's
records and those of earlier releases: a field with a default may be absent and then has the default.
"""

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from spendmeter.contract.alert import Alert, AlertDelivery
from spendmeter.contract.budget import Budget
from spendmeter.contract.dead_letter import DeadLetter
from spendmeter.contract.decision import Decision
from spendmeter.contract.provider_object import ProviderObject
from spendmeter.contract.records import TYPES
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import CONFIG, Topic
from spendmeter.contract.total import Opening, Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import Wire

DRAFT = "http://json-schema.org/draft-07/schema#"
_FORMAT = "application/schema+json;version=draft-07"
_BINDING_VERSION = "0.5.0"
_EXAMPLES = files("spendmeter.contract") / "examples"


class _Channel(NamedTuple):
    topic: Topic
    model: type[Wire]
    holds: str
    key: str
    examples: tuple[str, ...]
    is_open: bool = False
    """Others write here, too."""


_CHANNELS = (
    _Channel(
        Topic.USAGE,
        UsageEvent,
        "One record per finished request.",
        "The API key's hash; the object's id where there is one.",
        ("usage", "object-bill"),
        is_open=True,
    ),
    _Channel(
        Topic.TOTALS,
        Total,
        "Partial totals, cumulative; placed by the account.",
        "account|window_start|source_partition",
        ("total", "opening-balance"),
    ),
    _Channel(
        Topic.OPENINGS,
        Opening,
        "From which source offset on each budget is counted.",
        "budget_id|shape|source_partition",
        ("opening",),
    ),
    _Channel(Topic.BUDGETS, Budget, "Every budget in force.", "The budget's id.", ("budget",), is_open=True),
    _Channel(Topic.SIGNALS, Signal, "The state of every account.", "The account.", ("signal",)),
    _Channel(
        Topic.ALERTS,
        Alert,
        "Crossings, for people and programs. Sent again, an alert has the same alert_id.",
        "The account; empty where none is concerned.",
        ("alert", "digest"),
    ),
    _Channel(
        Topic.DECISIONS,
        Decision,
        "Requests that were refused, and what that rested on.",
        "The account; empty where none is concerned.",
        ("decision",),
    ),
    _Channel(
        Topic.OBJECTS,
        ProviderObject,
        "Who made what a provider keeps and bills once.",
        "The object's id.",
        ("object",),
    ),
    _Channel(
        Topic.DELIVERIES,
        AlertDelivery,
        "What became of each alert on each route of the relay.",
        "route|alert_id",
        ("delivery",),
    ),
    _Channel(
        Topic.DEAD_LETTERS,
        DeadLetter,
        "What could not be read or counted.",
        "source_topic:source_partition:source_offset",
        ("dead-letter", "dead-letter-resolved"),
    ),
)


class _Draft7(GenerateJsonSchema):
    """Pydantic's schemas, without a title for each field and with the width of integers."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {**super().int_schema(schema), "format": "int64"}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        made = super().dict_schema(schema)
        if schema.get("keys_schema", {}).get("type") == "int":
            made["propertyNames"] = {"pattern": "^-?[0-9]+$"}
        return made


def schema_of(model: type[Wire]) -> dict[str, Any]:
    """The JSON Schema of a record's value."""
    made = model.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_Draft7)
    definitions = made.pop("$defs", {})
    return {"$schema": DRAFT, **made, **({"definitions": definitions} if definitions else {})}


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each record, by its name with its version: `alert.v1`."""
    return {_versioned(channel.model): schema_of(channel.model) for channel in _CHANNELS}


def document() -> dict[str, Any]:
    """The AsyncAPI document. It refers to the schemas as files beside it, in `schemas`."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "The topics of spendmeter",
            "version": "1",
            "description": "What each LLM request costs, what each account has spent, and what is over its"
            " budget. Records are CloudEvents 1.0 in binary mode: the value is the JSON of the payload. A"
            " record without a value removes what its key names. A prefix may stand before each topic"
            " (SPENDMETER_TOPIC_PREFIX). Amounts are integers of nano-USD, 64 bits wide: read them as"
            " integers, not as doubles. Fields may be added; ignore those that you do not know.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_name(channel.model): _channel(channel) for channel in _CHANNELS},
        "operations": dict(operation for channel in _CHANNELS for operation in _operations(channel)),
        "components": {"messages": {_name(channel.model): _message(channel) for channel in _CHANNELS}},
    }


def _type(model: type[Wire]) -> str:
    return TYPES[model].decode()


def _versioned(model: type[Wire]) -> str:
    return _type(model).removeprefix("dev.spendmeter.")


def _name(model: type[Wire]) -> str:
    return _versioned(model).rpartition(".")[0]


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "/".join(("#", *path))}


def _channel(channel: _Channel) -> dict[str, Any]:
    name = _name(channel.model)
    return {
        "address": channel.topic.value,
        "description": channel.holds,
        "messages": {name: _ref("components", "messages", name)},
        "bindings": {
            "kafka": {
                "topic": channel.topic.value,
                "topicConfiguration": _configuration(channel.topic),
                "bindingVersion": _BINDING_VERSION,
            }
        },
    }


_STATED = ("retention.ms", "retention.bytes", "delete.retention.ms", "max.message.bytes")
"""Of a topic's configuration, what AsyncAPI's binding has a field for, beside the policy."""


def _configuration(topic: Topic) -> dict[str, Any]:
    configured = CONFIG[topic]
    numbers = {name: int(configured[name]) for name in _STATED if name in configured}
    return {"cleanup.policy": configured.get("cleanup.policy", "delete").split(","), **numbers}


def _operations(channel: _Channel) -> list[tuple[str, dict[str, Any]]]:
    name = _name(channel.model)
    actions = ("send", "receive") if channel.is_open else ("send",)
    return [
        (
            f"{action}-{name}",
            {
                "action": action,
                "channel": _ref("channels", name),
                "summary": f"spendmeter {'writes' if action == 'send' else 'reads'} {channel.topic.value}.",
                "messages": [_ref("channels", name, "messages", name)],
            },
        )
        for action in actions
    ]


def _message(channel: _Channel) -> dict[str, Any]:
    return {
        "name": _type(channel.model),
        "title": channel.model.__name__,
        "summary": channel.holds,
        "headers": _headers(channel),
        "payload": {
            "schemaFormat": _FORMAT,
            "schema": {"$ref": f"schemas/{_versioned(channel.model)}.json"},
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": channel.key},
                "bindingVersion": _BINDING_VERSION,
            }
        },
        "examples": [_example(name) for name in channel.examples],
    }


def _headers(channel: _Channel) -> dict[str, Any]:
    text = {"type": "string"}
    properties: dict[str, Any] = {
        "ce_specversion": {**text, "const": "1.0"},
        "ce_id": {
            **text,
            "description": "Names the record among those of its source; a resend has the same.",
        },
        "ce_source": text,
        "ce_type": {**text, "const": _type(channel.model)},
        "ce_time": {**text, "format": "date-time"},
        "content-type": {**text, "const": "application/json"},
    }
    if channel.topic in (Topic.USAGE, Topic.BUDGETS):
        properties["ce_signature"] = {**text, "description": "Who wrote it: `key id:signature`."}
    if channel.topic is Topic.USAGE:
        properties["ce_sentbefore"] = {
            **text,
            "description": "The id of an earlier incarnation of the topic that may hold the record, too.",
        }
    return {"type": "object", "properties": properties}


def _example(name: str) -> dict[str, Any]:
    shown = json.loads((_EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return {"name": name, "headers": shown["headers"], "payload": shown["value"]}


def pages() -> dict[str, str]:
    """What `docs/reference` has of it: the text of each file by its path there."""
    named = {"asyncapi.json": document()} | {f"schemas/{name}.json": one for name, one in schemas().items()}
    return {path: json.dumps(page, indent=2, ensure_ascii=False) + "\n" for path, page in named.items()}


def main() -> None:
    """Write the pages into the folder that is named."""
    folder = Path(sys.argv[1])
    (folder / "schemas").mkdir(exist_ok=True)
    for path, text in pages().items():
        (folder / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
