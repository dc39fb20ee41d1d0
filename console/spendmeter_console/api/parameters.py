"""What a request asks for, read from its query: what cannot be is refused with its field's name. Pure."""

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from spendmeter.contract.signal import State
from spendmeter.contract.wire import MAX_TEXT_CHARS
from spendmeter.files.scalars import nearest
from spendmeter.values.dimensions import DIMENSIONS, Dimension
from spendmeter.values.times import TimeSpan, from_unix_us, parse_time, time_zones, to_unix_us
from spendmeter_console.history.queries import MAX_ROWS
from spendmeter_console.history.rows import Cursor
from spendmeter_console.history.spans import Interval, InvalidSpan, checked, midnight, month_start

DEFAULT_ROWS = 100
UTC_ZONE = ZoneInfo("UTC")
RANGES = {
    "today": "today",
    "yesterday": "yesterday",
    "7d": "the last 7 days",
    "30d": "the last 30 days",
    "month": "this month",
    "last-month": "last month",
}
MAX_BY = 2
MAX_OFFSET = 100_000


class InvalidParameter(ValueError):
    """A parameter that cannot be; the message says what would be."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(f"{field}: {message}")


class PageQuery(NamedTuple):
    """The parameters of one request, as they came."""

    pairs: Sequence[tuple[str, str]]
    now: datetime

    def allow(self, names: Iterable[str]) -> None:
        """Refuse what is none of these."""
        known = [*names]
        for name, _ in self.pairs:
            if name not in known:
                raise InvalidParameter(name[:100], f"there is no such parameter; {nearest(name, known)}")

    def one(self, name: str, default: str = "") -> str:
        found = self.all(name)
        if len(found) > 1:
            raise InvalidParameter(name, "it is given twice; keep one")
        return found[0] if found else default

    def all(self, name: str) -> list[str]:
        found = [value for key, value in self.pairs if key == name]
        for value in found:
            if len(value) > MAX_TEXT_CHARS:
                raise InvalidParameter(name, f"it has more than {MAX_TEXT_CHARS} characters; shorten it")
            if "\x00" in value or not _is_unicode(value):
                raise InvalidParameter(name, "it holds what is no text; write it as UTF-8 without NUL")
        return found

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        value = self.one(name) or default
        if value not in choices and value != default:
            raise InvalidParameter(name, f"{value!r} is not known; {nearest(value, choices)}")
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        value = self.one(name)
        if not value:
            return default
        if not (value.isascii() and value.isdecimal() and len(value) < 10 and least <= int(value) <= most):
            raise InvalidParameter(name, f"{value[:20]!r} is no whole number from {least} to {most:,}")
        return int(value)

    def limit(self) -> int:
        return self.whole("limit", DEFAULT_ROWS, 1, MAX_ROWS)

    def zone(self, default: ZoneInfo = UTC_ZONE) -> ZoneInfo:
        value = self.one("zone")
        return zone_of("zone", value) if value else default

    def state(self) -> str:
        return self.choice("state", [*State], "")

    def dimension(self, name: str, value: str) -> Dimension:
        for one in DIMENSIONS:
            if one == value:
                return one
        raise InvalidParameter(name, f"{value[:50]!r} is no dimension; {nearest(value, DIMENSIONS)}")

    def by(self, default: Sequence[Dimension] = ()) -> list[Dimension]:
        """One or two dimensions; none twice."""
        found = [self.dimension("by", value) for value in self.all("by") if value]
        if len(found) > MAX_BY:
            raise InvalidParameter("by", f"there are {len(found)}; give {MAX_BY} at most")
        if len(set(found)) < len(found):
            raise InvalidParameter("by", f"{found[0]} is given twice; keep one")
        return found or [*default]

    def filters(self) -> dict[Dimension, str]:
        """`team=red&model=gpt-4o`: each dimension is a parameter of its own name."""
        given = {name for name, _ in self.pairs}
        return {one: self.one(one) for one in DIMENSIONS if one in given}

    def span(self, zone: ZoneInfo, default: str = "30d") -> TimeSpan:
        """`from` and `to`, as times or as days of the zone; or `range`."""
        start, end, named = self.one("from"), self.one("to"), self.one("range")
        if named and (start or end):
            raise InvalidParameter("range", "give either this, or from and to")
        if not start and not end:
            return named_span(self.choice("range", [*RANGES], default), self.now, zone)
        if not start:
            raise InvalidParameter("from", "to is given without it; give both, or range")
        begin = _moment("from", start, zone)
        # A day that is named as the end is in it.
        until = _moment("to", end, zone, days=1) if end else max(self.now, begin + timedelta(microseconds=1))
        try:
            return checked(TimeSpan(begin, until))
        except InvalidSpan as invalid:
            raise InvalidParameter("to" if until <= begin else "from", str(invalid)) from None

    def interval(self, span: TimeSpan) -> Interval:
        days = (span.end - span.start) / timedelta(days=1)
        fitting = Interval.HOUR if days <= 3 else Interval.DAY if days <= 100 else Interval.MONTH
        return Interval(self.choice("interval", [*Interval], fitting))

    def after(self) -> Cursor | None:
        """Where the page before ended."""
        value = self.one("after")
        if not value:
            return None
        try:
            at, identity = json.loads(base64.urlsafe_b64decode(value.encode("ascii") + b"=="))
            return Cursor(from_unix_us(int(at)), UUID(identity))
        except (ValueError, TypeError, OverflowError, binascii.Error):
            raise InvalidParameter("after", "it is no `next` of an answer; leave it out to begin") from None

    def after_name(self) -> str:
        """Where a page of names ended."""
        value = self.one("after")
        try:
            return base64.urlsafe_b64decode(value.encode("ascii") + b"==").decode() if value else ""
        except (ValueError, binascii.Error):
            raise InvalidParameter("after", "it is no `next` of an answer; leave it out to begin") from None


def cursor_text(at: datetime, identity: UUID) -> str:
    """What `after` reads back."""
    return _encoded(json.dumps([to_unix_us(at), str(identity)]).encode())


def name_text(name: str) -> str:
    """What `after_name` reads back."""
    return _encoded(name.encode())


def named_span(name: str, now: datetime, zone: ZoneInfo) -> TimeSpan:
    """A range of RANGES. What reaches into today ends with it."""
    tomorrow = midnight(now, zone, 1)
    match name:
        case "today":
            return TimeSpan(midnight(now, zone), tomorrow)
        case "yesterday":
            return TimeSpan(midnight(now, zone, -1), midnight(now, zone))
        case "7d":
            return TimeSpan(midnight(now, zone, -6), tomorrow)
        case "month":
            return TimeSpan(month_start(now, zone), tomorrow)
        case "last-month":
            return TimeSpan(month_start(now, zone, -1), month_start(now, zone))
    return TimeSpan(midnight(now, zone, -29), tomorrow)


def zone_of(field: str, value: str) -> ZoneInfo:
    """The zone of that name. Raises InvalidParameter."""
    if value not in time_zones():
        raise InvalidParameter(field, f"{value[:50]!r} is no IANA time zone such as Europe/Berlin")
    return ZoneInfo(value)


def uuid_of(field: str, value: str) -> UUID:
    """The id that is written there. Raises InvalidParameter."""
    try:
        return UUID(value)
    except ValueError:
        raise InvalidParameter(
            field, f"{value[:50]!r} is no id such as 019a2c5e-5c00-7abc-8def-0123456789ac"
        ) from None


def _moment(field: str, value: str, zone: ZoneInfo, days: int = 0) -> datetime:
    try:
        if len(value) == 10:
            day = datetime.fromisoformat(value).replace(tzinfo=zone)
            return parse_time(midnight(day, zone, days).isoformat())
        return parse_time(value)
    except (ValueError, OverflowError):
        raise InvalidParameter(
            field, f"{value[:50]!r} is no day such as 2026-11-22 and no time such as 2026-11-22T10:00:00Z"
        ) from None


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
