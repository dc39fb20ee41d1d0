"""The entries of the two tables, and their format in the changelogs.

A key begins with a prefix that names its kind. A value is compact JSON: an array in a fixed order.
Every value that a fold writes begins with the source offset that it rests on. That offset is the guard:
a replayed record at or below it adds nothing, and of two values the one with the higher guard wins,
whichever was written last.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec

from spendmeter.contract.money import NanoUsd
from spendmeter.domain.opening_balance import OpeningBalance
from spendmeter.values.times import from_unix_us, to_unix_us

METER_TABLE, JUDGE_TABLE = "meter", "judge"

TALLY = b"t|"
PRODUCER = b"p|"
OPENING = b"o|"
POSITION = b"position"
ACCOUNT = b"a|"
OPENING_BALANCE = b"h|"

# Beginnings and ends of windows: few, each in the keys and values of all accounts.
_MAX_REMEMBERED = 10_000
_us = lru_cache(_MAX_REMEMBERED)(to_unix_us)
_time = lru_cache(_MAX_REMEMBERED)(from_unix_us)
_pack: Callable[[tuple[Any, ...]], bytes] = msgspec.json.Encoder().encode
_read_tally = msgspec.json.Decoder(tuple[int, int, int, int, UUID | None, int | None]).decode
_Part = tuple[int, int, int, int, str]
_read_account: Callable[[bytes], Any] = msgspec.json.Decoder(
    tuple[
        int,
        dict[str, _Part],
        UUID | None,
        list[str],
        bool,
        int,
        tuple[int, int, float] | None,
        tuple[dict[str, int], str, int, int] | None,
    ]
).decode
_read_any: Callable[[bytes], Any] = msgspec.json.Decoder().decode


class ChangelogEntry(NamedTuple):
    """One changelog record; no value is a tombstone."""

    key: bytes
    value: bytes | None


class EntryStore(Protocol):
    """The entries of one table, as far as their changelog has them."""

    def entries(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """The current entries of a changelog partition."""

    def wrote(self, partition: int, entries: Iterable[ChangelogEntry], last_offset: int, count: int) -> None:
        """Keep entries that the broker has acknowledged, the last of them at that changelog offset."""


class AccountWindow(NamedTuple):
    account: str
    window_start: datetime

    def suffix(self) -> bytes:
        return f"{self.account}|{_us(self.window_start)}".encode()

    @classmethod
    def read(cls, suffix: bytes) -> "AccountWindow":
        account, _, start = suffix.decode().rpartition("|")
        return cls(account, _time(int(start)))


class CounterKey(NamedTuple):
    """What a partition sum counts: an account in a window, in one shape of its budget.

    The shape separates workers: a late write by a worker that knew an earlier form of the budget
    replaces nothing that was counted since. See meter/counting_starts.py.
    """

    account: str
    window_start: datetime
    shape: str

    def suffix(self) -> bytes:
        return f"{self.account}|{_us(self.window_start)}|{self.shape}".encode()

    @classmethod
    def read(cls, suffix: bytes) -> "CounterKey":
        account, start, shape = suffix.decode().rsplit("|", 2)
        return cls(account, _time(int(start)), intern(shape))


@dataclass(slots=True)
class PartitionSum:
    """What one source partition has added to an account in a window; the meter's state."""

    spent_nanousd: NanoUsd
    events: int
    first_offset: int
    last_offset: int
    last_event_id: UUID | None
    window_end: datetime | None

    def value(self) -> bytes:
        end_us = None if self.window_end is None else _us(self.window_end)
        return _pack(
            (
                self.last_offset,
                self.spent_nanousd,
                self.events,
                self.first_offset,
                self.last_event_id,
                end_us,
            )
        )

    @classmethod
    def read(cls, value: bytes) -> "PartitionSum":
        last, spent, events, first, event_id, end_us = _read_tally(value)
        return cls(NanoUsd(spent), events, first, last, event_id, None if end_us is None else _time(end_us))


@dataclass(slots=True)
class ProducerSequence:
    """The highest `seq` of a producer in one source partition; its resends end at or below it."""

    seq: int
    offset: int
    seen_at: datetime

    def value(self) -> bytes:
        return _pack((self.offset, self.seq, to_unix_us(self.seen_at)))

    @classmethod
    def read(cls, value: bytes) -> "ProducerSequence":
        offset, seq, seen = _read_any(value)
        return cls(seq, offset, from_unix_us(seen))


class CountingStart(NamedTuple):
    """The source offset from which a budget is counted, in the shape that the key names."""

    offset: int

    def value(self) -> bytes:
        # Of two openings of one shape the earlier one holds: partition sums begin with it.
        return _pack((-self.offset,))

    @classmethod
    def read(cls, value: bytes) -> "CountingStart":
        (negated,) = _read_any(value)
        return cls(-negated)


