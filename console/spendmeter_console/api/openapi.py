"""The OpenAPI document of `/v1`, made of the answers' own models; docs/reference/openapi.json is a copy.

python -m spendmeter_console.api.openapi > docs/reference/openapi.json      # or `make openapi`
"""

import json
from functools import cache
from typing import Any, NamedTuple

from pydantic.json_schema import models_json_schema

from spendmeter.contract.signal import State
from spendmeter.values.dimensions import DIMENSIONS
from spendmeter_console.api.models import (
    AccountsPage,
    ApiAnswer,
    ApiProblem,
    BudgetsPage,
    EventsPage,
    MeView,
    RefusalDetail,
    RefusalsPage,
    SpendPage,
)
from spendmeter_console.api.parameters import DEFAULT_ROWS, RANGES
from spendmeter_console.history.queries import MAX_ROWS

_REF = "#/components/schemas/{model}"


class _Operation(NamedTuple):
    path: str
    summary: str
    answer: type[ApiAnswer]
    parameters: tuple[dict[str, Any], ...] = ()
    security: str = "token"


def _parameter(name: str, says: str, schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": says, "schema": schema or {"type": "string"}, **more}


_PAGED = (
    _parameter(
        "limit",
        "How many at the most.",
        {"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": DEFAULT_ROWS},
    ),
    _parameter("after", "`next` of the answer before."),
)
_SPAN = (
    _parameter("from", "A time such as 2026-11-22T10:00:00Z, or a day such as 2026-11-22."),
    _parameter("to", "As `from`, and not included; a day is. Without it: now."),
    _parameter("range", "Instead of both.", {"type": "string", "enum": [*RANGES], "default": "30d"}),
    _parameter("zone", "Whose days: an IANA time zone.", {"type": "string", "default": "UTC"}),
)
_FILTERS = tuple(
    _parameter(one, f"Only what has this {one.replace('_', ' ')}; empty: what has none.")
    for one in DIMENSIONS
)
_BY = _parameter(
    "by",
    "One or two dimensions; given twice for two.",
    {"type": "array", "items": {"type": "string", "enum": [*DIMENSIONS]}, "maxItems": 2, "default": ["team"]},
    explode=True,
)
_BUDGET = _parameter("budget", "Only of this budget.")
_OPERATIONS = (
    _Operation("/v1/budgets", "The budgets in force, by id.", BudgetsPage, _PAGED),
    _Operation(
        "/v1/accounts",
        "How each account stands, by name. Live: no query of history.",
        AccountsPage,
        (
            *_PAGED,
            _BUDGET,
            _parameter("state", "Only in this state.", {"type": "string", "enum": [*State]}),
            _parameter("search", "Only where the budget, a value or a key's alias holds this text."),
        ),
    ),
    _Operation("/v1/spend", "Spend by one or two dimensions.", SpendPage, (*_PAGED, *_SPAN, _BY, *_FILTERS)),
    _Operation(
        "/v1/events", "Single usage events, the latest first.", EventsPage, (*_PAGED, *_SPAN, *_FILTERS)
    ),
    _Operation(
        "/v1/refusals", "Refused requests, the latest first.", RefusalsPage, (*_PAGED, *_SPAN, _BUDGET)
    ),
    _Operation(
        "/v1/refusals/{id}",
        "One refusal, and what it rests on.",
        RefusalDetail,
        ({"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}},),
    ),
    _Operation(
        "/v1/me",
        "What the key in the Authorization header may still spend. Few times a minute.",
        MeView,
        security="key",
    ),
)
_PROBLEMS = {
    "401": "Nobody has this token; of /v1/me, nothing is known of this key.",
    "404": "There is no such thing, or it is not the viewer's.",
    "422": "A parameter cannot be: `field` names it.",
    "429": "Too often; `Retry-After` says when again.",
    "503": "History does not answer; the sentence says why.",
}


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    answers: list[type[ApiAnswer]] = [*{operation.answer for operation in _OPERATIONS}, ApiProblem]
    answers.sort(key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "serialization") for model in answers], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "spendmeter",
            "version": "1",
            "description": "What is spent, what is left and why a request was refused. Amounts are decimal"
            " strings of USD, exact to the nano-dollar.",
        },
        "paths": {operation.path: {"get": _get(operation)} for operation in _OPERATIONS},
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A person's token (`spendmeter web token`). Not needed where the page is"
                    " served on loopback without sign-in.",
                },
                "key": {"type": "http", "scheme": "bearer", "description": "A key of the gateway, `sk-…`."},
            },
        },
    }


def _get(operation: _Operation) -> dict[str, Any]:
    problems = {
        status: {
            "description": says,
            "content": {"application/json": {"schema": {"$ref": _REF.format(model="ApiProblem")}}},
        }
        for status, says in _PROBLEMS.items()
        if status != "404" or "{id}" in operation.path
    }
    answer = {"schema": {"$ref": _REF.format(model=operation.answer.__name__)}}
    return {
        "summary": operation.summary,
        "operationId": operation.path.removeprefix("/v1/").replace("/{id}", "_one"),
        "parameters": [*operation.parameters],
        "security": [{operation.security: []}],
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": answer}},
            **problems,
        },
    }


def text() -> str:
    """The document as it is checked in."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(text(), end="")
