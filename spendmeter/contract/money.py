"""Money is an integer of nano-USD everywhere; only this file rounds."""

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import NewType

NanoUsd = NewType("NanoUsd", int)
"""A signed amount in nano-USD: 1 USD = 1_000_000_000."""

# ClickHouse's Decimal(18, 9) holds 18 digits; history could not store a larger amount.
LIMIT_OF_AMOUNTS_NANOUSD = NanoUsd(10**18 - 1)

_ONE_NANO = Decimal("1e-9")
_LIMIT_USD = Decimal(LIMIT_OF_AMOUNTS_NANOUSD).scaleb(-9)
# Our own context, because the thread's belongs to the host process. Its digits hold the sum of
# as many amounts as Kafka has offsets.
_CONTEXT = Context(prec=40, rounding=ROUND_HALF_EVEN)


class InvalidAmount(ValueError):
    """A text or number that is not an amount of money that we can store."""


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
    # copy_abs does no arithmetic: it neither rounds nor overflows with an exponent of a billion.
    if amount.copy_abs() > _LIMIT_USD:
        raise InvalidAmount(f"{usd} USD is beyond the largest amount we hold (999999999.999999999)")
    return NanoUsd(int(amount.quantize(_ONE_NANO, context=_CONTEXT).scaleb(9, _CONTEXT)))


def from_sum_usd(usd: Decimal) -> NanoUsd:
    """Read a sum that history added up, exactly. Unlike one amount it may be of any size."""
    return NanoUsd(int(usd.scaleb(9, _CONTEXT)))


def from_float_usd(usd: float) -> NanoUsd:
    """Convert LiteLLM's binary float once, through its shortest decimal form.

    `repr` gives the shortest text that reads back as the same float, so 1.05e-05 means
    10,500 nano-USD and not its 53-bit neighbour. A subclass (numpy's) has another `repr`,
    so float's own is used.

    Raises:
        InvalidAmount: NaN, infinite, or more than history can store.
    """
    return from_usd(float.__repr__(float(usd)))


def to_usd(amount: NanoUsd) -> Decimal:
    """The same amount as a Decimal of USD with nine decimals, exactly."""
    return Decimal(amount).scaleb(-9, _CONTEXT)


def format_usd(amount: NanoUsd) -> str:
    """The amount in people's notation: no exponent, no trailing zeros (`0.001`, `12`, `-0.5`)."""
    text = f"{to_usd(amount):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
