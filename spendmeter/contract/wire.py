"""The base of every value on the wire."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Strict
from pydantic_core import ErrorDetails


class Wire(BaseModel):
    """What every value on the wire shares: frozen, unknown fields ignored on read."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


Whole = Annotated[int, Strict()]
"""A JSON integer. Not `1.0`: a number that was a float on its way may have lost its last digits."""


def what_is_wrong(problem: ErrorDetails) -> str:
    """One finding of pydantic's; our own validators' words as they are, without its "Value error, "."""
    cause = problem.get("ctx", {}).get("error")
    return str(cause) if isinstance(cause, ValueError) else problem["msg"]
