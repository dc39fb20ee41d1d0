"""The runs of `reconcile`, by hand and by `spendmeter watch`, as history remembers them. Blocking."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from spendmeter.runtime.clickhouse import ONE_INSERT_IS_ONE_BLOCK, Client


class ReconcileOutcome(StrEnum):
    """How a comparison of all windows ended."""

    EQUAL = "equal"
    DIFFERS = "differs"
    NOT_COMPARABLE = "not_comparable"
    """Something was missing or late; that says nothing about the figures."""


class ReconcileRun(NamedTuple):
    """One comparison of all windows."""

    checked_at: datetime
    duration_ms: int
    outcome: ReconcileOutcome
    summary: str
    """For people: what differs and by how much, or why nothing was compared."""
    run_by: str
    """`watch`, or `reconcile` where a person ran it."""
    events: int = 0
    accounts: int = 0
    differences: int = 0
    left_out: int = 0
    """Windows and signals that could not be compared."""
    found: Sequence[str] = ()
    """What differs, a line each; the same difference has the same line in each run."""
    alert_id: UUID | None = None
    """Of the alert that says so, if any is due."""


_COLUMNS = ", ".join(ReconcileRun._fields)
_OF_THE_LAST = f"SELECT {_COLUMNS} FROM reconciles"


def note_reconcile(client: Client, run: ReconcileRun) -> None:
    """Remember it. Raises clickhouse_connect's Error, such as where this user may not write."""
    client.insert(
        "reconciles", [[*run]], column_names=[*ReconcileRun._fields], settings=ONE_INSERT_IS_ONE_BLOCK
    )


def last_reconcile(client: Client) -> ReconcileRun | None:
    """The latest run; None where there was none."""
    rows = client.query(f"{_OF_THE_LAST} ORDER BY checked_at DESC LIMIT 1").result_rows
    return _run(rows[0]) if rows else None


def last_equal(client: Client) -> datetime | None:
    """When all was last found to be equal; None if never."""
    rows = client.query(
        "SELECT max(checked_at) FROM reconciles WHERE outcome = 'equal' HAVING count() > 0"
    ).result_rows
    return _in_utc(rows[0][0]) if rows else None


def differences_said(client: Client, since: datetime | None) -> frozenset[str]:
    """What alerts have said since then that it differs; None is ever."""
    rows = client.query(
        "SELECT DISTINCT arrayJoin(found) FROM reconciles WHERE checked_at > {since:DateTime64(6, 'UTC')}"
        " AND alert_id IN (SELECT alert_id FROM alerts WHERE kind = 'drift')",
        parameters={"since": since or datetime.fromtimestamp(0, UTC)},
    ).result_rows
    return frozenset(str(line) for (line,) in rows)


def _run(row: Sequence[object]) -> ReconcileRun:
    fields = dict(zip(ReconcileRun._fields, row, strict=True))
    fields["checked_at"] = _in_utc(fields["checked_at"])
    fields["outcome"] = ReconcileOutcome(str(fields["outcome"]))
    return ReconcileRun(**fields)  # type: ignore[arg-type]


def _in_utc(at: object) -> datetime:
    assert isinstance(at, datetime), "a column of times"
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
