"""Every SQL statement of the console. Each reads through `_usage` or `_table`, which hold the viewer's scope.

Bounded: by a span, by a LIMIT, and by the time and memory that the client gives a query.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from spendmeter.contract.decision import Decision
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import Subject
from spendmeter.history.usage import DIMENSIONS as AS_IN_HISTORY
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.account import account_name
from spendmeter.values.dimensions import DIMENSIONS, Dimension
from spendmeter.values.times import from_unix_us, to_unix_us
from spendmeter_console.history.rows import (
    AlertRow,
    BudgetChange,
    Cursor,
    CurvePoint,
    DeadLetterCount,
    DoubtedModel,
    EventRow,
    Point,
    RefusalRow,
    SpendRow,
    SpendTotals,
    TopicAge,
)
from spendmeter_console.history.spans import Interval, TimeSpan
from spendmeter_console.viewer import ViewScope
from spendmeter_sinks.explain.evidence import (
    DecisionEvidence,
    budgets_at,
    evidence_of,
    find_decision,
    usage_topic_of,
)

Filters = Mapping[Dimension, str]
"""Each dimension that must have this value; empty text: that has none."""

MAX_ROWS = 1_000
"""Of one answer."""
MAX_NAMES = 200_000
CURVE_POINTS = 300
_NAMES_OF_THE_LAST = timedelta(days=35)
_EVIDENCE_EVENTS = 50

# A tag counts for each event that carries it, once; an event without tags counts under the empty value.
_VALUE: dict[Dimension, str] = {
    dimension: f"ifNull(toString({AS_IN_HISTORY[dimension]}), '')" for dimension in DIMENSIONS
} | {"tag": "arrayJoin(if(empty(tags), [''], arrayDistinct(tags)))"}
_LABEL = "ifNull(argMax(key_alias, occurred_at), '')"
_IS_REQUEST = "kind = 'usage' AND (status = 'success' OR cost_usd != 0)"
_SUMS = (
    f"sum(cost_usd), countIf({_IS_REQUEST}), sum(input_tokens), sum(output_tokens),"
    " countIf(kind = 'usage' AND cost_source = 'unpriced')"
)
_START: dict[Interval, str] = {
    Interval.HOUR: "toUnixTimestamp(toStartOfHour(occurred_at))",
    Interval.DAY: "toUnixTimestamp(toStartOfDay(occurred_at, '{zone}'))",
    Interval.MONTH: "toUnixTimestamp(toDateTime(toStartOfMonth(toTimeZone(occurred_at, '{zone}')),"
    " '{zone}'))",
}
_SUBJECT_OF_ACCOUNT = "splitByChar('&', substring(account, position(account, '|') + 1))"


class HistoryQueries:
    """One database as one viewer may see it. Blocking: called from a thread."""

    def __init__(self, client: Client, scope: ViewScope) -> None:
        self._client = client
        self._scope = scope

    def spend(
        self, span: TimeSpan, by: Sequence[Dimension], filters: Filters, limit: int, offset: int = 0
    ) -> list[SpendRow]:
        """What each combination of values spent, the largest first."""
        values = [f"{_VALUE[one]} AS v{n}" for n, one in enumerate(by)]
        labels = [f"{_LABEL} AS l{n}" if one == "key" else f"v{n} AS l{n}" for n, one in enumerate(by)]
        names = [f"v{n}" for n in range(len(by))]
        source, parameters = self._usage(span, filters)
        rows = self._rows(
            f"SELECT {', '.join([*values, *labels, _SUMS])} FROM {source}"
            f" {'GROUP BY ' + ', '.join(names) if names else ''}"
            f" ORDER BY sum(cost_usd) DESC, {_SUMS.split(', ')[1]} DESC{''.join(', ' + n for n in names)}"
            " LIMIT {limit:UInt32} OFFSET {offset:UInt32}",
            **parameters,
            limit=limit,
            offset=offset,
        )
        width = len(by)
        return [
            SpendRow(
                tuple(row[:width]),
                tuple(
                    label or value for label, value in zip(row[width : 2 * width], row[:width], strict=True)
                ),
                _nano(row[2 * width]),
                *row[2 * width + 1 :],
            )
            for row in rows
        ]

    def totals(self, span: TimeSpan, filters: Filters) -> SpendTotals:
        """All of the span, each request once."""
        source, parameters = self._usage(span, filters)
        [row] = self._rows(f"SELECT {_SUMS}, countIf(kind != 'usage') FROM {source}", **parameters)
        return SpendTotals(_nano(row[0]), *row[1:])

    def series(
        self,
        span: TimeSpan,
        interval: Interval,
        zone: ZoneInfo,
        by: Dimension | None,
        values: Sequence[str],
        filters: Filters,
    ) -> list[Point]:
        """Spend over time: of these values of a dimension, or all of it under the empty value."""
        value = _VALUE[by] if by else "''"
        source, parameters = self._usage(span, filters)
        start = _START[interval].replace("{zone}", zone.key)
        rows = self._rows(
            f"SELECT {start} AS at, {value} AS v, {_LABEL if by == 'key' else 'v'}, sum(cost_usd)"
            f" FROM {source} GROUP BY at, v"
            f" {'HAVING v IN {values:Array(String)}' if by else ''} ORDER BY at, v LIMIT 100000",
            **parameters,
            **({"values": list(values)} if by else {}),
        )
        return [Point(from_unix_us(at * 1_000_000), v, label or v, _nano(usd)) for at, v, label, usd in rows]

    def events(
        self, span: TimeSpan, filters: Filters, limit: int, after: Cursor | None = None
    ) -> list[EventRow]:
        """Single events, the latest first."""
        source, parameters = self._usage(
            span, filters, "occurred_at, event_id", after, "occurred_at", "event_id"
        )
        found = self._rows(
            f"SELECT toUnixTimestamp64Micro(occurred_at), event_id FROM {source}"
            " ORDER BY occurred_at DESC, event_id DESC LIMIT {limit:UInt32}",
            **parameters,
            limit=limit,
        )
        if not found:
            return []
        # Every column of these alone: of the whole span they would be most of what is read.
        narrow = TimeSpan(from_unix_us(found[-1][0]), from_unix_us(found[0][0] + 1))
        source, parameters = self._usage(narrow, {})
        columns = [
            f"toUnixTimestamp64Micro({name})" if name == "occurred_at" else f"{_column(name)}"
            for name in EventRow._fields
        ]
        rows = self._rows(
            f"SELECT {', '.join(columns)} FROM {source} WHERE event_id IN {{ids:Array(UUID)}}"
            " ORDER BY occurred_at DESC, event_id DESC",
            **parameters,
            ids=[str(event_id) for _, event_id in found],
        )
        return [_event(row) for row in rows]

    def refusals(
        self, span: TimeSpan, limit: int, budget_id: str = "", after: Cursor | None = None
    ) -> list[RefusalRow]:
        """Refused requests, the latest first."""
        conditions = ["budget_id = {budget:String}"] if budget_id else []
        source, parameters = self._table(
            "decisions", "decided_at", span, conditions, after, "decision_id", budget=budget_id
        )
        rows = self._rows(
            "SELECT decision_id, toUnixTimestamp64Micro(decided_at), why, name, message, budget_id, account,"
            f" gateway, limit_usd, spent_usd FROM {source}"
            " ORDER BY decided_at DESC, decision_id DESC LIMIT {limit:UInt32}",
            **parameters,
            limit=limit,
        )
        return [
            RefusalRow._make((r[0], from_unix_us(r[1]), *r[2:8], _maybe(r[8]), _maybe(r[9]))) for r in rows
        ]

    def count_refusals(self, span: TimeSpan) -> dict[str, int]:
        """How many requests were refused, by why."""
        source, parameters = self._table("decisions", "decided_at", span)
        sql = f"SELECT why, count() FROM {source} GROUP BY why ORDER BY count() DESC, why"
        return {str(why): int(count) for why, count in self._rows(sql, **parameters)}

    def decision(self, decision_id: UUID) -> tuple[Decision, DecisionEvidence | None] | None:
        """A refusal with what it rests on; None where there is none, or where it is not the viewer's."""
        source, parameters = self._table("decisions", conditions=["decision_id = {id:UUID}"])
        rows = self._rows(f"SELECT 1 FROM {source} LIMIT 1", **parameters, id=str(decision_id))
        decision = find_decision(self._client, decision_id) if rows else None
        if decision is None:
            return None
        if decision.budget_id is None:
            return decision, None
        topic = usage_topic_of(self._client, decision)
        assert topic is not None, "the decision has just been read"
        book = budgets_at(self._client, decision)
        return decision, evidence_of(self._client, decision, book, topic, _EVIDENCE_EVENTS)

    def alerts(
        self, span: TimeSpan, limit: int, budget_id: str = "", after: Cursor | None = None
    ) -> list[AlertRow]:
        """Alerts, the latest first."""
        conditions = ["budget_id = {budget:String}"] if budget_id else []
        source, parameters = self._table(
            "alerts", "emitted_at", span, conditions, after, "alert_id", budget=budget_id
        )
        rows = self._rows(
            "SELECT alert_id, toUnixTimestamp64Micro(emitted_at), kind, message, budget_id, account,"
            f" threshold, spent_usd, limit_usd FROM {source}"
            " ORDER BY emitted_at DESC, alert_id DESC LIMIT {limit:UInt32}",
            **parameters,
            limit=limit,
        )
        return [AlertRow._make((r[0], from_unix_us(r[1]), *r[2:7], _maybe(r[7]), _maybe(r[8]))) for r in rows]

    def budget_changes(self, budget_id: str, limit: int = MAX_ROWS) -> list[BudgetChange]:
        """Every revision of a budget, the latest first. Whether it may be seen, the board knows."""
        rows = self._rows(
            "SELECT toUnixTimestamp64Micro(updated_at), revision, updated_by, signed_by != '', removed,"
            " limit_usd, period, timezone, action, enforcement,"
            " if(reset_at IS NULL, NULL, toUnixTimestamp64Micro(assumeNotNull(reset_at))),"
            " raises.amount_usd, arrayMap(t -> toUnixTimestamp64Micro(t), raises.until), definition"
            " FROM (SELECT * FROM budgets FINAL WHERE id = {id:String})"
            " ORDER BY appended_at DESC, offset DESC LIMIT {limit:UInt32}",
            id=budget_id,
            limit=limit,
        )
        return [
            BudgetChange._make(
                (
                    from_unix_us(r[0]),
                    r[1],
                    r[2],
                    bool(r[3]),
                    bool(r[4]),
                    _nano(r[5]),
                    *r[6:10],
                    None if r[10] is None else from_unix_us(r[10]),
                    tuple((_nano(usd), from_unix_us(us)) for usd, us in zip(r[11], r[12], strict=True)),
                    r[13],
                )
            )
            for r in rows
        ]

    def curve(self, account: str, span: TimeSpan) -> list[CurvePoint]:
        """How an account came to what it has spent, in the window that the span is: at most CURVE_POINTS."""
        step = max(1, int((span.end - span.start).total_seconds()) // CURVE_POINTS)
        source, parameters = self._table(
            "signals",
            "emitted_at",
            span,
            ["account = {account:String}", "toUnixTimestamp64Micro(window_start) = {start_us:Int64}"],
            final=False,
            account=account,
        )
        rows = self._rows(
            "SELECT toUnixTimestamp64Micro(max(emitted_at)), argMax(spent_usd, version),"
            f" argMax(limit_usd, version) FROM {source}"
            " GROUP BY intDiv(toUnixTimestamp(emitted_at), {step:UInt32})"
            " ORDER BY max(emitted_at) LIMIT 1000",
            **parameters,
            step=step,
        )
        return [CurvePoint(from_unix_us(at), _nano(spent), _nano(limit)) for at, spent, limit in rows]

    def doubted(self, span: TimeSpan, limit: int = MAX_ROWS) -> list[DoubtedModel]:
        """Models whose price nobody knows, and those of which LiteLLM's figure does not count."""
        source, parameters = self._usage(span, {})
        rows = self._rows(
            f"SELECT {_VALUE['model']} AS name, provider,"
            " if(cost_source = 'unpriced', 'unpriced', cost_doubt) AS why, count(), sum(cost_usd),"
            f" toUnixTimestamp64Micro(max(occurred_at)) FROM {source}"
            " WHERE kind = 'usage' AND (cost_source = 'unpriced' OR cost_doubt != '')"
            " GROUP BY name, provider, why ORDER BY count() DESC, name, why LIMIT {limit:UInt32}",
            **parameters,
            limit=limit,
        )
        return [DoubtedModel._make((*r[:4], _nano(r[4]), from_unix_us(r[5]))) for r in rows]

    def health(self) -> tuple[list[TopicAge], list[DeadLetterCount]]:
        """How far history has come, and what could not be read. Of the system: for who may see all of it."""
        if not self._scope.is_everything:
            return [], []
        ages = [
            TopicAge(
                str(topic),
                records,
                from_unix_us(appended * 1000) if records else None,
                from_unix_us(stored * 1000) if records else None,
            )
            for table in ("usage", "signals", "alerts", "budgets", "decisions")
            for topic, records, appended, stored in self._rows(
                "SELECT {name:String}, count(), toUnixTimestamp64Milli(max(appended_at)),"
                f" toUnixTimestamp64Milli(max(stored_at)) FROM {table}",
                name=table,
            )
        ]
        letters = self._rows(
            "SELECT reason, component, count(), toUnixTimestamp64Micro(max(failed_at))"
            " FROM dead_letters FINAL GROUP BY reason, component ORDER BY max(failed_at) DESC LIMIT 100"
        )
        return ages, [DeadLetterCount._make((*r[:3], from_unix_us(r[3]))) for r in letters]

    def key_names(self, now: datetime) -> dict[str, str]:
        """The latest alias of each key that was used lately."""
        source, parameters = self._usage(TimeSpan(now - _NAMES_OF_THE_LAST, now + timedelta(hours=1)), {})
        rows = self._rows(
            f"SELECT key, argMax(key_alias, occurred_at) FROM {source} WHERE key_alias != ''"
            " GROUP BY key ORDER BY max(occurred_at) DESC LIMIT {limit:UInt32}",
            **parameters,
            limit=MAX_NAMES,
        )
        return {str(key): str(alias) for key, alias in rows}

    def subject_of_key(self, key: str, now: datetime) -> tuple[str, Subject] | None:
        """The alias and the owners of a key, as its latest request had them."""
        source, parameters = self._usage(
            TimeSpan(now - _NAMES_OF_THE_LAST, now + timedelta(hours=1)), {"key": key}
        )
        owners: tuple[Dimension, ...] = ("user", "team", "organization", "project")
        rows = self._rows(
            f"SELECT ifNull(key_alias, ''), {', '.join(f'`{one}`' for one in owners)} FROM {source}"
            " WHERE kind = 'usage' ORDER BY occurred_at DESC LIMIT 1",
            **parameters,
        )
        if not rows:
            return None
        alias, *values = rows[0]
        return alias, Subject(key=key, **dict(zip(owners, values, strict=True)))

    def _usage(
        self,
        span: TimeSpan,
        filters: Filters,
        columns: str = "*",
        after: Cursor | None = None,
        time: str = "occurred_at",
        identity: str = "event_id",
    ) -> tuple[str, dict[str, Any]]:
        """Usage of the span, each event once, of the viewer's teams and with these values."""
        conditions, parameters = [], dict[str, Any]()
        for dimension, value in filters.items():
            name = f"is_{dimension}"
            parameters[name] = value
            if dimension == "tag":
                conditions.append(f"has(tags, {{{name}:String}})" if value else "empty(tags)")
            else:
                conditions.append(f"{_VALUE[dimension]} = {{{name}:String}}")
        if self._scope.teams is not None:
            conditions.append("ifNull(team, '') IN {scope_teams:Array(String)}")
            parameters["scope_teams"] = sorted(self._scope.teams - {""})
        return _source("usage", time, span, conditions, after, identity, columns, final=True, **parameters)

    def _table(
        self,
        table: str,
        time: str = "",
        span: TimeSpan | None = None,
        conditions: Iterable[str] = (),
        after: Cursor | None = None,
        identity: str = "",
        *,
        final: bool = True,
        **parameters: Any,
    ) -> tuple[str, dict[str, Any]]:
        """A table whose rows name an account, of the viewer's teams."""
        held = list(conditions)
        if self._scope.teams is not None:
            held.append(f"hasAny({_SUBJECT_OF_ACCOUNT}, {{scope_pairs:Array(String)}})")
            parameters["scope_pairs"] = [
                account_name("", [("team", team)])[1:] for team in sorted(self._scope.teams)
            ]
        return _source(table, time, span, held, after, identity, "*", final=final, **parameters)

    def _rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return list(map(tuple, self._client.query(sql, parameters=parameters).result_rows))


def _source(
    table: str,
    time: str,
    span: TimeSpan | None,
    conditions: Iterable[str],
    after: Cursor | None,
    identity: str,
    columns: str,
    *,
    final: bool,
    **parameters: Any,
) -> tuple[str, dict[str, Any]]:
    """The rows that may be read, in brackets, and their parameters."""
    held = list(conditions)
    if span is not None:
        held.append(f"{time} >= {_moment('start_us')} AND {time} < {_moment('end_us')}")
        parameters |= {"start_us": to_unix_us(span.start), "end_us": to_unix_us(span.end)}
    if after is not None:
        held.append(f"({time}, {identity}) < ({_moment('after_us')}, {{after_id:UUID}})")
        parameters |= {"after_us": to_unix_us(after.at), "after_id": str(after.id)}
    where = f" WHERE {' AND '.join(held)}" if held else ""
    return f"(SELECT {columns} FROM {table}{' FINAL' if final else ''}{where})", parameters


def _moment(parameter: str) -> str:
    return f"fromUnixTimestamp64Micro({{{parameter}:Int64}}, 'UTC')"


def _column(name: str) -> str:
    if name == "cost_nanousd":
        return "cost_usd"
    if name in ("tags", "prices", "corrects", "event_id", "estimated") or name.endswith(("_tokens", "_ms")):
        return name
    return f"ifNull(toString(`{name}`), '')"


def _event(row: Sequence[Any]) -> EventRow:
    fields = dict(zip(EventRow._fields, row, strict=True))
    fields["occurred_at"] = from_unix_us(fields["occurred_at"])
    fields["cost_nanousd"] = _nano(fields["cost_nanousd"])
    fields["tags"] = tuple(fields["tags"])
    return EventRow(**fields)


def _nano(usd: Decimal) -> NanoUsd:
    return NanoUsd(int(usd.scaleb(9)))


def _maybe(usd: Decimal | None) -> NanoUsd | None:
    return None if usd is None else _nano(usd)
