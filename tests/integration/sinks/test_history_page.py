"""docs/history.md and docs/reference/tables.md against a history of known content: each query, each column.

python -m tests.integration.sinks.test_history_page URL     # writes the answers into the page; read them
"""

import re
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.contract.alert import Alert, AlertDelivery, AlertKind, DeliveryOutcome
from spendmeter.contract.budget import Budget
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import from_usd
from spendmeter.contract.records import (
    Record,
    encode_alert,
    encode_budget,
    encode_decision,
    encode_delivery,
    encode_signal,
    encode_usage,
)
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind
from spendmeter.history.correction import CorrectedEvent, correct
from spendmeter.kafka.fetch import FetchedRecord
from spendmeter.values.times import parse_time, to_unix_us
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.tables import ALERTS, BUDGETS, DECISIONS, DELIVERIES, SIGNALS, USAGE, Table
from spendmeter_sinks.clickhouse.writer import Writer, open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.roll_ups.roller import RollUps, read_stale
from tests.builders import budget, usage

PAGE = Path(__file__).parents[3] / "docs" / "history.md"
TABLES = PAGE.parent / "reference" / "tables.md"
VIEWS = (
    *("events", "by_hour", "by_day", "by_team_day", "by_key_day", "by_model_day"),
    *("by_team_model_day", "by_team_model_hour", "by_key_between", "entries"),
    *("accounts_now", "budgets_now", "refusals", "alerts_once", "deliveries_now"),
)
_OF_DAYS = {"by_key_between": "(first_day = toDate('2026-11-01'), days_end = toDate('2026-12-01'))"}
"""What a view wants to know."""
_QUESTION = re.compile(r"(?ms)^### (.+?)\n(.*?)```sql\n(.*?)```\n((?:\n\|.*?)?)(?=\n#|\Z)")


class Question(NamedTuple):
    text: str
    sql: str
    answer: str
    """A table of Markdown; empty where the page has none."""


def questions() -> list[Question]:
    found = _QUESTION.findall(PAGE.read_text(encoding="utf-8"))
    return [Question(text, sql, answer.strip()) for text, _, sql, answer in found]


def at(time: str) -> datetime:
    return parse_time(f"{time.replace(' ', 'T')}Z")


def event(number: int, time: str, usd: str, **fields: Any) -> UsageEvent:
    return usage(
        number,
        from_usd(usd),
        **{
            "event_id": UUID(int=number),
            "occurred_at": at(time),
            "key": "k1",
            "key_alias": "ci",
            "user": "u1",
            "user_alias": "Ann",
            "user_email": "ann@example.com",
            "team": "t1",
            "team_alias": "Search",
            "provider": "openai",
            "model": "gpt-4o",
            "input_tokens": 1_000,
            "output_tokens": 500,
            **fields,
        },
    )


_BOB = {"key": "k2", "key_alias": "laptop", "user": "u2", "user_alias": None, "user_email": None}
_OTHERS = {"key": "k3", "key_alias": None, "user": None, "user_alias": None, "team": None, "team_alias": None}
EVENTS = [
    event(1, "2026-10-15 12:00:00", "2"),
    event(2, "2026-11-28 09:00:00", "0.5", cache_read_tokens=250, tags=["nightly"]),
    event(3, "2026-11-28 23:10:00", "1.25", **_BOB, session="agent-7", tags=["nightly", "eval"]),
    event(4, "2026-11-28 23:40:00", "0.75", **_BOB, session="agent-7", model="openai/o3"),
    event(5, "2026-11-29 03:00:00", "0.000000001", key="k4", key_alias="new", team="t2", team_alias="Ads"),
    event(6, "2026-11-29 10:00:00", "0", model="own-7b", cost_source=CostSource.UNPRICED),
    event(7, "2026-11-29 11:00:00", "0.2", **_OTHERS, status=Status.FAILURE, end_user="acme"),
    event(8, "2026-11-29 12:00:00", "0.1", **_OTHERS, estimated=True, end_user="acme"),
    event(9, "2026-11-29 13:00:00", "4", team_alias="Search & Ads", end_user="globex"),
    event(10, "2026-11-29 14:00:00", "3"),
]