class TotalComponent(NamedTuple):
    """One source partition's part of an account's spend, as of the latest total that the judge read."""

    last_offset: int
    spent_nanousd: NanoUsd
    events: int
    first_offset: int
    shape: str = ""
    """The budget's shape when this was counted."""


def balance_fields(balance: OpeningBalance) -> tuple[Any, ...]:
    """An opening balance as fields of a value."""
    return (balance.before, balance.shape, to_unix_us(balance.window_start), balance.revision)


def read_balance(before: dict[str, int], shape: str, start: int, revision: int = 0) -> OpeningBalance:
    """The reverse of `balance_fields`."""
    offsets = {int(partition): offset for partition, offset in before.items()}
    return OpeningBalance(offsets, shape, from_unix_us(start), revision)


class Burn(NamedTuple):
    """The spend since the account was first judged in its window; older spend counts less."""

    since_us: int
    at_us: int
    decayed_nanousd: float


@dataclass(slots=True)
class AccountState:
    """Everything the judge knows of an account in a window, and what it has already emitted."""

    components: dict[int | str, TotalComponent] = field(default_factory=dict)
    last_event_id: UUID | None = None
    sent_alerts: frozenset[str] = frozenset()
    """Alerts that were sent, by `kind/qualifier`."""
    exceeded: bool = False
    """Whether the last alert said that it was exceeded; then a recovery sends an alert, too."""
    crossed: int = 0
    """How often it became exceeded."""
    burn: Burn | None = None
    unburnt_nanousd: int = 0
    """Spent since `burn`. Not stored, because it comes again when the totals are read again."""
    held: OpeningBalance | None = None
    """The opening balance that the history component rests on."""

    @property
    def guard(self) -> int:
        """The sum of the source offsets accounted for: it only rises, and a replay yields the same."""
        return sum([component.last_offset + 1 for component in self.components.values()])

    def value(self) -> bytes:
        return _pack(
            (
                self.guard,
                self.components,
                self.last_event_id,
                sorted(self.sent_alerts) if self.sent_alerts else (),
                self.exceeded,
                self.crossed,
                self.burn,
                balance_fields(self.held) if self.held else None,
            )
        )

    @classmethod
    def read(cls, value: bytes) -> "AccountState":
        # Values from before forecasts, or before opening balances, have fewer fields.
        _, components, event_id, sent, exceeded, *later = _read_any(value)
        crossed, burn, held = (*later, None)[:3] if later else (int(exceeded), None, None)
        return cls(
            {
                (int(s) if s.isdecimal() else s): TotalComponent(*c[:4], *map(intern, c[4:]))
                for s, c in components.items()
            },
            UUID(event_id) if event_id else None,
            frozenset(sent),
            exceeded,
            crossed,
            Burn(*burn) if burn else None,
            held=read_balance(*held) if held else None,
        )


def guard_of(value: bytes) -> int:
    """The offset (or version) at the start of every value: of two values of a key the higher is newer."""
    end = value.find(b",")
    return int(value[1 : end if end > 0 else -1])


class NoEntry(ValueError):
    """A record of a changelog that this stream cannot have written."""


def check_entry(table: str, key: bytes | None, value: bytes | None) -> None:
    """Check a record of a table's changelog before it replaces another.

    Raises:
        NoEntry: the record has no key, or its key or value does not belong to that table.
    """
    if key is None:
        raise NoEntry("it has no key")
    if value is not None and key.startswith((ACCOUNT, OPENING_BALANCE)) != (table == JUDGE_TABLE):
        raise NoEntry(f"its key belongs to no entry of the {table}")
    if value is None:
        return
    try:
        guard_of(value)
        if key.startswith(TALLY):
            CounterKey.read(key[len(TALLY) :])
            PartitionSum.read(value)
        elif key.startswith(ACCOUNT):
            AccountWindow.read(key[len(ACCOUNT) :])
            _check_account(value)
        elif key.startswith(PRODUCER):
            key.decode()
            ProducerSequence.read(value)
        elif key.startswith(OPENING):
            key.decode()
            if CountingStart.read(value).offset < 0:
                raise NoEntry("its offset is negative")
        elif key.startswith(OPENING_BALANCE):
            key.decode()
            _, kept = _read_any(value)
            for fields in kept:
                read_balance(*fields)
        elif key == POSITION:
            position, now, *passed = _read_any(value)
            from_unix_us(now)
            if not all(isinstance(offset, int) for offset in (position, *passed[:1])):
                raise NoEntry("its position is not a number")
        else:
            raise NoEntry("its key has none of our prefixes")
    except NoEntry:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, msgspec.MsgspecError) as error:
        raise NoEntry(repr(error)[:200]) from None


def _check_account(value: bytes) -> None:
    try:
        _read_account(value)
    except msgspec.MsgspecError:
        # Written by an earlier version.
        AccountState.read(value)
