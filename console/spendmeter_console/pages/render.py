"""How values are shown: money, times, names. Whatever a user can name is text, here and in every template."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spendmeter.contract.money import NanoUsd, format_usd, to_usd
from spendmeter.values.account import subject_in
from spendmeter.values.ids import short
from spendmeter.visible import one_line, visible

_WIDE_FROM = 10_000_000_000
_MIDDLE_FROM = 10_000_000
_CENT = 10_000_000


def money(amount: NanoUsd | int) -> str:
    """`$1,234.56`, with as many decimals as say something; the exact amount is in the element's value."""
    size = abs(amount)
    exact = to_usd(NanoUsd(size))
    if size >= _WIDE_FROM or size % _CENT == 0:
        text = f"{exact:,.2f}"
    elif size >= _MIDDLE_FROM:
        text = f"{exact:,.4f}"
    else:
        text = format_usd(NanoUsd(size))
    return f"{'-' if amount < 0 else ''}${text}"


def usd(amount: NanoUsd | int | None) -> Markup:
    """An amount, with its exact value for who reads the page with a program."""
    if amount is None:
        return Markup('<span class="none">–</span>')
    return Markup('<data value="{}">{}</data>').format(format_usd(NanoUsd(amount)), money(amount))


def name(text: str) -> Markup:
    """What somebody has named: isolated, so that its direction of writing ends with it."""
    return (
        Markup("<bdi>{}</bdi>").format(visible(text)) if text else Markup('<span class="none">(none)</span>')
    )


def moment(time: datetime | None, zone: ZoneInfo, now: datetime, form: str = "") -> Markup:
    """A time in the reader's zone: of today the clock alone."""
    if time is None:
        return Markup('<span class="none">–</span>')
    today = now.astimezone(zone).date()
    try:
        local = time.astimezone(zone)
    except OverflowError:
        # Somebody may have written a time of the year 9999.
        local = time
    whole = f"{local:%Y-%m-%d %H:%M:%S}"
    forms = {"day": f"{local:%d %b}", "hour": f"{local:%H:%M}", "month": f"{local:%b %Y}", "whole": whole}
    shown = forms.get(form) or (f"{local:%H:%M:%S}" if local.date() == today else f"{local:%d %b %H:%M}")
    return Markup('<time datetime="{}" title="{} {}">{}</time>').format(
        time.isoformat(), whole, f"{local:%Z}", shown
    )


def until(time: datetime | None, now: datetime) -> str:
    """`in 3 h`; the past is `now`."""
    if time is None:
        return "never"
    seconds = (time - now).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"in {seconds / size:.0f} {unit}"
    return "in less than a minute" if seconds > 0 else "now"


def account_label(account: str, names: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """The dimensions of an account: each with what people call its value, and the value."""
    return [(d, names.get(v, "") if d == "key" else "", v) for d, v in subject_in(account).items()]


def link(path: str, *pairs: tuple[str, Any]) -> str:
    """An address with these parameters; those without a value are left out."""
    query = urlencode([(name, str(value)) for name, value in pairs if value is not None])
    return f"{path}?{query}" if query else path


def segment(text: str) -> str:
    """A text as one segment of an address."""
    return quote(text, safe="")


def percent(share: float) -> str:
    """A share of a limit, rounded down: 100 % is the limit. Beyond all measure it stays short."""
    return f"{math.floor(round(share * 100, 6)):,} %" if share < 100 else "> 9,999 %"


def environment() -> Environment:
    """The templates. Everything is escaped, and a name that a template misspells is an error."""
    found = Environment(
        loader=PackageLoader("spendmeter_console.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "usd": usd,
        "money": money,
        "name": name,
        "short": short,
        "segment": segment,
        "percent": percent,
        "visible": visible,
        "one_line": one_line,
        "number": lambda value: f"{value:,}",
    }
    found.globals |= {"link": link, "account_label": account_label}
    return found