def corrected(number: int, kind: UsageKind, usd: str) -> UsageEvent:
    (original,) = [one for one in EVENTS if one.seq == number]
    found = correct(
        CorrectedEvent(original), from_usd(usd), kind=kind, reason="refunded", recorded_by="carol"
    )
    assert found is not None
    return found


def signal(account: str, spent: str, state: State, **fields: Any) -> Signal:
    return Signal.model_validate(
        {
            "budget_id": account.partition("|")[0],
            "account": account,
            "subject": {"team": "t1"},
            "window_start": at("2026-11-01 00:00:00"),
            "window_end": None,
            "limit_nanousd": from_usd("10"),
            "spent_nanousd": from_usd(spent),
            "state": state,
            "watermark": {0: 9},
            "revision": 1,
            "version": 2,
            "emitted_at": at("2026-11-29 13:00:01"),
            **fields,
        }
    )


def decision(number: int, time: str, name: str) -> Decision:
    return Decision(
        decision_id=UUID(int=number),
        decided_at=at(time),
        gateway="g1",
        why=Why.LIMIT_REACHED,
        name=name,
        message="Budget has been exceeded!",
        budget_id="team-ever",
        revision=1,
        account="team-ever|team=t1",
        window_start=at("2026-11-01 00:00:00"),
        window_end=None,
        limit_nanousd=from_usd("10"),
        spent_nanousd=from_usd("10"),
        watermark={0: 9},
        producer_id="p1",
        seq=9,
    )


def of_team(budget_id: str) -> Budget:
    return budget(
        id=budget_id,
        match={"team": "*"},
        limit_nanousd=from_usd("10"),
        period="lifetime",
        revision=1,
        updated_by="carol",
    )


FULL = signal("team-ever|team=t1", "10", State.EXCEEDED)
ALERT = Alert(
    alert_id=UUID(int=1),
    kind=AlertKind.EXCEEDED,
    signal=FULL,
    message="team-ever is spent",
    emitted_at=at("2026-11-29 13:00:01"),
)


def delivery(time: str, route: str, outcome: DeliveryOutcome, **fields: Any) -> AlertDelivery:
    return AlertDelivery(
        route=route, alert_id=ALERT.alert_id, outcome=outcome, at=at(time), alert=ALERT, **fields
    )


CHAT = [
    delivery("2026-11-29 13:00:01", "chat", DeliveryOutcome.HELD, due_at=at("2026-11-29 14:00:01")),
    delivery("2026-11-29 14:00:02", "chat", DeliveryOutcome.SENT, attempts=2),
]
PAGER = delivery(
    "2026-11-29 13:00:07", "pager", DeliveryOutcome.SKIPPED, reason="refused: HTTP 404", attempts=3
)
CONTENT: list[tuple[Table, list[Record]]] = [
    (USAGE, [encode_usage(one) for one in EVENTS]),
    (USAGE, [encode_usage(corrected(9, UsageKind.CORRECTION, "1.5"))]),
    (USAGE, [encode_usage(corrected(10, UsageKind.VOID, "0"))]),
    (
        SIGNALS,
        [encode_signal(signal("team-ever|team=t1", "9", State.WARNING, version=1)), encode_signal(FULL)],
    ),
    (SIGNALS, [encode_signal(signal("team-ever|team=t2", "0.5", State.OK))]),
    (SIGNALS, [encode_signal(signal("team-gone|team=t1", "9", State.WARNING))]),
    (BUDGETS, [encode_budget(of_team("team-ever"))]),
    (ALERTS, [encode_alert(ALERT), encode_alert(ALERT)]),
    (DELIVERIES, [encode_delivery(one) for one in (*CHAT, PAGER)]),
    (
        DECISIONS,
        [
            encode_decision(decision(number, f"2026-11-29 13:0{number}:00", name))
            for number, name in ((1, "ci"), (2, "ci"), (3, "laptop"), (2, "ci"))
        ],
    ),
]


