"""What a person reads in three seconds: who, how much of what, since when, what happens next. Pure."""

import string
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd, format_usd, to_usd
from spendmeter.contract.signal import Signal
from spendmeter.domain.matching import BudgetBook
from spendmeter.files.scalars import nearest
from spendmeter.history.name_lookup import NameLookup, ids_of, named_message
from spendmeter.history.names import NO_NAMES, Names, name_of
from spendmeter.visible import one_line
from spendmeter_sinks.alerts.routes import Route

FIELDS = (
    "who",
    "spent",
    "limit",
    "share",
    "since",
    "until",
    "next",
    "link",
    "raise_link",
    "pause_link",
    "budget",
    "kind",
    "message",
    "at",
    "key",
    "user",
    "team",
    "organization",
    "project",
    "key_name",
    "user_name",
    "team_name",
    "organization_name",
    "project_name",
    "ids",
)
"""What a template may name, each in braces."""
TEMPLATE = "\n".join(
    (
        "{spent} of {limit} ({share}) since {since}",
        "{next}",
        "budget {budget}",
        "{ids}",
        "{link}",
        "Raise it: {raise_link}",
        "Pause it: {pause_link}",
    )
)
TEMPLATE_WITHOUT_ACCOUNT = "{message}\n{ids}\n{link}"
_ACCOUNT = "/budgets/{budget}?account={account}"
_TITLES = {
    AlertKind.ANOMALY: "Unusual spend",
    AlertKind.UNUSED: "Not used any more",
    AlertKind.DIGEST: "Spend",
}
"""Of alerts without an account that concern somebody, or everything."""
_OF_A_LIMIT = (AlertKind.THRESHOLD, AlertKind.EXCEEDED, AlertKind.FORECAST)
_FOR_INFORMATION = (AlertKind.RECOVERED, AlertKind.GATEWAY_BACK, AlertKind.UNUSED, AlertKind.DIGEST)
_CENT = 10_000_000
_DIMENSIONS = ("key", "user", "team", "organization", "project")
_DIGESTS = uuid.uuid5(uuid.NAMESPACE_DNS, "digest.alert.spendmeter.dev")
MAX_ALERTS_SHOWN = 50


class Severity(StrEnum):
    """How much it matters to who reads it."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Message(NamedTuple):
    """What a receiver gets, in whatever form it wants."""

    id: str
    """The alert's; of a digest or reminder one of its own. The same again is the same message."""
    alerts: tuple[Alert, ...]
    title: str
    text: str
    severity: Severity
    link: str = ""
    raise_link: str = ""
    """The page's form that raises the limit, filled in; it is sent by who may, and has confirmed."""
    pause_link: str = ""
    reminder: int = 0
    """Which one; 0 is the alert itself."""
    names: Names = NO_NAMES
    """Of the ids in its alerts, as far as they are known."""


class MessageContext(NamedTuple):
    """What a message says beside its alert."""

    budget: Budget | None = None
    """As it is now; None of one that is gone."""
    link: str = ""
    """A URL of the page, with `{account}` and `{budget}` in it; empty: where the page has the account."""
    page: str = ""
    """Where the page itself is, for links to its forms."""
    names: Names = NO_NAMES


class MessageContexts(NamedTuple):
    """What messages say beside their alerts: budgets as they are now, names, and where the page is."""

    budgets: BudgetBook
    lookup: NameLookup
    link: str
    page: str

    def of(self, alert: Alert) -> MessageContext:
        """Of one alert, with the names that have been learnt."""
        budget = self.budgets.get(alert.signal.budget_id) if alert.signal is not None else None
        return MessageContext(budget, self.link, self.page, self.lookup.known(ids_of([alert])))

    async def learn(self, alerts: Iterable[Alert]) -> None:
        """Learn the names of all of them at once; for a fraction of a second at the most."""
        await self.lookup.learn(ids_of(alerts))


