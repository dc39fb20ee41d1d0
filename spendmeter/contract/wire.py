"""The base of every value on the wire."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic_core import ErrorDetails


class Wire(BaseModel):
    """What every value on the wire shares: frozen, unknown fields ignored on read."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


_W = TypeVar("_W", bound=Wire)


def construct_unchecked(model: type[_W], fields: dict[str, Any]) -> _W:
    """A value of fields that are right by construction: all of them, in the model's order.

    What `model_construct` does, without its look at each field; for what is made by the thousand.
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
"""Of a name or an id. Percent-encoded an account's name has up to twelve bytes for each character, and stands
several times in one record: with this bound no record that an event leads to outgrows what Kafka takes."""
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
OptionalText = Annotated[str | None, Field(max_length=MAX_TEXT_CHARS)]


def what_is_wrong(problem: ErrorDetails) -> str:
    """One finding of pydantic's; our own validators' words as they are, without its "Value error, "."""
    cause = problem.get("ctx", {}).get("error")
    return str(cause) if isinstance(cause, ValueError) else problem["msg"]
