"""What teams spent in a period, as the views have it after every correction. Blocking."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from spendmeter.contract.money import NanoUsd, from_sum_usd
from spendmeter.history.lists import SUBJECT_OF_ACCOUNT
from spendmeter.history.names import Names, ids_in, name_of, names_of_ids
from spendmeter.history.spenders import Spender, SpendSpan, spend_by, total_spend
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.dimensions import Dimension
from spendmeter_sinks.alerts.message import who

MAX_TEAMS = 1_000
"""Of one report each: those that spent most."""
MAX_ROWS = 100_000
"""Read at once."""
SHOWN = 5
"""Keys, models, teams, budgets."""
KEYS_OF = timedelta(days=62)
"""So far back it is known whose key it is."""
_PARTS: tuple[Dimension, ...] = ("key", "model")

_REFUSED = f"""
WITH
    refused AS
    (
        SELECT name, {SUBJECT_OF_ACCOUNT} AS pairs,
            decodeURLComponent(substring(arrayFirst(p -> startsWith(p, 'team='), pairs), 6)) AS of_team,
            decodeURLComponent(substring(arrayFirst(p -> startsWith(p, 'key='), pairs), 5)) AS of_key
        FROM
        (
            SELECT name, ifNull(account, '') AS account
            FROM refusals
            WHERE decided_at >= {{start:DateTime64(6, 'UTC')}} AND decided_at < {{end:DateTime64(6, 'UTC')}}
        )
    ),
    owned AS
    (
        SELECT arrayJoin([key, key_alias]) AS id, argMax(team, day) AS latest
        FROM by_key_day
        WHERE day >= {{since:Date}} AND team != ''
        GROUP BY id
    )
SELECT multiIf(of_team != '', of_team, of_key != '', by_key.latest, by_name.latest) AS whose, count()
FROM refused
LEFT JOIN owned AS by_key ON by_key.id = refused.of_key
LEFT JOIN owned AS by_name ON by_name.id = refused.name
GROUP BY whose
"""
_CLOSEST = """
SELECT subject, budget_id, spent_usd, limit_usd
FROM accounts_now
WHERE limit_usd > 0 AND spent_usd > 0
ORDER BY spent_fraction DESC, account
LIMIT {shown:UInt32} BY subject['team']
LIMIT {rows:UInt32}
"""


class DigestPeriod(NamedTuple):
    """A day or week of a zone, and the one before: `[before, start)` and `[start, end)`."""

    name: str
    """`daily` or `weekly`: part of a digest's id."""
    before: datetime
    start: datetime
    end: datetime


class NamedAmount(NamedTuple):
    """What a key, a model or a team spent, by the name that people know."""

    name: str
    spent_nanousd: NanoUsd


class BudgetUse(NamedTuple):
    """How much of a budget is spent now."""

    budget_id: str
    whose: str
    """Of whom beside the team whose report it is; may be empty."""
    spent_nanousd: NanoUsd
    limit_nanousd: NanoUsd


class SpendReport(NamedTuple):
    """What a team, or everything, spent in a period."""

    team: str
    """Empty: everything."""
    name: str
    """For people; empty if history has none."""
    spent_nanousd: NanoUsd
    before_nanousd: NanoUsd
    """In the period before."""
    requests: int
    refused: int
    """By budgets of the team, or where a key of the team's was refused."""
    largest: Mapping[str, Sequence[NamedAmount]]
    """By dimension, such as `key`: those that spent most."""
    closest: Sequence[BudgetUse]
    """Budgets of the team, the closest to its limit first."""


