"""The budget: which spend is added up, over which period, up to which limit."""

import re
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import Field, Strict, field_validator, model_validator

from spendmeter.contract.money import LIMIT_OF_AMOUNTS_NANOUSD, InvalidAmount, NanoUsd, from_usd
from spendmeter.contract.wire import MAX_TEXT_CHARS, OptionalText, Text, Whole, Wire
from spendmeter.values.dimensions import Dimension
from spendmeter.values.period import plain_period, read_period
from spendmeter.values.times import NO_WINDOWS_FROM, UtcTime, time_zones

ANY = "*"
"""In a match: one account per distinct value of the dimension."""
GLOBBED: tuple[Dimension, ...] = ("model", "model_group")
"""Dimensions in whose values a `*` stands for any characters: one account for everything that matches."""

LAST_YEAR = NO_WINDOWS_FROM.year - 1
MAX_RAISES = 100
MAX_THRESHOLDS = 100
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,199}")


class Action(StrEnum):
    """What a spent budget does: refuse, alert, or only count."""

    BLOCK = "block"
    WARN = "warn"
    OBSERVE = "observe"


class Enforcement(StrEnum):
    """What a budget counts when it refuses: finished requests alone, or running ones, too."""

    SETTLED = "settled"
    """Refuse once finished requests have reached the limit."""
    STRICT = "strict"
    """Hold an upper estimate of each running request, so that nothing is ever spent past the limit."""


class Raise(Wire):
    """A temporary addition to the limit that ends by itself."""

    amount_nanousd: Annotated[NanoUsd, Strict(), Field(gt=0, le=LIMIT_OF_AMOUNTS_NANOUSD)]
    until: UtcTime


class Budget(Wire):
    """One line of the rule book; `match` × `period` × `limit` × `action`.

    An account is a budget and one subject; its windows are computed from this record alone
    (see window.py), so a raise or reset is in force wherever this record has been read.
    """

    id: str
    match: dict[Dimension, str]
    limit_nanousd: Annotated[NanoUsd, Strict(), Field(gt=0, le=LIMIT_OF_AMOUNTS_NANOUSD)]
    period: str
    timezone: str = "UTC"
    starts_at: UtcTime | None = None
    """Anchor of an ISO 8601 duration; nothing is counted before it."""
    reset_at: UtcTime | None = None
    """The latest reset: spend before it no longer counts."""
    warn_at: tuple[float, ...] = Field(default=(0.8,), max_length=MAX_THRESHOLDS)
    """Fractions of the limit at which an alert fires, rising, each in (0, 1)."""
    action: Action = Action.BLOCK
    enforcement: Enforcement = Enforcement.SETTLED
    unpriced: str = "allow"
    """`allow`, `block`, or USD per request as a decimal string."""
    raises: tuple[Raise, ...] = Field(default=(), max_length=MAX_RAISES)
    paused: bool = False
    """It still counts, signals and warns, but refuses nothing."""
    replaces: OptionalText = None
    revision: Whole = Field(default=1, ge=1)
    updated_at: UtcTime
    updated_by: Text = ""

    @field_validator("id")
    @classmethod
    def _id_is_plain(cls, value: str) -> str:
        if _ID.fullmatch(value) is None:
            raise ValueError(
                f"id {value!r}: use 1 to 200 letters, digits and . _ : @ / - and start with a letter or digit"
            )
        return value

    @field_validator("match")
    @classmethod
    def _values_are_given(cls, value: dict[Dimension, str]) -> dict[Dimension, str]:
        for dimension, wanted in value.items():
            if not wanted:
                raise ValueError(
                    f'match.{dimension} is empty; give a value, or "*" for one account per value'
                )
            if len(wanted) > MAX_TEXT_CHARS:
                raise ValueError(
                    f"match.{dimension} has {len(wanted)} characters; {MAX_TEXT_CHARS} at most, as in events"
                )
            if dimension in GLOBBED and wanted != ANY and not wanted.strip("*"):
                raise ValueError(
                    f'match.{dimension} {wanted!r} fits everything; write "*" for one account per value,'
                    f" or leave {dimension} out for one account of all"
                )
        return value

    @field_validator("period")
    @classmethod
    def _period_is_known(cls, value: str) -> str:
        return plain_period(value)

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        if value not in time_zones():
            raise ValueError(f"timezone {value!r} is not an IANA time zone such as Europe/Berlin")
        return value

    @field_validator("starts_at", "reset_at")
    @classmethod
    def _has_windows_after(cls, value: datetime | None) -> datetime | None:
        if value is not None and value >= NO_WINDOWS_FROM:
            raise ValueError(f"{value:%Y} is too far ahead: windows end with the year {LAST_YEAR}")
        return value

    @field_validator("warn_at")
    @classmethod
    def _fractions_rise(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < fraction < 1 for fraction in value):
            raise ValueError("warn_at: each fraction lies between 0 and 1, such as 0.8 for 80 %")
        return tuple(sorted(set(value)))

    @field_validator("unpriced")
    @classmethod
    def _unpriced_is_a_policy(cls, value: str) -> str:
        if value in ("allow", "block"):
            return value
        try:
            flat = from_usd(value)
        except InvalidAmount:
            raise ValueError(
                f"unpriced {value!r}: use allow, block, or USD per request such as '0.01'"
            ) from None
        if flat < 0:
            raise ValueError(
                f"unpriced {value!r} is negative; use allow, block, or USD per request such as '0.01'"
            )
        return value

    @model_validator(mode="after")
    def _duration_has_an_anchor(self) -> Self:
        if read_period(self.period).kind == "duration" and self.starts_at is None:
            raise ValueError(f"period {self.period} needs starts_at, the moment its first window begins")
        return self

    @model_validator(mode="after")
    def _replaces_another(self) -> Self:
        if self.replaces == self.id:
            raise ValueError(f"replaces names the budget itself; name the budget that {self.id} overrides")
        return self

    @model_validator(mode="after")
    def _raised_it_can_still_be_held(self) -> Self:
        if self.limit_nanousd + sum(r.amount_nanousd for r in self.raises) > LIMIT_OF_AMOUNTS_NANOUSD:
            raise ValueError(
                "raises: with the limit they are beyond the largest amount (999999999.999999999 USD)"
            )
        return self

    @property
    def refuses(self) -> bool:
        """Whether this budget may refuse a request."""
        return self.action is Action.BLOCK and not self.paused

    @property
    def zone(self) -> ZoneInfo:
        """The time zone whose midnights and months bound the windows."""
        return ZoneInfo(self.timezone)

    def limit_at(self, time: datetime) -> NanoUsd:
        """The limit in force: the permanent one and every raise that has not ended."""
        if not self.raises:
            return self.limit_nanousd
        return NanoUsd(self.limit_nanousd + sum(r.amount_nanousd for r in self.raises if time < r.until))

    def unpriced_flat_nanousd(self) -> NanoUsd:
        """What one unpriced request counts for against this budget; 0 unless a flat amount is set."""
        return NanoUsd(0) if self.unpriced in ("allow", "block") else from_usd(Decimal(self.unpriced))
