"""Queries that list what happened, newest first: refused requests and alerts. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

_REFUSALS: Final = (
    *("decision_id", "decided_at", "why", "name", "budget_id", "account", "spent_usd", "limit_usd"),
    *("least_usd", "window_start", "window_end", "gateway", "message"),
)
_ALERTS: Final = (
    *("alert_id", "emitted_at", "kind", "budget_id", "account", "spent_usd", "limit_usd", "threshold"),
    *("state", "window_start", "window_end", "cause_event_id", "message"),
)
# A name stands for every key that ever had it.
_HASHES: Final = (
    "arrayConcat({keys:Array(String)},"
    " (SELECT groupUniqArray(key) FROM by_key_day WHERE has({keys:Array(String)}, key_alias)))"
)
SUBJECT_OF_ACCOUNT: Final = "splitByChar('&', substring(account, position(account, '|') + 1))"
"""Pairs such as `team=red`, encoded as in a URL, of a row that has an account."""


class ListQuery(NamedTuple):
    """A query and its parameters."""

    sql: str
    parameters: dict[str, Any]


class ListFilter(NamedTuple):
    """What is listed; what is empty holds nothing back."""

    kinds: Sequence[str] = ()
    """Whys of refusals, kinds of alerts."""
    budgets: Sequence[str] = ()
    keys: Sequence[str] = ()
    """Names or hashes."""
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100


def refusals_query(wanted: ListFilter) -> ListQuery:
    """Refused requests; the key is whoever was refused, or whose account it is."""
    named = "has({keys:Array(String)}, name) OR "
    return _query("refusals", "decided_at", "decision_id", "why", _REFUSALS, wanted, named)


def alerts_query(wanted: ListFilter) -> ListQuery:
    """Alerts; the key is whose account it is, or whom it concerns."""
    concerned = f"has({_HASHES}, subject['key']) OR "
    return _query("alerts_once", "emitted_at", "alert_id", "kind", _ALERTS, wanted, concerned)


def _query(
    view: str, time: str, identity: str, kind: str, columns: Sequence[str], wanted: ListFilter, named: str
) -> ListQuery:
    conditions, parameters = ["1"], dict[str, Any](limit=wanted.limit)
    for column, name, values in ((kind, "kinds", wanted.kinds), ("budget_id", "budgets", wanted.budgets)):
        if values:
            conditions.append(f"has({{{name}:Array(String)}}, {column})")
            parameters[name] = [*values]
    if wanted.keys:
        theirs = f"arrayMap(k -> concat('key=', k), {_HASHES})"
        conditions.append(f"({named}hasAny({SUBJECT_OF_ACCOUNT}, {theirs}))")
        parameters["keys"] = [*wanted.keys]
    for name, bound, value in (("since", ">=", wanted.since), ("until", "<", wanted.until)):
        if value is not None:
            conditions.append(f"{time} {bound} toDateTime64({{{name}:String}}, 6, 'UTC')")
            parameters[name] = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"
    return ListQuery(
        f"SELECT {', '.join(columns)} FROM {view} WHERE {' AND '.join(conditions)}"
        f" ORDER BY {time} DESC, {identity} DESC LIMIT {{limit:UInt32}}",
        parameters,
    )