def wrong_fields(template: str) -> list[str]:
    """What is wrong with a template, a sentence each."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        return [f"{error}; a brace that is meant as one is written twice, {{{{ or }}}}"]
    wrong = []
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in FIELDS:
            wrong.append(f"there is no field {{{name}}}; {nearest(name, FIELDS)}")
        elif spec or conversion:
            wrong.append(f"{{{name}}} stands alone, without ! or : behind it")
    return wrong


def render(route: Route, alert: Alert, context: MessageContext, reminder: int = 0) -> Message:
    """The message of one alert, or that many reminders after it."""
    fields = _fields(alert, context)
    title = _filled(route.title, fields) if route.title else _title(alert, context, fields)
    own = TEMPLATE_WITHOUT_ACCOUNT if alert.signal is None or not _is_of_spend(alert) else TEMPLATE
    return Message(
        id=f"{alert.alert_id}.{reminder}" if reminder else str(alert.alert_id),
        alerts=(alert,),
        title=f"Still so, reminder {reminder}: {title}" if reminder else title,
        text=_filled(route.template or own, fields),
        severity=severity(alert),
        link=fields["link"],
        raise_link=fields["raise_link"],
        pause_link=fields["pause_link"],
        reminder=reminder,
        names=context.names,
    )


def render_digest(route: Route, messages: Sequence[Message]) -> Message:
    """Several messages as one: a line each, the most urgent first."""
    if len(messages) == 1:
        return messages[0]
    order = list(Severity)
    ranked = sorted(messages, key=lambda one: order.index(one.severity))
    lines = []
    for message in ranked[:MAX_ALERTS_SHOWN]:
        first = message.text.partition("\n")[0]
        lines.append(f"- {message.title}: {first}" if first else f"- {message.title}")
    if (more := len(ranked) - len(lines)) > 0:
        lines.append(f"and {more} more: spendmeter alerts log --route {route.name}")
    return Message(
        id=str(uuid.uuid5(_DIGESTS, "\n".join(sorted(message.id for message in messages)))),
        alerts=tuple(alert for message in messages for alert in message.alerts),
        title=f"{len(messages)} alerts, first: {ranked[0].title}",
        text="\n".join(lines),
        severity=ranked[0].severity,
        link="",
    )


def severity(alert: Alert) -> Severity:
    """Of one alert."""
    if alert.kind is AlertKind.EXCEEDED:
        return Severity.CRITICAL
    return Severity.INFO if alert.kind in _FOR_INFORMATION else Severity.WARNING


def who(subject: Mapping[str, str], names: Names) -> str:
    """`team research`, by their names; without one by the id, of a key's hash its beginning."""
    shown = (f"{d} {name_of(d, v, names)}" for d, v in subject.items())
    return one_line(", ".join(shown)) or "everything"


def ids(subject: Mapping[str, str], names: Names) -> str:
    """The ids behind the names in `who`, a hash shortened; empty where no name is known."""
    named = any((dimension, id_) in names for dimension, id_ in subject.items())
    return who(subject, NO_NAMES) if named else ""


def share(signal: Signal) -> str:
    """Of the limit, in whole per cent rounded down: 100 % is the limit."""
    return share_text(signal.spent_nanousd, signal.limit_nanousd)


def share_text(spent: NanoUsd, limit: NanoUsd) -> str:
    """`80 %`: rounded down."""
    return f"{100 * spent // limit} %" if limit else "100 %"


def usd(amount: NanoUsd) -> str:
    """`$40.01`; below a dollar two digits. Rounded down: what is not spent yet is not shown as spent."""
    exact = to_usd(amount)
    decimals = 2 if abs(exact) >= 1 or not exact else 1 - exact.adjusted()
    rounded = exact.quantize(Decimal(1).scaleb(-min(decimals, 9)), ROUND_FLOOR)
    text = f"{rounded:,f}"
    if exact == rounded:
        text = format_usd(amount) if abs(exact) < 1 else text.removesuffix(".00")
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def _is_of_spend(alert: Alert) -> bool:
    return alert.kind in (
        AlertKind.THRESHOLD,
        AlertKind.EXCEEDED,
        AlertKind.RECOVERED,
        AlertKind.FORECAST,
    )


def _fields(alert: Alert, context: MessageContext) -> dict[str, str]:
    signal, zone = alert.signal, context.budget.zone if context.budget else ZoneInfo("UTC")
    fields = dict.fromkeys(FIELDS, "")
    fields |= {
        "kind": alert.kind,
        "message": _message(alert, context.names),
        "at": local_time(alert.emitted_at, zone),
    }
    subject = alert.concerns
    fields |= {d: one_line(subject.get(d, "")) for d in _DIMENSIONS}
    fields |= {f"{d}_name": name_of(d, subject.get(d, ""), context.names) for d in _DIMENSIONS}
    if signal is not None or subject or alert.kind in _TITLES:
        fields |= {"who": who(subject, context.names), "ids": ids(subject, context.names)}
    if signal is None:
        return fields | {"link": _link_to_spend(alert, context.page)}
    since = "its beginning" if signal.window_start.year == 1970 else local_time(signal.window_start, zone)
    return fields | {
        "spent": usd(signal.spent_nanousd),
        "limit": usd(signal.limit_nanousd),
        "share": share(signal),
        "since": since,
        "until": local_time(signal.window_end, zone) if signal.window_end else "",
        "next": _next(alert, signal, context.budget, zone),
        "link": link_to(signal, context.link or (f"{context.page}{_ACCOUNT}" if context.page else "")),
        **_links_to_forms(alert, signal, context),
        "budget": signal.budget_id,
    }


