"""Globs: values of a match in which each `*` stands for any characters, also for none. Pure."""

from spendmeter.contract.budget import ANY, GLOBBED
from spendmeter.values.dimensions import Dimension


def is_glob(dimension: Dimension, wanted: str) -> bool:
    """Whether this value of a match selects by a pattern; `*` alone does not, it separates."""
    return ANY in wanted and wanted != ANY and dimension in GLOBBED


def fits(glob: str, value: str) -> bool:
    """Whether the value is what the glob describes.

    Linear in the value however many stars there are: a client chooses the values. (The first place
    where each middle part is found leaves the most room for the rest, so nothing is tried twice.)
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
