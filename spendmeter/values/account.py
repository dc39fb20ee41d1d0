"""The name of an account on the wire: `id|dim=value&dim=value`."""

from collections.abc import Iterable
from urllib.parse import quote, unquote

_SEPARATOR = "|"
"""No budget's id and no quoted value contains it."""


def account_name(budget_id: str, subject: Iterable[tuple[str, str]]) -> str:
    """`id|dim=value&dim=value`, dimensions sorted, values percent-encoded.

    >>> account_name("member-day", [("user", "ann"), ("team", "a b")])
    'member-day|team=a%20b&user=ann'
    """
    return budget_id + _SEPARATOR + "&".join([f"{d}={_quoted(v)}" for d, v in sorted(subject)])


def is_account(name: str) -> bool:
    """Whether it names an account and not a budget."""
    return _SEPARATOR in name


def budget_id_of(account: str) -> str:
    """The id of an account's budget; a budget's id is returned unchanged."""
    return account.partition(_SEPARATOR)[0]


def has_subject(account: str) -> bool:
    """Whether it names any values. The account of a budget for everything names none, nor does the rest
    account.
    """
    return not account.endswith(_SEPARATOR)


def subject_in(account: str) -> dict[str, str]:
    """The dimensions in an account's name: the reverse of `account_name`."""
    pairs = account.partition(_SEPARATOR)[2]
    return {d: unquote(v) for d, _, v in (pair.partition("=") for pair in pairs.split("&") if pair)}


def _quoted(value: str) -> str:
    # Most values, such as key hashes and ids, need no quoting; checking is faster than quoting.
    return value if value.isalnum() and value.isascii() else quote(value, safe="")