def link_to(signal: Signal, link: str) -> str:
    """The page of the account; empty where no setting says where the page is."""
    return link.replace("{account}", quote(signal.account, safe="")).replace(
        "{budget}", quote(signal.budget_id, safe="")
    )


def _message(alert: Alert, names: Names) -> str:
    """In one line; of a digest, in its lines."""
    if alert.kind is not AlertKind.DIGEST:
        return named_message(alert, names)
    return "\n".join(map(one_line, alert.message.splitlines()))


def _link_to_spend(alert: Alert, page: str) -> str:
    """The page with what the alert's subject spent lately, by key; empty where no setting names the page."""
    if not page or alert.kind not in _TITLES:
        return ""
    return f"{page}/explore?{urlencode([*alert.concerns.items(), ('by', 'model'), ('by', 'key')])}"


def _links_to_forms(alert: Alert, signal: Signal, context: MessageContext) -> dict[str, str]:
    """The page's forms, filled in, where the alert is of a budget in force that refuses, or will."""
    if (
        not context.page
        or alert.kind not in _OF_A_LIMIT
        or context.budget is None
        or not context.budget.refuses
    ):
        return {}
    form = f"{context.page}/budgets/{quote(signal.budget_id, safe='')}"
    span = "window" if signal.window_end else "1d"
    return {
        "raise_link": f"{form}/raise?usd={format_usd(_more(signal.limit_nanousd))}&for={span}",
        "pause_link": f"{form}/pause",
    }


def _more(limit: NanoUsd) -> NanoUsd:
    """A fifth of the limit, in whole cents where that is not nothing."""
    fifth = max(1, limit // 5)
    return NanoUsd(fifth - fifth % _CENT if fifth >= _CENT else fifth)


def _title(alert: Alert, context: MessageContext, fields: Mapping[str, str]) -> str:
    if alert.kind in _TITLES and (alert.subject or alert.kind is not AlertKind.UNUSED):
        return f"{_TITLES[alert.kind]}: {fields['who']}"
    if alert.signal is None or not _is_of_spend(alert):
        return f"spendmeter: {alert.kind.replace('_', ' ')}"
    match alert.kind:
        case AlertKind.EXCEEDED:
            return f"Budget spent: {fields['who']}"
        case AlertKind.RECOVERED:
            return f"Below its budget again: {fields['who']}"
        case AlertKind.FORECAST:
            return f"Budget runs out early: {fields['who']}"
    return f"{fields['share']} spent: {fields['who']}"


def _next(alert: Alert, signal: Signal, budget: Budget | None, zone: ZoneInfo) -> str:
    if budget is None:
        return ""
    ends = local_time(signal.window_end, zone) if signal.window_end else ""
    until = f"until {ends}, or until the limit is raised" if ends else "until the limit is raised"
    if not budget.refuses:
        why = "it is paused" if budget.paused else f"its action is {budget.action}"
        refused = f"Nothing is refused by this budget: {why}"
    else:
        refused = f"Requests are refused {until}"
    match alert.kind:
        case AlertKind.EXCEEDED:
            return refused
        case AlertKind.RECOVERED:
            return "Requests are served again" if budget.refuses else ""
        case AlertKind.FORECAST if signal.forecast_exhausted_at is not None:
            at = local_time(signal.forecast_exhausted_at, zone)
            return f"At this rate it is spent by {at}" + (f"; the window ends {ends}" if ends else "")
        case AlertKind.THRESHOLD if budget.refuses:
            return f"At {usd(signal.limit_nanousd)} requests are refused" + (
                f", until {ends}" if ends else ""
            )
    return refused if alert.kind is AlertKind.THRESHOLD else ""


def local_time(at: datetime, zone: ZoneInfo) -> str:
    """`Sun 1 Nov 00:00 CET`: as a clock there shows it."""
    there = at.astimezone(zone)
    return f"{there:%a} {there.day} {there:%b} {there:%H:%M} {there:%Z}"


def _filled(template: str, fields: Mapping[str, str]) -> str:
    """The template with its fields; a line that has nothing but empty fields in it is left out."""
    lines = []
    for line in template.splitlines():
        named = [name for _, name, _, _ in string.Formatter().parse(line) if name]
        if not named or any(fields[name] for name in named):
            lines.append(line.format_map(fields))
    return "\n".join(lines).strip()
