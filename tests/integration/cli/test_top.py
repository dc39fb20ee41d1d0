"""`spendmeter top` on the real engine."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from spendmeter.history.names import names_of
from spendmeter.runtime import clickhouse as connection
from spendmeter.settings import ClickHouseSettings
from spendmeter_sinks.database.migrate import migrate

from .conftest import spendmeter, spendmeter_json

Spend = Callable[..., None]
COLUMNS = [
    "event_id",
    "kind",
    "occurred_at",
    "key",
    "key_alias",
    "team",
    "team_alias",
    "tags",
    "cost_usd",
    "cost_source",
    "status",
]


@pytest.fixture
def spend(clickhouse: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spend]:
    """Put one event into a history that the commands find."""
    settings = ClickHouseSettings(clickhouse_url=clickhouse, clickhouse_database=database)
    server = connection.client(settings, database=None)
    migrate(server, database)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", clickhouse)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", database)

    def put(
        key: str,
        usd: str,
        *,
        alias: str | None = None,
        team: str | None = None,
        team_alias: str | None = None,
        tags: tuple[str, ...] = (),
        ago: timedelta = timedelta(seconds=1),
        at: datetime | None = None,
        source: str = "litellm",
        status: str = "success",
    ) -> None:
        row = [
            uuid4(),
            "usage",
            (at or datetime.now(UTC) - ago).astimezone(UTC),
            key,
            alias,
            team,
            team_alias,
            list(tags),
            usd,
            source,
            status,
        ]
        server.insert("usage", [row], column_names=COLUMNS, database=database)

    yield put
    server.close()


def top(*options: str) -> list[tuple[Any, ...]]:
    found = spendmeter_json("top", *options)
    return [
        (*(one[name] for name in found["by"]), one["spent_usd"], one["requests"]) for one in found["rows"]
    ]


def total(*options: str) -> tuple[str, int]:
    found = spendmeter_json("top", *options)["total"]
    return found["spent_usd"], found["requests"]


def test_the_biggest_spender_comes_first_to_the_nano_dollar(spend: Spend) -> None:
    spend("a", "0.000000001")
    spend("b", "0.1")
    spend("a", "0.1")

    assert top() == [("a", "0.100000001", 2), ("b", "0.100000000", 1)]


def test_only_the_window_counts(spend: Spend) -> None:
    spend("a", "1", ago=timedelta(minutes=61))
    spend("a", "2", ago=timedelta(minutes=59))

    assert top("--window", "hour") == [("a", "2.000000000", 1)]
    assert top("--window", "day") == [("a", "3.000000000", 2)]


def test_a_tag_counts_for_each_event_that_carries_it(spend: Spend) -> None:
    spend("a", "1", tags=("x", "y"))
    spend("a", "2", tags=("y",))

    assert top("--by", "tag") == [("y", "3.000000000", 2), ("x", "1.000000000", 1)]


def test_a_request_with_several_tags_is_once_in_the_total(spend: Spend) -> None:
    spend("a", "1", tags=("x", "y", "x"))
    spend("a", "2")

    assert top("--by", "tag") == [("", "2.000000000", 1), ("x", "1.000000000", 1), ("y", "1.000000000", 1)]
    assert total("--by", "tag") == ("3.000000000", 2)
    shown = spendmeter("top", "--once", "--by", "tag")
    assert "together $3.00 in 2 requests" in shown
    assert "several tags is in several rows, and once in this total" in shown


def test_two_dimensions_and_filters_by_name_or_id(spend: Spend) -> None:
    spend("a", "1", alias="ci", team="t1", team_alias="Search")
    spend("a", "2", alias="ci", team="t2", tags=("x",))
    spend("b", "4")

    assert top("--by", "team,key") == [
        ("", "b", "4.000000000", 1),
        ("t2", "a", "2.000000000", 1),
        ("t1", "a", "1.000000000", 1),
    ]
    assert top("--team", "Search", "--team", "t2", "--by", "team") == [
        ("t2", "2.000000000", 1),
        ("t1", "1.000000000", 1),
    ]
    assert top("--key", "ci", "--tag", "x") == [("a", "2.000000000", 1)]
    assert top("--team", "") == [("b", "4.000000000", 1)]
    assert top("--tag", "", "--rows", "1") == [("b", "4.000000000", 1)]
    assert total("--tag", "", "--rows", "1") == ("5.000000000", 2), "also of what is in no row"
    assert "… 1 more; --rows shows them" in spendmeter("top", "--once", "--tag", "", "--rows", "1")
    assert "no such request" in spendmeter("top", "--once", "--key", "nobody")


DAY = datetime(2026, 3, 28, tzinfo=UTC)
OF_THE_PAST = [
    (("--from", "2026-03-28", "--to", "2026-03-30", "--zone", "UTC"), "54"),
    (("--from", "2026-03-28", "--to", "2026-03-29", "--zone", "UTC"), "10"),
    # The day on which the clocks change has 23 hours.
    (("--from", "2026-03-29", "--to", "2026-03-30", "--zone", "Europe/Berlin"), "24"),
    (("--from", "2026-03-28T23:15:00Z", "--to", "2026-03-29T22:15:00Z"), "24"),
    # Half an hour beside the sums.
    (("--from", "2026-03-29", "--to", "2026-03-30", "--zone", "Asia/Kolkata"), "12"),
    (("--from", "2026-03-28T23:29:00Z", "--to", "2026-03-28T23:31:00Z"), "8"),
    (("--month", "2026-03", "--zone", "UTC"), "54"),
    (("--month", "2026-02", "--zone", "UTC"), "0"),
    # Before and after all that there can be.
    (("--from", "0001-01-01", "--to", "9999-12-31", "--zone", "Asia/Tokyo"), "54"),
    (("--from", "100000w"), "54"),
    (("--month", "2999-01"), "0"),
]


def test_a_span_of_the_past_is_what_the_readers_clock_says(spend: Spend) -> None:
    # An amount of its own for each, so that a sum says which are in it.
    for hours, usd in ((0.5, "2"), (23.5, "8"), (25, "4"), (24 + 21.75, "12"), (24 + 22.25, "28")):
        spend("a", usd, at=DAY + timedelta(hours=hours))

    for span, usd in OF_THE_PAST:
        assert total(*span)[0] == f"{usd}.000000000", span
        # From the events, where there are no sums: by tag.
        assert total(*span, "--tag", "")[0] == f"{usd}.000000000", span


def test_the_day_and_the_month_are_those_of_now(spend: Spend) -> None:
    zone = ("--zone", "Asia/Tokyo")
    today = datetime.now(ZoneInfo("Asia/Tokyo")).replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday, moment = today - timedelta(days=1), timedelta(microseconds=1)
    for usd, at in (("1", today), ("2", today - moment), ("4", yesterday), ("8", yesterday - moment)):
        spend("a", usd, at=at)

    assert total("--today", *zone)[0] == "1.000000000"
    assert total("--yesterday", *zone)[0] == "6.000000000"
    assert total("--month", *zone)[0] == {1: "1.000000000", 2: "7.000000000"}.get(today.day, "15.000000000")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--by", "team,key,model"), "2 at most"),
        (("--by", "hour"), "'hour' is no dimension"),
        (("--from", "soon"), "write a date such as 2026-11-01"),
        (("--from", "2026-11-02", "--to", "2026-11-02"), "--to is not after --from"),
        (("--to", "2026-11-02"), "--to needs --from"),
        (("--month", "0001-01", "--zone", "Asia/Tokyo"), "is no month"),
        (("--yesterday", "--month"), "exclude one another"),
        (("--month", "2026-11-01"), "write one such as 2026-11"),
        (("--zone", "Mars/Base"), "write an IANA name"),
    ],
)
def test_a_span_that_cannot_be_is_refused_with_the_fix(given: tuple[str, ...], said: str) -> None:
    assert said in spendmeter("top", *given, exit_code=2)


def test_what_has_no_team_is_shown_as_none(spend: Spend) -> None:
    spend("a", "1", team="research")
    spend("b", "2")

    shown = spendmeter("top", "--once", "--by", "team").splitlines()

    assert shown[3].startswith("(none)")
    assert shown[4].startswith("research")
    assert shown[1] == "together $3.00 in 2 requests"


def test_unpriced_requests_are_told_apart_from_free_ones(spend: Spend) -> None:
    spend("a", "0", source="unpriced")
    spend("a", "0", source="cache")

    (row,) = spendmeter_json("top")["rows"]

    assert (row["requests"], row["unpriced"]) == (2, 1)
    assert "unpriced" in spendmeter("top", "--once")


def test_requests_that_failed_are_counted_and_told_apart(spend: Spend) -> None:
    assert top() == []
    assert "no request has finished" in spendmeter("top", "--once")

    spend("a", "0", status="failure")
    spend("a", "0.1", status="failure")
    spend("b", "0.2")

    assert top() == [("b", "0.200000000", 1), ("a", "0.100000000", 2)]
    headings, _, a = spendmeter("top", "--once").splitlines()[2:]
    assert headings.split()[-1] == "failed"
    assert a.split()[-1] == "2"


def test_a_name_is_shown_for_an_id_and_both_with_wide(spend: Spend) -> None:
    spend("a", "1", team="6f1c2d3e", team_alias="Research", ago=timedelta(minutes=2))
    spend("a", "1", team="6f1c2d3e")
    spend("b", "3", team="9a8b7c6d", team_alias="Ads")

    shown = spendmeter("top", "--once", "--by", "team")
    assert [line.split()[0] for line in shown.splitlines()[3:]] == ["Ads", "Research"]
    assert "6f1c2d3e" not in shown
    wide = spendmeter("top", "--once", "--by", "team", "--wide").splitlines()
    assert [line.split()[:2] for line in wide[3:]] == [["Ads", "9a8b7c6d"], ["Research", "6f1c2d3e"]]
    rows = spendmeter_json("top", "--by", "team")["rows"]
    assert [(row["team"], row["team_name"]) for row in rows] == [
        ("9a8b7c6d", "Ads"),
        ("6f1c2d3e", "Research"),
    ]


def test_ids_that_share_a_name_are_told_apart(spend: Spend) -> None:
    spend("a" * 64, "2", alias="ci")
    spend("b" * 64, "1", alias="ci")

    shown = spendmeter("top", "--once").splitlines()
    assert [line.split()[1] for line in shown[3:]] == ["(aaaaaaaa)", "(bbbbbbbb)"]


def test_the_names_of_an_account_are_its_latest(spend: Spend, clickhouse: str, database: str) -> None:
    spend("a", "1", alias="old", team="t1", team_alias="Research", ago=timedelta(minutes=2))
    spend("a", "1", alias="new", team="t2")
    settings = ClickHouseSettings(clickhouse_url=clickhouse, clickhouse_database=database)
    since = datetime.now(UTC) - timedelta(hours=1)
    with connection.reader(settings) as client:
        subject = {"key": "a", "team": "t1", "user": "nobody", "model": "gpt-4o"}
        assert names_of(client, subject, since) == {"key": "new", "team": "Research"}
        assert names_of(client, {"model": "gpt-4o"}, since) == {}
