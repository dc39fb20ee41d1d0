"""`spendmeter top`: who spends, live or in a span of the past."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from spendmeter.cli.connection import clickhouse_settings, history
from spendmeter.cli.options import (
    Moment,
    MomentOption,
    dir_option,
    json_option,
    moment_in,
    zone_option,
)
from spendmeter.cli.printing import clock, console, print_json, table, terminal_width
from spendmeter.history.export import InvalidExport, parse_month
from spendmeter.history.names import NAMED
from spendmeter.history.spenders import (
    Filters,
    Spender,
    SpendSpan,
    SpentAmounts,
    spend_by,
    total_spend,
)
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.dimensions import DIMENSIONS, Dimension
from spendmeter.values.times import format_time

REFRESH_SECONDS = 1.0
MAX_BY = 2
BAR, SHORT_BAR, NARROW = 20, 8, 100
_SHORT_ID = 8
WINDOWS = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
}
_F = TypeVar("_F", bound=Callable[..., Any])


class TopQuestion(NamedTuple):
    """What is question of history."""

    by: tuple[Dimension, ...]
    filters: Filters
    rows: int
    within: Callable[[], SpendSpan]
    """Another one each time where it is live."""
    called: str
    """The span, for people."""
    zone: ZoneInfo


class TopAnswer(NamedTuple):
    """What history said."""

    within: SpendSpan
    spenders: list[Spender]
    all_spenders: int
    total: SpentAmounts


class _By(click.ParamType):
    name = "dimensions"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Dimension, ...]:
        names = {one.replace("_", "-"): one for one in DIMENSIONS} | {one: one for one in DIMENSIONS}
        question = [name.strip() for name in value.split(",")]
        for name in question:
            if name not in names:
                self.fail(f"{name[:50]!r} is no dimension; there is {', '.join(DIMENSIONS)}", param, ctx)
        found = tuple(dict.fromkeys(names[name] for name in question))
        if len(found) > MAX_BY:
            self.fail(f"these are {len(found)}; {MAX_BY} at most", param, ctx)
        return found


def _filtered(command: _F) -> _F:
    for one in reversed(DIMENSIONS):
        option = f"--{one.replace('_', '-')}"
        command = click.option(option, f"is_{one}", multiple=True, metavar="NAME")(command)
    return command


@click.command()
@click.option(
    "--by",
    type=_By(),
    metavar="DIMENSION",
    default="key",
    show_default=True,
    help=f"One or two, such as team,model: {', '.join(DIMENSIONS)}.",
)
@click.option("--window", type=click.Choice(list(WINDOWS)), help="The last one, live.  [default: hour]")
@click.option("--from", "start", type=MomentOption(), help="A date, a time, or how long ago: 2h, 3d.")
@click.option("--to", "end", type=MomentOption(), help="The first date or time left out.  [default: now]")
@click.option("--today", "day", flag_value="today", help="Since midnight.")
@click.option("--yesterday", "day", flag_value="yesterday", help="The day before, midnight to midnight.")
@click.option("--month", is_flag=False, flag_value="", help="Such as 2026-11; alone: the present one.")
@zone_option
@_filtered
@click.option("--rows", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--wide", is_flag=True, help="Show ids beside names.")
@click.option("--once", is_flag=True, help="Print once instead of staying.")
@dir_option
@json_option
def top(
    by: tuple[Dimension, ...],
    window: str | None,
    start: Moment | None,
    end: Moment | None,
    day: str | None,
    month: str | None,
    zone: ZoneInfo,
    rows: int,
    wide: bool,
    once: bool,
    dir_: Path | None,
    as_json: bool,
    **filters: tuple[str, ...],
) -> None:
    """Who spends: by key, team, model…; live, until Ctrl-C, or in a span of the past.

    Filters (--team, --model…) are ids or names, and may be given again: any of them. An empty text is
    those that have none. The total is of everything that the filters leave, not only of the rows shown.
    """
    spans = {"--window": window, "--from": start, "--today or --yesterday": day, "--month": month}
    given = [name for name, value in spans.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} exclude one another; keep one")
    if end is not None and start is None:
        raise click.UsageError("--to needs --from")
    held: Filters = {one: filters[f"is_{one}"] for one in DIMENSIONS if filters[f"is_{one}"]}
    if given in ([], ["--window"]):
        length = WINDOWS[window or "hour"]
        question = TopQuestion(
            by, held, rows, lambda: SpendSpan(_now() - length), f"the last {window or 'hour'}", zone
        )
    else:
        span = _span(start, end, day, month, zone)
        question = TopQuestion(by, held, rows, lambda: span, _called(span, zone), zone)
        once = True
    with history(clickhouse_settings(dir_)) as client:
        if as_json:
            return print_json(_as_data(question, _answer(client, question)))
        if once or not console().is_terminal:
            return console().print(_shown(question, _answer(client, question), wide))
        return _follow(lambda: _shown(question, _answer(client, question), wide))


def _span(
    start: Moment | None, end: Moment | None, day: str | None, month: str | None, zone: ZoneInfo
) -> SpendSpan:
    """The span that was question for; open, where it reaches into the present."""
    now = _now()
    today = now.astimezone(zone).date()
    if day is not None:
        first = today if day == "today" else today - timedelta(days=1)
        end_of_day = None if day == "today" else moment_in(zone, today, now)
        return SpendSpan(moment_in(zone, first, now), end_of_day)
    if month is not None:
        return _month(month, today, zone, now)
    assert start is not None, "one of them is given"
    begin = moment_in(zone, start, now)
    until = None if end is None else moment_in(zone, end, now)
    if until is not None and until <= begin:
        raise click.UsageError("--to is not after --from; it is the first moment that is left out")
    return SpendSpan(begin, until)


def _month(month: str, today: date, zone: ZoneInfo, now: datetime) -> SpendSpan:
    if not month:
        return SpendSpan(moment_in(zone, today.replace(day=1), now))
    try:
        start, end = (moment_in(zone, moment, now) for moment in parse_month(month, zone))
    except InvalidExport as error:
        raise click.BadParameter(str(error), param_hint="--month") from None
    return SpendSpan(start, end)


def _answer(client: Client, question: TopQuestion) -> TopAnswer:
    within = question.within()
    spenders, count = spend_by(client, question.by, within, question.filters, question.rows)
    return TopAnswer(within, spenders, count, total_spend(client, within, question.filters))


def _follow(picture: Callable[[], Group]) -> None:
    try:
        with Live(picture(), console=console(), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(REFRESH_SECONDS)
                live.update(picture(), refresh=True)
    except KeyboardInterrupt:
        return


def _shown(question: TopQuestion, answer: TopAnswer, wide: bool) -> Group:
    by = ", ".join(one.replace("_", " ") for one in question.by)
    title = Text(f"{question.called}, by {by}   {clock(_now(), question.zone)[11:]} {question.zone.key}")
    if not answer.spenders:
        return Group(
            title, Text(f"no {'such ' if question.filters else ''}request has finished in this time")
        )
    total = answer.total
    said = f"together ${_usd(total.usd, _decimals([total]))} in {total.requests:,} requests"
    lines = [title, Text(said)]
    if "tag" in question.by:
        lines.append(Text("a request with several tags is in several rows, and once in this total"))
    lines.append(_table(question, answer, wide))
    if answer.all_spenders > len(answer.spenders):
        lines.append(Text(f"… {answer.all_spenders - len(answer.spenders):,} more; --rows shows them"))
    return Group(*lines)


def _table(question: TopQuestion, answer: TopAnswer, wide: bool) -> Text:
    spenders = answer.spenders
    called = [one.replace("_", " ") for one in question.by]
    with_id = [at for at, one in enumerate(question.by) if wide and one in NAMED]
    ids = [f"{called[at]} id" for at in with_id]
    extra = [name for name in ("failures", "unpriced") if any(getattr(one.spent, name) for one in spenders)]
    width = terminal_width()
    bar = BAR if width is None or width >= NARROW else SHORT_BAR
    largest, decimals = max(one.spent.usd for one in spenders), _decimals([one.spent for one in spenders])
    rows = [
        [
            *names,
            *(one.ids[at] for at in with_id),
            _usd(one.spent.usd, decimals),
            "█" * round(float(one.spent.usd / largest) * bar) if largest > 0 and one.spent.usd > 0 else "",
            f"{one.spent.requests:,}",
            _tokens(one.spent.input_tokens),
            _tokens(one.spent.output_tokens),
            *(f"{getattr(one.spent, name):,}" if getattr(one.spent, name) else "" for name in extra),
        ]
        for names, one in zip(_names(spenders), spenders, strict=True)
    ]
    headings = [*called, *ids, "spent (USD)", "", "requests", "in", "out"]
    headings += ["failed" if name == "failures" else name for name in extra]
    return table(headings, rows, right=headings[len(called) + len(ids) :], spare=("out", "in", ""))


def _names(spenders: Sequence[Spender]) -> list[list[str]]:
    """Names as people know them; of those that share one, each has the beginning of its id."""
    shared = [
        Counter(name for name, _ in {*zip(names, ids, strict=True)})
        for names, ids in zip(
            zip(*(one.names for one in spenders), strict=True),
            zip(*(one.ids for one in spenders), strict=True),
            strict=True,
        )
    ]
    return [
        [
            _called_by(name, id_, is_shared=counts[name] > 1)
            for name, id_, counts in zip(one.names, one.ids, shared, strict=True)
        ]
        for one in spenders
    ]


def _called_by(name: str, id_: str, *, is_shared: bool) -> str:
    if not name:
        return id_ or "(none)"
    return f"{name} ({id_[:_SHORT_ID]})" if is_shared else name


def _decimals(spent: Sequence[SpentAmounts]) -> int:
    """As many as one of the amounts needs, two at the least, so that they stand one below the other."""
    return max((len(f"{one.usd:f}".partition(".")[2].rstrip("0")) for one in spent), default=2) or 2


def _usd(amount: Decimal, decimals: int) -> str:
    return f"{amount:,.{max(decimals, 2)}f}"


def _tokens(count: int) -> str:
    """`999`, `12.3k`, `4.5M`; --json has them whole."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.1f}{name}"
    return str(count)


def _called(span: SpendSpan, zone: ZoneInfo) -> str:
    end = "now" if span.end is None else clock(span.end, zone)[:-3]
    return f"{clock(span.start, zone)[:-3]} to {end}"


def _now() -> datetime:
    return datetime.now(UTC)


def _as_data(question: TopQuestion, answer: TopAnswer) -> dict[str, Any]:
    return {
        "from": format_time(answer.within.start),
        "to": format_time(answer.within.end or _now()),
        "by": [*question.by],
        "total": _spent_as_data(answer.total),
        "all_rows": answer.all_spenders,
        "rows": [
            {
                **dict(zip(question.by, one.ids, strict=True)),
                **{
                    f"{name}_name": known for name, known in zip(question.by, one.names, strict=True) if known
                },
                **_spent_as_data(one.spent),
            }
            for one in answer.spenders
        ],
    }


def _spent_as_data(spent: SpentAmounts) -> dict[str, Any]:
    fields = spent._asdict()
    return {"spent_usd": f"{fields.pop('usd'):f}", **fields}
