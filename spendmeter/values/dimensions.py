"""The dimensions of spend: one list for events, requests, budgets and rows of history."""

from typing import Literal, get_args

Dimension = Literal[
    "key",
    "user",
    "team",
    "organization",
    "project",
    "end_user",
    "tag",
    "model",
    "model_group",
    "provider",
    "session",
    "gateway",
]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

CLIENT_MADE: frozenset[Dimension] = frozenset(("end_user", "tag", "session"))
"""Dimensions whose values a client can invent, in any number."""


def field_of(dimension: Dimension) -> str:
    """The field of a subject, of a usage event and of a row of history that holds the dimension's values."""
    return "tags" if dimension == "tag" else dimension


FIELDS: tuple[str, ...] = tuple(map(field_of, DIMENSIONS))
"""Of all dimensions, in their order."""
