"""What each panel must show, from the records alone: rows in its order, amounts to the nano-dollar."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from spendmeter.contract.alert import Alert, AlertDelivery, DeliveryOutcome
from spendmeter.contract.budget import Budget
from spendmeter.contract.decision import Decision
from spendmeter.contract.money import NanoUsd, to_usd
from spendmeter.contract.signal import Signal
from spendmeter.contract.usage import UsageEvent
from tests.integration.grafana.content import Content
from tests.integration.grafana.plugin import PanelView
from tests.spend_oracle import (
    RequestSpend,
    SpendEntry,
    SpendOracle,
    SpendSums,
    day_of,
    hour_of,
    latest_aliases,
    month_of,
    sums,
    sums_by,
)

Row = tuple[Any, ...]
NONE = "(none)"
TOP = 10
_HALF_A_DAY = 12 * 3_600


class Asked:
    """A dashboard's question: of which records, seen how, filtered by which of its variables."""

    def __init__(
        self, oracle: SpendOracle, content: Content, view: PanelView, variables: Sequence[str]
    ) -> None:
        self.oracle = oracle
        self.content = content
        self.variables = variables
        self.zone = ZoneInfo(view.zone)
        self.interval_seconds = view.interval_seconds
        self.start, self.end = _seconds(view.start), _seconds(view.end)
        self.chosen = view.chosen
        self.entries = [entry for entry in oracle.entries if self._is_meant(entry)]
        """Of the chosen subjects, whenever they were."""
        self.of_hours = [
            entry for entry in self.entries if hour_of(view.start) <= entry.hour and entry.hour < self.end
        ]
        """Of the hours that the range touches."""

    def is_chosen(self, variable: str, value: str | None) -> bool:
        chosen = self.chosen.get(variable)
        return chosen is None or variable not in self.variables or (value or NONE) in chosen

    def in_range(self, time: datetime) -> bool:
        """To the second, both ends included."""
        return self.start <= time <= self.end

    def piece(self, time: datetime) -> datetime:
        """The piece of a chart that a moment is in."""
        seconds = int(time.timestamp())
        return datetime.fromtimestamp(seconds - seconds % self.interval_seconds, UTC)

    def piece_of_spend(self, time: datetime) -> datetime:
        """Likewise, where spend is: half a day is a whole one."""
        return day_of(time, ZoneInfo("UTC")) if self.interval_seconds == _HALF_A_DAY else self.piece(time)

    @property
    def spend_seconds(self) -> int:
        """How long a piece of a chart of spend is."""
        return 2 * _HALF_A_DAY if self.interval_seconds == _HALF_A_DAY else self.interval_seconds

    @property
    def hours(self) -> int:
        """How many hours the range touches."""
        last = hour_of(self.end - timedelta(seconds=1))
        return (last - hour_of(self.start)) // timedelta(hours=1) + 1

    def _is_meant(self, entry: SpendEntry) -> bool:
        return all(self.is_chosen(of, entry.values[of]) for of in ("team", "key", "model"))


def _seconds(time: datetime) -> datetime:
    return time.replace(microsecond=0)


def usd(nanousd: int) -> Decimal:
    return to_usd(NanoUsd(nanousd))


def names(entries: Iterable[SpendEntry], of: str) -> Callable[[str], str]:
    """What people call a value: its latest alias among these, else the value, of a key its beginning."""
    aliases = {} if of == "model" else latest_aliases(entries, of)
    return lambda value: aliases.get(value) or (value[:12] if of == "key" else value) or NONE


def value_of(of: str) -> Callable[[SpendEntry], str]:
    return lambda entry: entry.values[of]


def total(field: str) -> Callable[[Asked], list[Row]]:
    def rows(asked: Asked) -> list[Row]:
        amount = getattr(sums(asked.of_hours), field)
        return [(usd(amount) if field == "spent_nanousd" else amount,)]

    return rows


