"""The types of every option that takes a time or a span of it."""

from datetime import datetime, timedelta
from typing import Any

import click

from spendmeter.contract.times import parse_time

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_MAX_UNITS = 100_000


class Moment(click.ParamType):
    """A time with its offset from UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Span(click.ParamType):
    """`30m`, `2h`, `3d` or `1w`."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        count, unit = value[:-1], value[-1:]
        if unit not in _UNITS or not count.isascii() or not count.isdecimal():
            self.fail(f"{value!r} is no span of time; write 30m, 2h, 3d or 1w", param, ctx)
        if not 0 < int(count) <= _MAX_UNITS:
            self.fail(f"{value!r} is not between 1 and {_MAX_UNITS} units", param, ctx)
        return int(count) * _UNITS[unit]