def read_reports(history: Client, period: DigestPeriod) -> list[SpendReport]:
    """Of each team that spent in this period or in the one before, and at last of everything."""
    within, before = SpendSpan(period.start, period.end), SpendSpan(period.before, period.start)
    spent, spent_before = (_by_team(history, span) for span in (within, before))
    whole, whole_before = (total_spend(history, span, {}) for span in (within, before))
    if not any((whole.requests, whole.usd, whole_before.requests, whole_before.usd)):
        return []
    refused, uses = _refusals(history, period), _read_uses(history)
    names = names_of_ids(history, [id_ for one in uses for id_ in ids_in(one.subject)])
    largest = {d: _largest_by_team(history, d, within) for d in _PARTS}
    uses_of = defaultdict[str, list[_Use]](list)
    for one in uses:
        uses_of[one.subject.get("team", "")].append(one)
    reports = [
        _report_of(
            team, spent.get(team), spent_before.get(team), refused.get(team, 0), largest, uses_of[team], names
        )
        for team in {**spent, **spent_before}
    ]
    reports.sort(key=lambda one: -max(one.spent_nanousd, one.before_nanousd))
    everything = SpendReport(
        team="",
        name="",
        spent_nanousd=from_sum_usd(whole.usd),
        before_nanousd=from_sum_usd(whole_before.usd),
        requests=whole.requests,
        refused=sum(refused.values()),
        largest={
            "team": [_amount("team", one) for one in [*spent.values()][:SHOWN]],
            **{d: _largest(history, d, within) for d in _PARTS},
        },
        closest=_closest(uses, names, without=""),
    )
    return [*reports[:MAX_TEAMS], everything]


class _Use(NamedTuple):
    subject: Mapping[str, str]
    budget_id: str
    spent_usd: Decimal
    limit_usd: Decimal


def _report_of(
    team: str,
    spent: Spender | None,
    before: Spender | None,
    refused: int,
    largest: Mapping[Dimension, Mapping[str, Sequence[NamedAmount]]],
    uses: Sequence[_Use],
    names: Names,
) -> SpendReport:
    latest = spent or before
    assert latest is not None, "it spent in one of them"
    return SpendReport(
        team=team,
        name=latest.names[0],
        spent_nanousd=from_sum_usd(spent.spent.usd) if spent else NanoUsd(0),
        before_nanousd=from_sum_usd(before.spent.usd) if before else NanoUsd(0),
        requests=spent.spent.requests if spent else 0,
        refused=refused,
        largest={dimension: of.get(team, ()) for dimension, of in largest.items()},
        closest=_closest(uses, names, without="team"),
    )


def _closest(uses: Sequence[_Use], names: Names, without: str) -> list[BudgetUse]:
    """The first of those, which are in their order."""
    found = []
    for one in uses[:SHOWN]:
        of = {d: value for d, value in one.subject.items() if d != without}
        whose = who(of, names) if of else ""
        found.append(
            BudgetUse(one.budget_id, whose, from_sum_usd(one.spent_usd), from_sum_usd(one.limit_usd))
        )
    return found


def _by_team(history: Client, within: SpendSpan) -> dict[str, Spender]:
    """The largest first."""
    spenders, _ = spend_by(history, ["team"], within, {}, MAX_ROWS)
    return {one.ids[0]: one for one in spenders if one.ids[0]}


def _largest(history: Client, dimension: Dimension, within: SpendSpan) -> list[NamedAmount]:
    spenders, _ = spend_by(history, [dimension], within, {}, SHOWN)
    return [_amount(dimension, one) for one in spenders]


def _largest_by_team(
    history: Client, dimension: Dimension, within: SpendSpan
) -> Mapping[str, Sequence[NamedAmount]]:
    spenders, _ = spend_by(history, ["team", dimension], within, {}, MAX_ROWS, of_each=SHOWN)
    found = defaultdict[str, list[NamedAmount]](list)
    for one in spenders:
        found[one.ids[0]].append(_amount(dimension, one))
    return found


def _refusals(history: Client, period: DigestPeriod) -> dict[str, int]:
    """How many requests were refused, by team; empty text: nobody knows of which."""
    since = period.start.date() - KEYS_OF
    parameters = {"start": period.start, "end": period.end, "since": since}
    return {
        str(team): int(count) for team, count in history.query(_REFUSED, parameters=parameters).result_rows
    }


def _read_uses(history: Client) -> list[_Use]:
    """Of each team, and of no team alone, the budgets closest to their limit; of all, these first."""
    parameters = {"shown": SHOWN, "rows": MAX_ROWS}
    return [_Use(*row) for row in history.query(_CLOSEST, parameters=parameters).result_rows]


def _amount(dimension: str, one: Spender) -> NamedAmount:
    id_, name = one.ids[-1], one.names[-1]
    known = name_of(dimension, id_, {(dimension, id_): name}) if id_ else f"(no {dimension})"
    return NamedAmount(known, from_sum_usd(one.spent.usd))
