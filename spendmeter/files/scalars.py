"""Parses single values of files that people write. Pure."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches

import yaml

from spendmeter.contract.money import InvalidAmount, NanoUsd, from_usd, to_usd
from spendmeter.values.times import parse_time


class Wrong(Exception):
    """An invalid value; the message says what to write instead."""


def text(node: yaml.Node) -> str:
    """A scalar exactly as it was written, so that no number ever becomes a float on the way."""
    if not isinstance(node, yaml.ScalarNode):
        raise Wrong("is a single value, not a list or mapping")
    written: str = node.value
    return written


def money(node: yaml.Node) -> NanoUsd:
    """A positive amount of USD, to the nano-dollar."""
    return limit(text(node))


def limit(written: str) -> NanoUsd:
    """As `money`, of a text: what a budget may have for a limit or a raise.

    Raises:
        Wrong: it is no amount, finer than a nano-dollar, or not above 0.
    """
    try:
        amount = from_usd(written)
    except InvalidAmount as error:
        raise Wrong(str(error)) from None
    if to_usd(amount) != Decimal(written):
        raise Wrong(f"{written} USD is finer than a nano-dollar; write at most nine decimals")
    if amount <= 0:
        raise Wrong(f"{written} USD is not above 0")
    return amount


def fraction(node: yaml.Node) -> float:
    """A number; the budget checks that it is between 0 and 1."""
    written = text(node)
    try:
        return float(written)
    except ValueError:
        raise Wrong(f"{written!r} is no fraction such as 0.8") from None


def time(node: yaml.Node) -> datetime:
    """A moment with its offset from UTC."""
    written = text(node)
    try:
        return parse_time(written)
    except ValueError as error:
        # Ours names the fix; Python's own does not.
        fix = "" if "offset" in str(error) else "; write it as 2026-11-22T10:00:00Z"
        raise Wrong(f"{error}{fix}") from None


def one_of(node: yaml.Node, choices: Sequence[str]) -> str:
    """One of a few choices."""
    written = text(node)
    if written not in choices:
        raise Wrong(f"{written!r} is not known; {nearest(written, choices)}")
    return written


def nearest(word: str, known: Sequence[str]) -> str:
    """`did you mean …?`, or the known names."""
    close = get_close_matches(word, known, 1)
    return f"did you mean {close[0]}?" if close else f"there is {', '.join(known)}"
