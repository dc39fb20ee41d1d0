"""Globs: values of a match in which each `*` stands for any characters, or for none. Pure."""

from spendmeter.contract.budget import ANY, GLOBBED
from spendmeter.values.dimensions import Dimension


def is_glob(dimension: Dimension, wanted: str) -> bool:
    """Whether this value of a match is a pattern; `*` alone is not, because it makes one account
    per value.
    """
    return ANY in wanted and wanted != ANY and dimension in GLOBBED


def fits(glob: str, value: str) -> bool:
    """Whether the value matches the glob.

    The cost is linear in the value, however many stars there are, because a client chooses the values. (The
    first match of each middle part leaves the most room for the rest, so nothing is tried twice.)
    """
    head, *middle, tail = glob.split(ANY)
    if len(value) < len(head) + len(tail) or not value.startswith(head) or not value.endswith(tail):
        return False
    at, end = len(head), len(value) - len(tail)
    for part in middle:
        found = value.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
