"""Every SQL statement of the console. `_sums`, `_usage` and `_table` hold the viewer's scope.

Bounded: by a span, by a LIMIT, and by the time and memory that the client gives a query.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from spendmeter.contract.decision import Decision
from spendmeter.contract.money import NanoUsd, from_sum_usd
from spendmeter.domain.matching import Subject
from spendmeter.history.lists import SUBJECT_OF_ACCOUNT
from spendmeter.history.reconciles import last_equal, last_reconcile
from spendmeter.history.spenders import label_sql
from spendmeter.history.sums import (
    OF_A_ROW,
    Condition,
    held_to,
    in_span,
    rows_of_usage,
    source_of_sums,
)
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.account import account_name
from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import TimeSpan, from_unix_us, to_unix_us
from spendmeter_console.history.rows import (
    AlertDetail,
    AlertRow,
    BudgetChange,
    Cursor,
    CurvePoint,
    DeadLetterCount,
    DeliveryRow,
    DoubtedModel,
    EventRow,
    Point,
    Reconciled,
    RefusalRow,
    SpendRow,
    SpendSeries,
    SpendTotals,
    TopicAge,
)
from spendmeter_console.history.spans import Interval, latest_first, steps
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
NO_TEXT = "''"
MAX_DELIVERIES = 10_000
CURVE_POINTS = 300
NAMES_OF_THE_LAST = timedelta(days=35)
_EVIDENCE_EVENTS = 50

_SUMS = "sum(spent_usd), sum(requests), sum(input_tokens), sum(output_tokens), sum(unpriced)"
_START: dict[Interval, str] = {
    Interval.HOUR: "toUnixTimestamp(toStartOfHour(counts_at))",
    Interval.DAY: "toUnixTimestamp(toStartOfDay(counts_at, '{zone}'))",
    Interval.MONTH: "toUnixTimestamp(toDateTime(toStartOfMonth(toTimeZone(counts_at, '{zone}')), '{zone}'))",
}
_ALERT = (
    "alert_id, toUnixTimestamp64Micro(emitted_at), kind, message, budget_id, account, threshold,"
    " spent_usd, limit_usd"
)
_AFTER = "(occurred_at, event_id) < (fromUnixTimestamp64Micro({after_us:Int64}, 'UTC'), {after_id:UUID})"
_OF_ALERTS = "alert_id IN {ids:Array(UUID)}"
_SENT_THEN = "if(outcome = 'sent', toNullable(at), NULL)"
_ACCOUNT_IS_THEIRS = f"hasAny({SUBJECT_OF_ACCOUNT}, {{scope_pairs:Array(String)}})"
_CONCERNS_THEM = "subject['team'] IN {scope_teams:Array(String)}"


class HistoryQueries:
    """One database as one viewer may see it. Blocking: called from a thread."""

    def __init__(self, client: Client, scope: ViewScope) -> None:
        self._client = client
        self._scope = scope

    def spend(
        self, span: TimeSpan, by: Sequence[Dimension], filters: Filters, limit: int, offset: int = 0
    ) -> list[SpendRow]:
        """What each combination of values spent, the largest first."""
        values = [f"v_{one}" for one in by]
        source, parameters = self._sums(span, filters, by)
        rows = self._rows(
            f"SELECT {', '.join([*values, *map(label_sql, by), _SUMS])} FROM {source}"
            f" {'GROUP BY ' + ', '.join(values) if values else ''}"
            f" ORDER BY {', '.join(['sum(spent_usd) DESC', 'sum(requests) DESC', *values])}"
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
                from_sum_usd(row[2 * width]),
                *row[2 * width + 1 :],
            )
            for row in rows
        ]

    def totals(self, span: TimeSpan, filters: Filters) -> SpendTotals:
        """All of the span, each request once."""
        source, parameters = self._sums(span, filters)
        [row] = self._rows(f"SELECT {_SUMS}, sum(corrections) FROM {source}", **parameters)
        return SpendTotals(from_sum_usd(row[0]), *row[1:])

    def spent_in(self, spans: Sequence[TimeSpan]) -> list[NanoUsd]:
        """What was spent in each of these spans, read once. A span without any length has nothing."""
        whole = TimeSpan(min(one.start for one in spans), max(one.end for one in spans))
        if whole.start >= whole.end:
            return [NanoUsd(0)] * len(spans)
        source, parameters = self._sums(whole, {}, edges=[edge for one in spans for edge in one])
        columns = []
        for n, one in enumerate(spans):
            parameters |= {f"start_{n}": to_unix_us(one.start), f"end_{n}": to_unix_us(one.end)}
            columns.append(f"sumIf(spent_usd, {in_span('counts_at', f'start_{n}', f'end_{n}')})")
        [row] = self._rows(f"SELECT {', '.join(columns)} FROM {source}", **parameters)
        return [from_sum_usd(usd) for usd in row]

    def series(
        self,
        span: TimeSpan,
        interval: Interval,
        zone: ZoneInfo,
        by: Dimension | None,
        values: Sequence[str],
        filters: Filters,
    ) -> SpendSeries:
        """Spend over time: of these values of a dimension, and of everything.

        Raises InvalidSpan: it has too many pieces.
        """
        of_these = [by] if by else []
        source, parameters = self._sums(span, filters, of_these, edges=steps(span, interval, zone))
        value = f"if(v_{by} IN {{values:Array(String)}}, v_{by}, NULL)" if by else "NULL"
        rows = self._rows(
            f"SELECT {_START[interval].replace('{zone}', zone.key)} AS step, {value} AS v,"
            f" {label_sql(by) if by else NO_TEXT}, {_SUMS}, sum(corrections)"
            # Where all of it was moved to another piece nothing is left.
            f" FROM {source} GROUP BY step, v HAVING sum(requests) != 0 OR sum(corrections) != 0"
            " ORDER BY step, v LIMIT 100000",
            **parameters,
            **({"values": list(values)} if by else {}),
        )
        return _series_of(rows)

    def events(
        self, span: TimeSpan, filters: Filters, limit: int, after: Cursor | None = None
    ) -> list[EventRow]:
        """Single events, the latest first."""
        found = self._latest(span, filters, limit, after)
        if not found:
            return []
        # Every column of these alone: of the whole span they would be most of what is read.
        narrow = TimeSpan(from_unix_us(found[-1][0]), from_unix_us(found[0][0] + 1))
        source, parameters = self._usage(narrow, {}, ["event_id IN {ids:Array(UUID)}"])
        columns = [
            f"toUnixTimestamp64Micro({name})" if name == "occurred_at" else f"{_column(name)}"
            for name in EventRow._fields
        ]
        rows = self._rows(
            f"SELECT {', '.join(columns)} FROM {source} ORDER BY occurred_at DESC, event_id DESC",
            **parameters,
            ids=[str(event_id) for _, event_id in found],
        )
        return [_event(row) for row in rows]

    def _latest(
        self, span: TimeSpan, filters: Filters, limit: int, after: Cursor | None
    ) -> list[tuple[int, UUID]]:
        """When the latest events were, in microseconds, and their ids."""
        if after is not None:
            span = span._replace(end=min(span.end, after.at + timedelta(microseconds=1)))
        found: list[tuple[int, UUID]] = []
        for stretch in latest_first(span):
            known = [_AFTER] if after is not None else []
            source, parameters = self._usage(stretch, filters, known, "occurred_at, event_id")
            if after is not None:
                parameters |= {"after_us": to_unix_us(after.at), "after_id": str(after.id)}
            rows = self._rows(
                f"SELECT toUnixTimestamp64Micro(occurred_at), event_id FROM {source}"
                " ORDER BY occurred_at DESC, event_id DESC LIMIT {limit:UInt32}",
                **parameters,
                limit=limit - len(found),
            )
            found += [(at, event_id) for at, event_id in rows]
            if len(found) == limit:
                break
        return found

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
            "alerts",
            "emitted_at",
            span,
            conditions,
            after,
            "alert_id",
            is_theirs=_CONCERNS_THEM,
            budget=budget_id,
        )
        rows = self._rows(
            f"SELECT {_ALERT} FROM {source} ORDER BY emitted_at DESC, alert_id DESC LIMIT {{limit:UInt32}}",
            **parameters,
            limit=limit,
        )
        return [_alert(row) for row in rows]

    def deliveries(self, alert_ids: Sequence[UUID]) -> dict[UUID, list[DeliveryRow]]:
        """What became of these alerts, the latest of each route; nothing of one that no relay has met."""
        found: dict[UUID, list[DeliveryRow]] = defaultdict(list)
        source, parameters = self._table(
            "deliveries_now", conditions=[_OF_ALERTS], is_theirs=_CONCERNS_THEM, final=False
        )
        sql = f"SELECT {_delivery_columns('sent_at')} FROM {source} ORDER BY route LIMIT {MAX_DELIVERIES}"
        for row in self._rows(sql, **parameters, ids=[str(one) for one in alert_ids]) if alert_ids else []:
            found[row[0]].append(_delivery(row))
        return found

    def alert(self, alert_id: UUID) -> AlertDetail | None:
        """An alert and all that became of it; None where there is none, or where it is not the viewer's."""
        ids = [str(alert_id)]
        source, parameters = self._table("alerts", conditions=[_OF_ALERTS], is_theirs=_CONCERNS_THEM)
        window = f"{_micro('window_start')}, {_micro('window_end')}"
        rows = self._rows(f"SELECT {_ALERT}, {window} FROM {source} LIMIT 1", **parameters, ids=ids)
        if not rows:
            return None
        source, parameters = self._table("deliveries", conditions=[_OF_ALERTS], is_theirs=_CONCERNS_THEM)
        steps = self._rows(
            f"SELECT {_delivery_columns(_SENT_THEN)} FROM {source}"
            f" ORDER BY route, stored_at, offset LIMIT {MAX_DELIVERIES}",
            **parameters,
            ids=ids,
        )
        [row] = rows
        return AlertDetail(_alert(row), _time(row[9]), _time(row[10]), [_delivery(one) for one in steps])

    def budget_changes(self, budget_id: str, limit: int = MAX_ROWS) -> list[BudgetChange]:
        """Every revision of a budget, the latest first. Whether it may be seen, the board knows."""
        rows = self._rows(
            "SELECT toUnixTimestamp64Micro(updated_at), revision, updated_by, signed_by != '', removed,"
            " limit_usd, period, timezone, action, enforcement,"
            f" {_micro('reset_at')},"
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
                    from_sum_usd(r[5]),
                    *r[6:10],
                    _time(r[10]),
                    tuple(
                        (from_sum_usd(usd), from_unix_us(us)) for usd, us in zip(r[11], r[12], strict=True)
                    ),
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
        return [
            CurvePoint(from_unix_us(at), from_sum_usd(spent), from_sum_usd(limit))
            for at, spent, limit in rows
        ]

    def doubted(self, span: TimeSpan, limit: int = MAX_ROWS) -> list[DoubtedModel]:
        """Models whose price nobody knows, and those of which LiteLLM's figure does not count."""
        # Most keys have none: of copies only theirs are compared.
        where = "kind = 'usage' AND (cost_source = 'unpriced' OR cost_doubt != '')"
        of_key = "(toDate(occurred_at), key)"
        of_these = f"{of_key} IN (SELECT {of_key} FROM usage WHERE {in_span()} AND {where})"
        source, parameters = self._usage(span, {}, [of_these])
        rows = self._rows(
            f"SELECT {OF_A_ROW['model']} AS name, provider,"
            " if(cost_source = 'unpriced', 'unpriced', cost_doubt) AS why, count(), sum(cost_usd),"
            f" toUnixTimestamp64Micro(max(occurred_at)) FROM {source} WHERE {where}"
            " GROUP BY name, provider, why ORDER BY count() DESC, name, why LIMIT {limit:UInt32}",
            **parameters,
            limit=limit,
        )
        return [DoubtedModel._make((*r[:4], from_sum_usd(r[4]), from_unix_us(r[5]))) for r in rows]

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
            for table in ("usage", "signals", "alerts", "deliveries", "budgets", "decisions")
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

    def reconciled(self) -> Reconciled:
        """The last comparison of events, totals, signals and history. Of the system, as `health`."""
        if not self._scope.is_everything:
            return Reconciled()
        return Reconciled(last_reconcile(self._client), last_equal(self._client))

    def key_names(self, now: datetime, lately: timedelta = NAMES_OF_THE_LAST) -> dict[str, str]:
        """The latest alias of each key that was used lately."""
        span = TimeSpan(now - lately, now + timedelta(hours=1))
        # Not FINAL: a copy has the name that its event has.
        source, parameters = self._usage(span, {}, ["key_alias != ''"], final=False)
        rows = self._rows(
            f"SELECT key, argMax(key_alias, occurred_at) FROM {source}"
            " GROUP BY key ORDER BY max(occurred_at) DESC LIMIT {limit:UInt32}",
            **parameters,
            limit=MAX_NAMES,
        )
        return {str(key): str(alias) for key, alias in rows}

    def subject_of_key(self, key: str, now: datetime) -> tuple[str, Subject] | None:
        """The alias and the owners of a key, as its latest request had them."""
        span = TimeSpan(now - NAMES_OF_THE_LAST, now + timedelta(hours=1))
        source, parameters = self._usage(span, {"key": key})
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
        of_identity: Iterable[str] = (),
        columns: str = "*",
        *,
        final: bool = True,
    ) -> tuple[str, dict[str, Any]]:
        """Usage of the span, each event once, of the viewer's teams and with these values.

        Args:
            of_identity: more conditions, on what all copies of an event share.
        """
        conditions, parameters = self._held(filters)
        source = rows_of_usage(conditions, of_identity, columns, final=final)
        return f"({source})", parameters | {
            "start_us": to_unix_us(span.start),
            "end_us": to_unix_us(span.end),
        }

    def _sums(
        self,
        span: TimeSpan,
        filters: Filters,
        by: Iterable[Dimension] = (),
        edges: Iterable[datetime] = (),
    ) -> tuple[str, dict[str, Any]]:
        """What adds up to the spend of the span, of the viewer's teams and with these values."""
        conditions, parameters = self._held(filters)
        source, of_span = source_of_sums(span, edges, by, conditions)
        return source, parameters | of_span

    def _held(self, filters: Filters) -> tuple[list[Condition], dict[str, Any]]:
        """What every row and sum must be: of the viewer's teams, with these values."""
        conditions, parameters = list[Condition](), dict[str, Any]()
        for dimension, value in filters.items():
            condition, given = held_to(dimension, [value])
            conditions.append(condition)
            parameters |= given
        if self._scope.teams is not None:
            is_theirs = "IN {scope_teams:Array(String)}"
            conditions.append(Condition("team", f"ifNull(team, '') {is_theirs}", f"team {is_theirs}"))
            parameters["scope_teams"] = sorted(self._scope.teams - {""})
        return conditions, parameters

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
        is_theirs: str = _ACCOUNT_IS_THEIRS,
        **parameters: Any,
    ) -> tuple[str, dict[str, Any]]:
        """A table whose rows are of the viewer's teams, by their account unless it is said how."""
        held = list(conditions)
        if self._scope.teams is not None:
            teams = sorted(self._scope.teams - {""})
            held.append(is_theirs)
            parameters["scope_teams"] = teams
            parameters["scope_pairs"] = [account_name("", [("team", team)])[1:] for team in teams]
        return _source(table, time, span, held, after, identity, final=final, **parameters)

    def _rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return list(map(tuple, self._client.query(sql, parameters=parameters).result_rows))


