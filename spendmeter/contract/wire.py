"""The base of every value on the wire."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic_core import ErrorDetails


class Wire(BaseModel):
    """The base of every value on the wire: frozen; unknown fields are ignored on read."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


_W = TypeVar("_W", bound=Wire)


def construct_unchecked(model: type[_W], fields: dict[str, Any]) -> _W:
    """A value from fields that are right by construction: all of them, in the model's order.

    Like `model_construct`, but without its work for each field, for values that are made in thousands.
    """
    value = model.__new__(model)
    put = object.__setattr__  # the model is frozen
    put(value, "__dict__", fields)
    put(value, "__pydantic_fields_set__", _ALL.get(model) or _ALL.setdefault(model, set(model.model_fields)))
    put(value, "__pydantic_extra__", None)
    put(value, "__pydantic_private__", None)
    return value


_ALL: dict[type[Wire], set[str]] = {}

Whole = Annotated[int, Strict()]
"""A JSON integer. Not `1.0`: a number that was a float on its way may have lost its last digits."""


MAX_TEXT_CHARS = 512
"""The length of a name or an id. An account's percent-encoded name has up to twelve bytes for each character,
several times in one record. With this bound no record that an event leads to exceeds Kafka's limit."""
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
OptionalText = Annotated[str | None, Field(max_length=MAX_TEXT_CHARS)]


def what_is_wrong(problem: ErrorDetails) -> str:
    """The text of one pydantic error; our own validators' text without pydantic's "Value error, "."""
    cause = problem.get("ctx", {}).get("error")
    return str(cause) if isinstance(cause, ValueError) else problem["msg"]
