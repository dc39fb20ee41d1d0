"""Money is an integer of nano-USD everywhere; this file is the only place that rounds."""

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import NewType

NanoUsd = NewType("NanoUsd", int)
"""A signed amount in nano-USD: 1 USD = 1_000_000_000."""

# ClickHouse's Decimal(18, 9) holds 18 digits; an amount beyond it could not be kept in history.
LIMIT_OF_AMOUNTS_NANOUSD = NanoUsd(10**18 - 1)

_ONE_NANO = Decimal("1e-9")
_LIMIT_USD = Decimal(LIMIT_OF_AMOUNTS_NANOUSD).scaleb(-9)
# Our own, because the thread's belongs to the process that we run in. The digits hold any sum of
# as many amounts as Kafka has offsets.
_CONTEXT = Context(prec=40, rounding=ROUND_HALF_EVEN)


class InvalidAmount(ValueError):
    """A text or number that is no amount of money we can hold."""


def from_usd(usd: Decimal | str | int) -> NanoUsd:
    """Read a USD amount exactly, rounded half to even at the nano-dollar.

    Raises:
        InvalidAmount: not a finite number, or beyond ±999,999,999.999999999 USD.
    """
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        raise InvalidAmount(f"{usd!r} is not a decimal number of USD, such as 0.25") from None
    if not amount.is_finite():
        raise InvalidAmount(f"{usd!r} is not a finite number of USD")
    # copy_abs is no arithmetic: it neither rounds nor overflows on an exponent of a billion.
    if amount.copy_abs() > _LIMIT_USD:
        raise InvalidAmount(f"{usd} USD is beyond the largest amount we hold (999999999.999999999)")
    return NanoUsd(int(amount.quantize(_ONE_NANO, context=_CONTEXT).scaleb(9, _CONTEXT)))


def from_float_usd(usd: float) -> NanoUsd:
    """Convert LiteLLM's binary float once, through its shortest decimal form.

    `repr` gives the shortest text that reads back as the same float, so 1.05e-05 means
    10,500 nano-USD and not the 53-bit neighbour of it. A subclass (numpy's) prints itself otherwise,
    so float's own form is asked for.

    Raises:
        InvalidAmount: NaN, infinite, or beyond what history can hold.
    """
    return from_usd(float.__repr__(float(usd)))


def to_usd(amount: NanoUsd) -> Decimal:
    """The same amount as a Decimal of USD with nine places, exactly."""
    return Decimal(amount).scaleb(-9, _CONTEXT)


def format_usd(amount: NanoUsd) -> str:
    """The amount as people write it: no exponent, no trailing zeros (`0.001`, `12`, `-0.5`)."""
    text = f"{to_usd(amount):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