def _source(
    table: str,
    time: str,
    span: TimeSpan | None,
    conditions: Iterable[str],
    after: Cursor | None,
    identity: str,
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
    return f"(SELECT * FROM {table}{' FINAL' if final else ''}{where})", parameters


def _series_of(rows: Iterable[tuple[Any, ...]]) -> SpendSeries:
    points, whole, totals = list[Point](), dict[datetime, int](), [0] * 6
    for step, value, label, usd, *counts in rows:
        at, spent = from_unix_us(step * 1_000_000), from_sum_usd(usd)
        if value is not None:
            points.append(Point(at, value, label or value, spent))
        whole[at] = whole.get(at, 0) + spent
        totals = [known + more for known, more in zip(totals, (spent, *counts), strict=True)]
    everything = [Point(at, "", "", NanoUsd(spent)) for at, spent in whole.items()]
    return SpendSeries(points, everything, SpendTotals(NanoUsd(totals[0]), *totals[1:]))


def _alert(row: Sequence[Any]) -> AlertRow:
    return AlertRow._make((row[0], from_unix_us(row[1]), *row[2:7], _maybe(row[7]), _maybe(row[8])))


def _delivery_columns(sent_at: str) -> str:
    return (
        "alert_id, route, outcome, toUnixTimestamp64Micro(at), reason, attempts, reminders,"
        f" {_micro('due_at')}, {_micro(sent_at)}"
    )


def _delivery(row: Sequence[Any]) -> DeliveryRow:
    return DeliveryRow._make((*row[:3], from_unix_us(row[3]), *row[4:7], _time(row[7]), _time(row[8])))


def _micro(column: str) -> str:
    """A time that may be NULL, in microseconds."""
    return f"if({column} IS NULL, NULL, toUnixTimestamp64Micro(assumeNotNull({column})))"


def _time(micro: int | None) -> datetime | None:
    return None if micro is None else from_unix_us(micro)


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
    fields["cost_nanousd"] = from_sum_usd(fields["cost_nanousd"])
    fields["tags"] = tuple(fields["tags"])
    return EventRow(**fields)


def _maybe(usd: Decimal | None) -> NanoUsd | None:
    return None if usd is None else from_sum_usd(usd)
