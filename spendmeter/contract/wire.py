"""The base of every value on the wire."""

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """What every value on the wire shares: frozen, unknown fields ignored on read."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)
