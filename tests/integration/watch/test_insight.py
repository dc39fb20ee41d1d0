"""Unusual spend, who is not used any more, and digests, found in the real engine; sums equal an oracle's."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.money import from_usd
from spendmeter.contract.usage import UsageEvent, UsageKind
from spendmeter.runtime.clickhouse import Client
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.watch.anomaly import Anomalies
from spendmeter_sinks.watch.digest import Digests, periods_due
from spendmeter_sinks.watch.settings import WatchSettings
from spendmeter_sinks.watch.spend_reports import SHOWN, SpendReport, read_reports
from spendmeter_sinks.watch.unused import MAX_ALERTS_A_DAY, Unused
from tests.integration.sinks.recorded import MIDNIGHT, Recorded

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KEY = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def put(history: Client, rows: Sequence[dict[str, Any]]) -> None:
    """Usage events of these fields."""
    defaults = {
        "kind": "usage",
        "producer_id": "p1",
        "key": "k1",
        "key_alias": None,
        "team": None,
        "team_alias": None,
        "model": "gpt-4o",
        "provider": "openai",
        "cost_usd": Decimal(0),
        "topic": "spend.usage",
    }
    names = ["event_id", "seq", *defaults, "occurred_at"]
    first = history.query("SELECT count() FROM usage").result_rows[0][0]
    values = [
        [f"00000000-0000-4000-8000-{first + n:012d}", first + n, *({**defaults, **row}[c] for c in names[2:])]
        for n, row in enumerate(rows)
    ]
    history.insert("usage", values, column_names=names)


def with_settings(settings: WatchSettings, **fields: Any) -> WatchSettings:
    return settings.model_copy(update=fields)


@pytest.fixture(scope="module")
def recorded(history: Client, settings: WatchSettings) -> Recorded:
    """Three days of November: resends, corrections, voids and replays."""
    sink = SinkSettings(
        clickhouse_url=settings.clickhouse_url, clickhouse_database=settings.clickhouse_database
    )
    random = Random(5)
    found = Recorded(history, sink, random)
    found.new()
    for _ in range(16):
        random.choice((found.new, found.new, found.resend, found.correct, found.repeat, found.replay_a_day))()
    return found


def spent_by(
    recorded: Recorded, start: datetime, end: datetime, value: Callable[[UsageEvent], str]
) -> dict[str, tuple[int, int]]:
    """By value: nano-USD and requests."""
    found = defaultdict[str, list[int]](lambda: [0, 0])
    for _, event in recorded.first.values():
        if start <= event.occurred_at < end:
            found[value(event)][0] += event.cost_nanousd
            found[value(event)][1] += event.kind is UsageKind.USAGE
    return {name: (spent, requests) for name, (spent, requests) in found.items()}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kathmandu"])
def test_a_digest_has_what_was_spent_in_the_end_to_the_nano_dollar(
    recorded: Recorded, history: Client, zone: str
) -> None:
    [period] = periods_due("daily", MIDNIGHT + 2 * DAY + HOUR * 9, ZoneInfo(zone), 8)
    reports = {one.team: one for one in read_reports(history, period)}

    def of(report: SpendReport, is_theirs: Callable[[UsageEvent], bool]) -> None:
        def each(value: Callable[[UsageEvent], str], start: datetime, end: datetime) -> dict[str, int]:
            found = spent_by(recorded, start, end, lambda e: value(e) if is_theirs(e) else "\0")
            return {name: spent for name, (spent, _) in found.items() if name != "\0"}

        now, then = (period.start, period.end), (period.before, period.start)
        assert report.spent_nanousd == sum(each(lambda e: "", *now).values())
        assert report.before_nanousd == sum(each(lambda e: "", *then).values())
        requests = spent_by(recorded, *now, lambda e: "theirs" if is_theirs(e) else "\0")
        assert report.requests == requests.get("theirs", (0, 0))[1]
        keys = each(lambda e: e.key, *now)
        models = each(lambda e: e.model.removeprefix("openai/"), *now)
        for what, expected in (("key", keys), ("model", models)):
            largest = sorted(expected.items(), key=lambda one: -one[1])[:SHOWN]
            assert [(one.name, one.spent_nanousd) for one in report.largest[what]] == largest

    assert {"red", "blue", ""} <= reports.keys()
    for team, report in reports.items():
        of(report, lambda e, team=team: not team or e.team == team)  # type: ignore[misc]
    assert reports["red"].name == "Red"


def test_refusals_and_budgets_are_of_the_team_that_they_name_or_whose_key_it_is(
    recorded: Recorded, history: Client
) -> None:
    put(
        history,
        [
            {
                "occurred_at": MIDNIGHT + HOUR,
                "key": KEY,
                "key_alias": "laptop",
                "team": "a&b",
                "cost_usd": Decimal(1),
            }
        ],
    )
    refused = [
        ("team-month|team=a%26b", "other"),
        (f"key-day|key={KEY}", "laptop"),
        ("user-day|user=ann", "laptop"),
        ("user-day|user=ann", KEY),
        ("team-month|team=red", "laptop"),
        ("", "nobody"),
    ]
    history.insert(
        "decisions",
        [
            [
                f"00000000-0000-4000-8000-{n:012d}",
                MIDNIGHT + n * HOUR,
                account,
                name,
                account.partition("|")[0],
            ]
            for n, (account, name) in enumerate(refused)
        ],
        column_names=["decision_id", "decided_at", "account", "name", "budget_id"],
    )
    history.insert("budgets", [["team-month", 1, Decimal(10)]], column_names=["id", "revision", "limit_usd"])
    used = [({"team": "a&b"}, 5), ({"team": "a&b", "user": "ann"}, 9), ({"team": "red"}, 8), ({}, 1)]
    history.insert(
        "signals",
        [
            ["team-month", f"team-month|{n}", subject, MIDNIGHT, Decimal(10), Decimal(spent), 1]
            for n, (subject, spent) in enumerate(used)
        ],
        column_names=[
            "budget_id",
            "account",
            "subject",
            "window_start",
            "limit_usd",
            "spent_usd",
            "revision",
        ],
    )
    [period] = periods_due("daily", MIDNIGHT + DAY + HOUR * 9, ZoneInfo("UTC"), 8)

    reports = {one.team: one for one in read_reports(history, period)}

    assert {team: one.refused for team, one in reports.items() if one.refused} == {"a&b": 4, "red": 1, "": 6}
    assert [(one.whose, one.spent_nanousd) for one in reports["a&b"].closest] == [
        ("user ann", from_usd("9")),
        ("", from_usd("5")),
    ]
    assert [one.whose for one in reports[""].closest] == ["team a&b, user ann", "team Red", "team a&b", ""]


def test_a_digest_is_said_once_by_the_same_id_and_not_before_its_hour(
    recorded: Recorded, history: Client, settings: WatchSettings
) -> None:
    check = Digests(with_settings(settings, watch_digests="daily", watch_timezone="Europe/Berlin"))
    due = MIDNIGHT + 2 * DAY + HOUR * 7

    before, found = check.run(history, due - timedelta(seconds=1)), check.run(history, due)
    later = check.run(history, due + HOUR)

    assert {one.alert_id for one in found} == {one.alert_id for one in later}
    assert not {one.alert_id for one in before} & {one.alert_id for one in found}
    assert {one.kind for one in found} == {AlertKind.DIGEST}
    assert found[-1].subject == {}
    [red] = [one for one in found if one.subject == {"team": "red"}]
    assert red.message.startswith("team Red spent $")
    assert " on Fri 20 Nov (Europe/Berlin), " in before[0].message
    history.insert("alerts", [[str(found[-1].alert_id)]], column_names=["alert_id"])
    assert check.run(history, due + 2 * HOUR) == []


def office(begin: datetime, hours: int, team: str, usd: int) -> list[dict[str, Any]]:
    return [
        {"occurred_at": begin + n * HOUR, "team": team, "cost_usd": Decimal(usd), "key": f"{team}-key"}
        for n in range(hours)
    ]


def test_an_hour_of_a_team_that_is_unusual_is_said_with_what_is_most_of_it(
    history: Client, settings: WatchSettings
) -> None:
    begin = datetime(2026, 1, 5, tzinfo=UTC)
    hours, now = 9 * 168, begin + 9 * 7 * DAY + timedelta(minutes=6)
    rows = [
        *office(begin, hours, "calm", 20),
        *office(begin, hours, "wild", 5),
        *office(begin, hours, "tiny", 1),
    ]
    last = begin + (hours - 1) * HOUR
    rows += [
        {
            "occurred_at": last + timedelta(minutes=59),
            "team": "wild",
            "team_alias": "The Wild",
            "key": KEY,
            "key_alias": "agent",
            "model": "o3",
            "cost_usd": Decimal("70.5"),
        },
        {"occurred_at": last, "team": "tiny", "cost_usd": Decimal(8)},
        {"occurred_at": now, "team": "calm", "cost_usd": Decimal(900)},
    ]
    put(history, rows)
    check = Anomalies(with_settings(settings, watch_timezone="Europe/Berlin"))

    [found] = check.run(history, now)

    assert (found.kind, found.subject) == (AlertKind.ANOMALY, {"team": "wild"})
    assert found.message == (
        "team The Wild spent $75.50 from Mon 9 Mar 00:00 CET to 01:00, where $5 is usual;"
        " most of it: key agent $70.50, model o3 $70.50"
    )
    later = check.run(history, now + 3 * HOUR)
    assert [one.subject.get("team") for one in later] == ["calm", "wild"]
    assert later[1] == found.model_copy(update={"emitted_at": now + 3 * HOUR})


def test_who_makes_no_request_any_more_is_said_once_per_last_use_the_largest_by_name(
    history: Client, settings: WatchSettings
) -> None:
    last = datetime(2025, 6, 1, 12, tzinfo=UTC)

    def use(key: str, at: datetime, **fields: Any) -> dict[str, Any]:
        return {"key": key, "occurred_at": at, "cost_usd": Decimal(1), **fields}

    put(
        history,
        [
            use("resting", last - DAY, team="old", cost_usd=Decimal(500)),
            use("resting", last, team="research", key_alias="notebook", cost_usd=Decimal("7.25")),
            use("busy", last),
            use("busy", last + 3 * DAY),
            *(use(f"many-{n}", last + 10 * DAY) for n in range(MAX_ALERTS_A_DAY + 7)),
        ],
    )
    check = Unused(with_settings(settings, watch_unused_days=30))

    def run(days: int) -> list[Alert]:
        return [*check.run(history, last + days * DAY)]

    assert run(30) == []
    [found] = run(31)
    assert found.subject == {"key": "resting", "team": "research"}
    assert found.message == (
        "key notebook has made no request for 30 days, since Sun 1 Jun 2025;"
        " in the month before it spent $7.25"
    )
    assert [one.alert_id for one in run(33)] == [found.alert_id]
    assert [one.subject["key"] for one in run(34)] == ["busy"]
    assert run(37) == []
    *named, more = run(41)
    assert len(named) == MAX_ALERTS_A_DAY
    assert more.message.startswith("7 more keys have made no request for 30 days, since Wed 11 Jun 2025")
    assert len({one.alert_id for one in (*named, more)}) == MAX_ALERTS_A_DAY + 1
    teams = Unused(with_settings(settings, watch_unused_days=30, watch_unused_of="team"))
    assert [one.subject for one in teams.run(history, last + 31 * DAY)] == [
        {"team": "old"},
        {"team": "research"},
    ]
