"""Options and arguments of several commands: the stack, JSON, money, times, a file."""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from spendmeter.contract.money import InvalidAmount, NanoUsd, from_usd
from spendmeter.files.text import UnreadableFile, read_text
from spendmeter.values.times import EPOCH, parse_time, time_zones

INVALID_FILE = 2
"""The exit code if a file cannot be used; none of it was."""
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_MAX_UNITS = 100_000
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
F = TypeVar("F", bound=Callable[..., Any])

dir_option = click.option(
    "--dir",
    "dir_",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the stack.  [default: $SPENDMETER_DIR, else .spendmeter]",
)


def wait_option(help_: str) -> Callable[[F], F]:
    """`--wait SECONDS`, passed on as `wait_seconds`."""
    return click.option(
        "--wait", "wait_seconds", type=click.FloatRange(min=0), default=30.0, show_default=True, help=help_
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
ids_option = click.option("--wide", is_flag=True, help="Show ids instead of names.")
file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))


class _Money(click.ParamType):
    name = "usd"

    def _amount(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NanoUsd:
        try:
            return from_usd(value)
        except InvalidAmount as error:
            self.fail(str(error), param, ctx)


class CostOption(_Money):
    """An amount of 0 or more, exact to the nano-dollar."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NanoUsd:
        amount = self._amount(value, param, ctx)
        if amount < 0:
            self.fail(f"{value} USD is below 0; `spendmeter void` sets a cost to zero", param, ctx)
        return amount


class UsdOption(_Money):
    """An amount above 0, exact to the nano-dollar."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NanoUsd:
        amount = self._amount(value, param, ctx)
        if amount <= 0:
            self.fail(f"{value} USD is not above 0; `spendmeter budget remove` removes a budget", param, ctx)
        return amount


class TimeOption(click.ParamType):
    """A time with its offset from UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DurationOption(click.ParamType):
    """`30m`, `2h`, `3d` or `1w`."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        count, unit = value[:-1], value[-1:]
        if unit not in _UNITS or not count.isascii() or not count.isdecimal():
            self.fail(f"{value!r} is no span of time; write 30m, 2h, 3d or 1w", param, ctx)
        if not 0 < int(count) <= _MAX_UNITS:
            self.fail(f"{value!r} is not between 1 and {_MAX_UNITS} units", param, ctx)
        return int(count) * _UNITS[unit]


class ZoneOption(click.ParamType):
    """An IANA time zone."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:
        if isinstance(value, ZoneInfo):
            return value
        if value not in time_zones():
            self.fail(
                f"{value[:50]!r} is no time zone; write an IANA name, such as Europe/Berlin", param, ctx
            )
        return ZoneInfo(value)


class MomentOption(click.ParamType):
    """`2h` ago, a date as its midnight in the reader's zone, or a time with its offset; see `moment_in`."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Moment":
        if value[-1:] in _UNITS and value[:-1].isdecimal():
            return DurationOption().convert(value, param, ctx)
        try:
            return date.fromisoformat(value) if len(value) == len("2026-11-01") else parse_time(value)
        except ValueError:
            self.fail(
                f"{value[:50]!r} is no time; write a date such as 2026-11-01, a time such as"
                " 2026-11-01T08:00:00Z, or how long ago: 2h, 3d",
                param,
                ctx,
            )


Moment = timedelta | date
"""What MomentOption reads: so long ago, a date, or a datetime, which is a date, too."""


def moment_in(zone: ZoneInfo, moment: Moment, now: datetime) -> datetime:
    """The moment in UTC; a date is its midnight in the zone. Within what history holds: 1970 to 2199."""
    try:
        if isinstance(moment, timedelta):
            found = now - moment
        elif isinstance(moment, datetime):
            found = moment
        else:
            found = datetime.combine(moment, time(), zone).astimezone(UTC)
    except OverflowError:
        return EPOCH if isinstance(moment, date) and moment.year < EPOCH.year else _LATEST
    return min(max(found, EPOCH), _LATEST)


def local_zone() -> ZoneInfo:
    """The zone of whoever reads: TZ, else the machine's, else UTC."""
    place = os.environ.get("TZ", "").removeprefix(":")
    if not place:
        _, _, place = os.path.realpath("/etc/localtime").rpartition("/zoneinfo/")
    return ZoneInfo(place if place in time_zones() and place != "Etc/UTC" else "UTC")


zone_option = click.option(
    "--zone",
    "--timezone",
    "zone",
    type=ZoneOption(),
    default=local_zone,
    show_default="yours",
    help="Whose midnights and clock; an IANA name.",
)


def read_file(name: str) -> str:
    """The text of the file. If it is not UTF-8 text, the command ends with a sentence, exit 2."""
    try:
        with click.open_file(name, "rb") as file:
            return read_text(file, name)
    except UnreadableFile as error:
        said = str(error)
    except OSError as error:
        said = f"{name} cannot be read: {error.strerror or error}"
    except RuntimeError:
        # click's word for a closed standard input.
        said = "standard input is closed; name a file"
    refusal = click.ClickException(said)
    refusal.exit_code = INVALID_FILE
    raise refusal from None