def fill(settings: SinkSettings) -> None:
    """The content; each batch a second time, as a resend has it."""
    writer, keys, offset = Writer(settings), settings.read_signing_keys(), 0
    for table, records in [*CONTENT, *CONTENT]:
        stored = []
        for record in records:
            now_ms = to_unix_us(at("2026-11-30 00:00:00")) // 1_000
            stored.append(
                FetchedRecord(
                    f"spend.{table.name}",
                    0,
                    offset,
                    now_ms,
                    0,
                    record.key,
                    record.value,
                    [(name, value) for name, value in record.headers],
                )
            )
            offset += 1
        reading = table.read(stored, keys)
        assert not reading.unreadable
        reading.with_incarnation("one")
        writer.insert(table, reading.columns, f"{table.name}-{offset}")
    writer.close()


@pytest.fixture(scope="module")
def settings(clickhouse: str) -> SinkSettings:
    return SinkSettings(clickhouse_url=clickhouse, clickhouse_database=f"t{uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def client(settings: SinkSettings) -> Iterator[Client]:
    """History of the content, the earlier half of it in sums."""
    client = open_client(settings, database=None)
    migrate(client, settings.clickhouse_database)
    # Else copies might be gone before anybody reads.
    for table in ("usage", "signals", "alerts", "deliveries", "budgets", "decisions"):
        client.command(f"SYSTEM STOP MERGES {table}")
    fill(settings)
    yield client
    client.close()


def text(value: Any) -> str:
    match value:
        case Decimal():
            return f"{value.normalize():f}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case date():
            return value.isoformat()
        case bool():
            return str(value).lower()
        case _:
            return str(value).replace("|", r"\|")


def answer_of(client: Client, sql: str) -> str:
    result = client.query(sql)
    rows: Sequence[Sequence[Any]] = [result.column_names, ["---"] * len(result.column_names)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines += [f"| {' | '.join(map(text, row))} |" for row in result.result_rows]
    return "\n".join(lines)


def test_there_are_twenty_questions_and_each_has_an_answer() -> None:
    assert len(questions()) >= 20
    assert all(question.answer.count("\n") >= 2 for question in questions())
    assert len(questions()) == PAGE.read_text(encoding="utf-8").count("```sql")


def test_each_query_of_the_page_gives_what_stands_below_it(client: Client, settings: SinkSettings) -> None:
    for question in questions():
        assert answer_of(client, question.sql) == question.answer, question.text
    roll_ups = RollUps(settings, lambda: True)
    roll_ups.round()
    roll_ups.round()
    assert not read_stale(client)
    for question in questions():
        assert answer_of(client, question.sql) == question.answer, f"{question.text} Once all is summed up"


@pytest.mark.parametrize("view", VIEWS)
def test_each_column_of_a_view_is_on_the_page_and_no_other(client: Client, view: str) -> None:
    section = re.search(rf"(?ms)^## {view}\n(.*?)(?=^## |\Z)", TABLES.read_text(encoding="utf-8"))
    assert section, f"{view} has no section"
    documented = [
        name
        for line in re.findall(r"(?m)^\| (`.*?`) \|", section[1])
        for name in re.findall(r"`([\w.]+)`", line)
    ]
    of = f"{view}{_OF_DAYS.get(view, '')}"
    columns = [name for name, *_ in client.query(f"DESCRIBE (SELECT * FROM {of})").result_rows]
    assert sorted(documented) == sorted(columns)


def test_each_column_of_money_or_tokens_says_its_unit() -> None:
    for line in re.findall(r"(?m)^\| `\w+(?:_usd|_tokens|_ms)`.*$", TABLES.read_text(encoding="utf-8")):
        assert re.search(r"\| (USD|tokens|ms) \|", line), line


def _write(url: str) -> None:
    settings = SinkSettings(clickhouse_url=url, clickhouse_database=f"t{uuid4().hex[:12]}")
    client = open_client(settings, database=None)
    migrate(client, settings.clickhouse_database)
    fill(settings)
    page = PAGE.read_text(encoding="utf-8")
    for question in questions():
        old = f"{question.sql}```\n" + (f"\n{question.answer}\n" if question.answer else "")
        page = page.replace(old, f"{question.sql}```\n\n{answer_of(client, question.sql)}\n")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    _write(sys.argv[1])