def month(months: int) -> Callable[[Asked], list[Row]]:
    """The month in which the range ends, up to its end, or one before it, whole."""

    def rows(asked: Asked) -> list[Row]:
        at = asked.end - timedelta(seconds=1)
        start = month_of(at, asked.zone, months)
        end = month_of(at, asked.zone, months + 1) if months else asked.end
        return [(usd(sum(e.spent_nanousd for e in asked.entries if start <= e.hour < end)),)]

    return rows


def by_time(of: str, per_hour: bool = False) -> Callable[[Asked], list[Row]]:
    value = value_of(of)

    def rows(asked: Asked) -> list[Row]:
        top = {one for one, _ in _dearest(sums_by(asked.of_hours, value), lambda one: (one,))[:TOP]}
        name = names(asked.of_hours, of)
        pieces = sums_by(
            asked.of_hours,
            lambda e: (asked.piece_of_spend(e.hour), name(value(e)) if value(e) in top else "all others"),
        )
        seconds = asked.spend_seconds
        return sorted(
            (*at, usd(one.spent_nanousd * 3600 // seconds if per_hour else one.spent_nanousd))
            for at, one in pieces.items()
        )

    return rows


def by_day(asked: Asked) -> list[Row]:
    days = sums_by(asked.of_hours, lambda e: day_of(e.at, asked.zone).astimezone(UTC))
    return sorted((day, "spent", usd(one.spent_nanousd)) for day, one in days.items())


def teams(asked: Asked) -> list[Row]:
    name, whole = names(asked.of_hours, "team"), sums(asked.of_hours).spent_nanousd
    return [
        (
            name(team),
            usd(one.spent_nanousd),
            (one.spent_nanousd / 10**9) / (whole / 10**9) if whole else 0,
            one.requests,
            one.corrections,
            team or NONE,
        )
        for team, one in _dearest(sums_by(asked.of_hours, value_of("team")), lambda team: (team or NONE,))
    ]


def keys(asked: Asked) -> list[Row]:
    of: dict[Row, list[SpendEntry]] = defaultdict(list)
    for entry in asked.of_hours:
        of[tuple(entry.values[one] for one in ("key", "team", "user"))].append(entry)
    return [
        (
            *(names(of[at], one)(value) for one, value in zip(("key", "team", "user"), at, strict=True)),
            usd(one.spent_nanousd),
            one.requests,
            at[0],
        )
        for at, one in _dearest({at: sums(entries) for at, entries in of.items()}, lambda at: at)
    ]


def models(asked: Asked) -> list[Row]:
    def per_million(one: SpendSums) -> float | None:
        tokens = one.input_tokens + one.output_tokens
        return one.spent_nanousd / 10**9 / tokens * 1_000_000 if tokens else None

    by = sums_by(asked.of_hours, lambda e: (e.values["provider"], e.values["model"]))
    return [
        (*at, usd(o.spent_nanousd), o.requests, o.input_tokens, o.output_tokens, per_million(o))
        for at, o in _dearest(by, lambda at: at)
    ]


def people(asked: Asked) -> list[Row]:
    name = names(asked.of_hours, "user")
    by = sums_by(asked.of_hours, value_of("user"))
    return [(name(u), usd(o.spent_nanousd), o.requests, u) for u, o in _dearest(by, lambda u: (u,))]


def _dearest(by: Mapping[Any, SpendSums], tie: Callable[[Any], Row]) -> list[tuple[Any, SpendSums]]:
    return sorted(by.items(), key=lambda one: (-one[1].spent_nanousd, tie(one[0])))


def tags(asked: Asked) -> list[Row]:
    return _by_request(asked, lambda event: set(event.tags) or {NONE})


def customers(asked: Asked) -> list[Row]:
    return _by_request(asked, lambda event: {event.end_user} if event.end_user else set())


def _by_request(asked: Asked, values: Callable[[UsageEvent], set[str]]) -> list[Row]:
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for request in _requests(asked):
        for value in values(request.entry.event):
            found[value][0] += request.spent_nanousd
            found[value][1] += 1
    return [
        (value, usd(spent), calls)
        for value, (spent, calls) in sorted(found.items(), key=lambda one: (-one[1][0], one[0]))
    ]


def _requests(asked: Asked) -> list[RequestSpend]:
    meant = {id(entry) for entry in asked.entries}
    return [one for one in asked.oracle.requests if id(one.entry) in meant and asked.in_range(one.entry.at)]


def dearest_requests(asked: Asked) -> list[Row]:
    requests = sorted(_requests(asked), key=lambda one: (-one.spent_nanousd, one.entry.at))
    return [
        (
            entry.at,
            entry.event.key_alias or "",
            entry.values["model"],
            usd(spent),
            usd(entry.spent_nanousd),
            corrections,
            entry.input_tokens,
            entry.output_tokens,
            entry.event.status.value,
            entry.event.cost_source.value,
            entry.event.event_id,
        )
        for entry, spent, corrections in requests[:50]
    ]


def budgets_in_force(asked: Asked) -> list[Budget]:
    latest = {one.id: one for one in asked.content.budgets}
    return sorted(
        (one for one in latest.values() if asked.is_chosen("budget", one.id)), key=lambda one: one.id
    )


def accounts(asked: Asked) -> list[Signal]:
    """In windows of now, of budgets in force."""
    latest = {one.account: one for one in sorted(asked.content.signals, key=lambda one: one.version)}
    known = {one.id for one in asked.content.budgets}
    return [
        one
        for one in latest.values()
        if one.budget_id in known
        and asked.is_chosen("budget", one.budget_id)
        and (one.window_end is None or one.window_end > datetime.now(UTC))
    ]


def accounts_where(which: Callable[[Signal], bool]) -> Callable[[Asked], list[Row]]:
    return lambda asked: [(sum(map(which, accounts(asked))),)]


def closest(asked: Asked) -> list[Row]:
    whose = namer(asked)

    def share(one: Signal) -> float | None:
        return (one.spent_nanousd / 10**9) / (one.limit_nanousd / 10**9) if one.limit_nanousd else None

    def rank(one: Signal) -> Row:
        found = share(one)
        return (-1 if found is None else -found, one.account)

    return [
        (
            whose(one),
            one.budget_id,
            one.state.value,
            share(one),
            usd(one.spent_nanousd),
            usd(one.limit_nanousd),
            usd(one.limit_nanousd - one.spent_nanousd),
            one.window_end,
            "block",
            one.account,
        )
        for one in sorted(accounts(asked), key=rank)[:200]
    ]


def runs_out(asked: Asked) -> list[Row]:
    whose = namer(asked)
    found = [
        (one.forecast_exhausted_at, one.account, one) for one in accounts(asked) if one.forecast_exhausted_at
    ]
    return [
        (
            whose(one),
            one.budget_id,
            at,
            usd(one.limit_nanousd - one.spent_nanousd),
            one.window_end,
            account,
        )
        for at, account, one in sorted(found, key=lambda one: one[:2])[:50]
    ]


def namer(asked: Asked) -> Callable[[Signal], str]:
    """Whose an account is, by the names of the last five weeks of the range."""
    since = day_of(asked.end, ZoneInfo("UTC")) - timedelta(days=35)
    lately = [entry for entry in asked.oracle.entries if entry.at >= since]
    known = {of: latest_aliases(lately, of) for of in ("team", "key")}

    def whose(one: Signal) -> str:
        named = (f"{of} {known.get(of, {}).get(value, value)}" for of, value in one.subject.items())
        return ", ".join(named) or "everybody"

    return whose


def in_force(asked: Asked) -> list[Row]:
    return [
        (
            one.id,
            usd(one.limit_nanousd),
            str(one.period),
            one.timezone,
            one.action.value,
            one.enforcement.value,
            one.updated_by,
            one.updated_at,
            one.revision,
        )
        for one in budgets_in_force(asked)
    ]


def burn_rate(asked: Asked) -> list[Row]:
    return [(usd(sums(asked.of_hours).spent_nanousd // asked.hours),)]


def refused(asked: Asked) -> list[Decision]:
    return [
        one
        for one in asked.content.decisions
        if asked.in_range(one.decided_at) and asked.is_chosen("budget", one.budget_id)
    ]


def alerted(asked: Asked) -> list[Alert]:
    return [
        one
        for one in asked.content.alerts
        if asked.in_range(one.emitted_at)
        and asked.is_chosen("budget", one.signal.budget_id if one.signal else None)
    ]


def counted(values: Iterable[Row]) -> list[Row]:
    found: dict[Row, int] = defaultdict(int)
    for value in values:
        found[value] += 1
    return sorted((*value, times) for value, times in found.items())


def refused_most(asked: Asked) -> list[Row]:
    last: dict[Row, datetime] = {}
    for one in sorted(refused(asked), key=lambda one: one.decided_at):
        last[one.name, one.why.value] = one.decided_at
    found = counted((one.name, one.why.value) for one in refused(asked))
    found.sort(key=lambda row: (-row[2], row[0], row[1]))
    return [(name, why, times, last[name, why]) for name, why, times in found]


def refused_by_budget(asked: Asked) -> list[Row]:
    by: dict[str, list[Decision]] = defaultdict(list)
    for one in refused(asked):
        by[one.budget_id or NONE].append(one)
    rows = [
        (budget, len(of), len({one.account for one in of}), max(one.decided_at for one in of))
        for budget, of in by.items()
    ]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def latest_refusals(asked: Asked) -> list[Row]:
    return [
        (
            one.decided_at,
            one.name,
            one.why.value,
            one.budget_id or "",
            _maybe(one.spent_nanousd),
            _maybe(one.limit_nanousd),
            one.message,
            one.decision_id,
        )
        for one in sorted(refused(asked), key=lambda one: one.decided_at, reverse=True)[:200]
    ]


def latest_alerts(asked: Asked) -> list[Row]:
    return [
        (
            one.emitted_at,
            one.kind.value,
            one.signal.budget_id if one.signal else "",
            one.message,
            usd(one.signal.spent_nanousd) if one.signal else None,
            usd(one.signal.limit_nanousd) if one.signal else None,
            one.signal.threshold if one.signal else None,
            one.alert_id,
        )
        for one in sorted(alerted(asked), key=lambda one: one.emitted_at, reverse=True)[:200]
    ]


def became(asked: Asked) -> list[AlertDelivery]:
    """The last step of each route of the alerts that are meant, in the order of their routes."""
    meant = {one.alert_id for one in alerted(asked)}
    last = {(one.alert_id, one.route): one for one in asked.content.deliveries if one.alert_id in meant}
    return [last[key] for key in sorted(last, key=lambda key: key[1])]


def deliveries(asked: Asked) -> list[Row]:
    first: dict[Row, datetime] = {}
    for one in asked.content.deliveries:
        if one.outcome is DeliveryOutcome.SENT:
            first.setdefault((one.alert_id, one.route), one.at)
    rows = [
        (
            one.alert.emitted_at,
            one.alert.kind.value,
            one.alert.signal.budget_id if one.alert.signal else "",
            one.route,
            one.outcome.value,
            first.get((one.alert_id, one.route)),
            one.due_at,
            one.attempts,
            one.reminders,
            one.reason,
            one.alert_id,
        )
        for one in became(asked)
        if one.alert is not None
    ]
    return sorted(rows, key=lambda row: row[0], reverse=True)[:200]


def _maybe(amount: int | None) -> Decimal | None:
    return None if amount is None else usd(amount)


def choices(of: str, called: bool = True) -> Callable[[Asked], list[Row]]:
    """What a variable offers: the dearest first."""

    def rows(asked: Asked) -> list[Row]:
        name = names(asked.of_hours, of)
        found = _dearest(sums_by(asked.of_hours, value_of(of)), lambda value: (value,))
        return [(value or NONE, name(value))[: 1 + called] for value, _ in found]

    return rows


_SPEND = {
    "Spent": total("spent_nanousd"),
    "Requests": total("requests"),
    "Failed requests": total("failures"),
    "Spent by model": by_time("model"),
    "Spent by day": by_day,
    "Keys": keys,
    "Models": models,
    "$team": choices("team"),
    "$model": choices("model", called=False),
}
EXPECTED: dict[str, dict[str, Callable[[Asked], list[Row]]]] = {
    "spendmeter-overview": _SPEND
    | {
        "This month": month(0),
        "Last month": month(-1),
        "Unpriced requests": total("unpriced"),
        "Spent by team": by_time("team"),
        "Teams": teams,
    },
    "spendmeter-team-key": _SPEND
    | {
        "Input tokens": total("input_tokens"),
        "Output tokens": total("output_tokens"),
        "Corrections": total("corrections"),
        "Spent by key": by_time("key"),
        "People": people,
        "Tags": tags,
        "Customers": customers,
        "Dearest requests": dearest_requests,
        "$key": choices("key"),
    },
    "spendmeter-budgets": {
        "Over the limit": accounts_where(lambda one: one.state == "exceeded"),
        "Near the limit": accounts_where(lambda one: one.state == "warning"),
        "Will run out": accounts_where(lambda one: one.forecast_exhausted_at is not None),
        "Accounts": accounts_where(lambda one: True),
        "Accounts closest to their limits": closest,
        "Runs out next": runs_out,
        "Burn rate": burn_rate,
        "Burn rate by team": by_time("team", per_hour=True),
        "Budgets in force": lambda asked: [(len(budgets_in_force(asked)),)],
        "Limits in force": in_force,
        "$team": choices("team"),
        "$budget": lambda asked: [(one.id,) for one in budgets_in_force(asked)],
    },
    "spendmeter-refusals": {
        "Refused requests": lambda asked: [(len(refused(asked)),)],
        "Who was refused": lambda asked: [(len({one.name for one in refused(asked)}),)],
        "Alerts": lambda asked: [(len(alerted(asked)),)],
        "Refused by why": lambda asked: counted(
            (asked.piece(o.decided_at), o.why.value) for o in refused(asked)
        ),
        "Refused most": refused_most,
        "Refused by which budget": refused_by_budget,
        "Latest refusals": latest_refusals,
        "Alerts by kind": lambda asked: counted(
            (asked.piece(o.emitted_at), o.kind.value) for o in alerted(asked)
        ),
        "Alerts not sent": lambda asked: [
            (sum(one.outcome is DeliveryOutcome.SKIPPED for one in became(asked)),)
        ],
        "Latest alerts": latest_alerts,
        "What became of alerts": deliveries,
        "$budget": lambda asked: [(one.id,) for one in budgets_in_force(asked)],
    },
}
"""Dashboard, panel or variable: what it must show."""

FILTERS: dict[str, tuple[str, ...]] = {
    "spendmeter-overview": ("team", "model"),
    "spendmeter-team-key": ("team", "key", "model"),
    "spendmeter-budgets": ("team", "budget"),
    "spendmeter-refusals": ("budget",),
}
"""Dashboard: the variables that its panels are filtered by."""
OF_VARIABLES: dict[str, tuple[str, ...]] = {"$key": ("team",)}
"""Variable: those that it is filtered by."""


def filters_of(dashboard: str, title: str) -> tuple[str, ...]:
    """The variables that a panel, or a variable, is filtered by."""
    return OF_VARIABLES.get(title, ()) if title.startswith("$") else FILTERS[dashboard]
