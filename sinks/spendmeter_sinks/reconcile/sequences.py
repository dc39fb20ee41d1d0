"""Sequence numbers: dense per producer from 1, so a number missing below the highest is a loss. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Range(NamedTuple):
    """Sequence numbers `first` … `last`, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


def count(ranges: Iterable[Range]) -> int:
    """How many numbers the ranges hold."""
    return sum(len(found) for found in ranges)


def in_both(one: Sequence[Range], other: Sequence[Range]) -> list[Range]:
    """The numbers that both hold. Each rises and does not overlap itself; so does the result."""
    both: list[Range] = []
    left = right = 0
    while left < len(one) and right < len(other):
        first = max(one[left].first, other[right].first)
        last = min(one[left].last, other[right].last)
        if first <= last:
            both.append(Range(first, last))
        if one[left].last < other[right].last:
            left += 1
        else:
            right += 1
    return both


def without(ranges: Iterable[Range], there: Iterable[int]) -> list[Range]:
    """The ranges less some numbers; the ranges rise and do not overlap."""
    left: list[Range] = []
    numbers = sorted(set(there))
    at = 0
    for first, last in ranges:
        while at < len(numbers) and numbers[at] < first:
            at += 1
        while at < len(numbers) and numbers[at] <= last:
            if numbers[at] > first:
                left.append(Range(first, numbers[at] - 1))
            first = numbers[at] + 1
            at += 1
        if first <= last:
            left.append(Range(first, last))
    return left
