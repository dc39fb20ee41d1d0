"""`/v1` on the real broker and engine: each amount is what the events add up to, to the nano-dollar."""

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from jsonschema import Draft202012Validator

from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.usage import UsageEvent, UsageKind
from spendmeter_console.api.openapi import document

from .conftest import Site
from .world import HOSTILE, KEYS, World, hash_of, secret_of


def get(site: Site, path: str, status: int = 200, **headers: str) -> Any:
    with site.client() as client:
        answer = client.get(path, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def pages(site: Site, path: str, name: str, **query: str) -> list[Any]:
    """All rows of an endpoint, a page after the other."""
    found: list[Any] = []
    after: str | None = ""
    while after is not None:
        answer = get(site, f"{path}?{urlencode({**query, 'after': after})}")
        found += answer[name]
        after = answer["next"]
    return found


def usd(amount: NanoUsd) -> str:
    return format_usd(amount)


def test_spend_by_team_is_what_the_events_add_up_to(site: Site, world: World) -> None:
    start, end = world.now - timedelta(days=30), world.now
    query = urlencode({"by": "team", "from": start.isoformat(), "to": end.isoformat()})
    found = get(site, f"/v1/spend?{query}")

    def in_span(event: UsageEvent) -> bool:
        return start <= event.occurred_at < end

    expected = world.spent_by(lambda event: [event.team or ""], in_span)
    assert {row["values"]["team"]: row["spent_usd"] for row in found["spend"]} == {
        team: usd(amount) for team, amount in expected.items()
    }
    assert found["total"]["spent_usd"] == usd(world.spent(in_span))
    assert found["total"]["requests"] == sum(
        in_span(event) and event.kind is UsageKind.USAGE for event in world.events
    )


def test_a_tagged_request_is_in_each_tags_row_and_once_in_the_total(site: Site, world: World) -> None:
    found = get(site, "/v1/spend?by=tag&range=30d&zone=UTC")
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=29)

    def in_span(event: UsageEvent) -> bool:
        return event.occurred_at >= start

    expected = world.spent_by(lambda event: event.tags or ("",), in_span)
    assert {row["values"]["tag"]: row["spent_usd"] for row in found["spend"]} == {
        tag: usd(amount) for tag, amount in expected.items()
    }
    assert HOSTILE in expected
    assert found["total"]["spent_usd"] == usd(world.spent(in_span))


def test_two_dimensions_and_a_filter_with_any_text(site: Site, world: World) -> None:
    query = urlencode({"by": ["key", "model"], "tag": HOSTILE, "range": "30d"}, doseq=True)
    found = get(site, f"/v1/spend?{query}")
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=29)

    expected: dict[tuple[str, str], int] = {}
    for event in world.events:
        if HOSTILE in event.tags and event.occurred_at >= start:
            at = (event.key, event.model)
            expected[at] = expected.get(at, 0) + event.cost_nanousd
    assert {(r["values"]["key"], r["values"]["model"]): r["spent_usd"] for r in found["spend"]} == {
        at: usd(NanoUsd(amount)) for at, amount in expected.items()
    }
    assert {r["key_alias"] for r in found["spend"]} <= set(KEYS)


def test_every_event_comes_once_page_by_page(site: Site, world: World) -> None:
    query = {
        "from": (world.now - timedelta(days=41)).isoformat(),
        "to": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "limit": "137",
    }
    found = pages(site, "/v1/events", "events", **query)

    assert sorted(row["event_id"] for row in found) == sorted(str(event.event_id) for event in world.events)
    assert [row["occurred_at"] for row in found] == sorted((r["occurred_at"] for r in found), reverse=True)
    by_id = {str(event.event_id): event for event in world.events}
    for row in found:
        event = by_id[row["event_id"]]
        assert (row["cost_usd"], row["tags"], row["team"], row["prices"], row["kind"]) == (
            usd(event.cost_nanousd),
            [*event.tags],
            event.team,
            event.prices,
            event.kind,
        )


def test_an_account_stands_as_its_latest_signal_says(site: Site, world: World) -> None:
    found = {row["account"]: row for row in pages(site, "/v1/accounts", "accounts", limit="3")}

    latest = {signal.account: signal for signal in world.signals}
    assert set(found) == {account.name for event in world.events for account in world.book.accounts_in(event)}
    now = datetime.now(UTC)
    for account, row in found.items():
        signal = latest[account]
        is_over = signal.window_end is not None and signal.window_end <= now
        spent = NanoUsd(0) if is_over else signal.spent_nanousd
        assert row["spent_usd"] == usd(spent)
        assert row["remaining_usd"] == usd(NanoUsd(signal.limit_nanousd - spent))
        assert row["state"] == ("ok" if is_over else signal.state)
        assert row["key_alias"] in {None, *KEYS}


def test_budgets_are_listed_with_how_many_accounts_they_have(site: Site, world: World) -> None:
    found = {row["id"]: row for row in pages(site, "/v1/budgets", "budgets", limit="2")}

    assert set(found) == {one.id for one in world.budgets}
    assert found["team-month"]["accounts"] == len({*(team for _, team in KEYS.values()), HOSTILE})
    assert found["litellm:team:red"]["enforcement"] == "strict"


def test_accounts_are_found_by_what_people_call_them(site: Site) -> None:
    [row] = get(site, "/v1/accounts?search=LAPTOP")["accounts"]

    assert row["subject"] == {"key": hash_of("laptop")}
    assert get(site, f"/v1/accounts?{urlencode({'search': HOSTILE[:30]})}")["accounts"]


def test_a_refusal_is_explained_by_the_events_that_were_known(site: Site, world: World) -> None:
    listed = get(site, "/v1/refusals?range=7d")["refusals"]
    assert [row["decision_id"] for row in listed] == [str(one.decision_id) for one in world.decisions]

    decision = world.decisions[1]
    found = get(site, f"/v1/refusals/{decision.decision_id}")

    start = decision.window_start
    assert start is not None
    expected = world.spent(lambda event: event.team == KEYS["ci-runner"][1] and event.occurred_at >= start)
    assert found["spent_usd"] == usd(expected) == usd(decision.spent_nanousd or NanoUsd(0))
    assert found["budget_by"] == "claimed: ann"
    assert found["decision"]["message"] == decision.message


def test_a_holder_of_a_key_sees_what_may_refuse_them_and_nothing_else(site: Site, world: World) -> None:
    found = get(site, "/v1/me", authorization=f"Bearer {secret_of('laptop')}")

    assert found["key_alias"] == "laptop"
    assert {row["account"] for row in found["accounts"]} == {
        f"key-day|key={hash_of('laptop')}",
        "team-month|team=red",
        "litellm:team:red|team=red",
        "company-year|",
    }
    said = get(site, "/v1/me", 401, authorization="Bearer sk-nobody-has-this")
    assert said == {"error": "nothing is known of this key: no request and no budget names it"}
    assert get(site, "/v1/me", 401)["error"].startswith("send the key")
    assert secret_of("laptop") not in site.log.read_text()


@pytest.mark.parametrize(
    ("path", "field", "says"),
    [
        ("/v1/spend?by=tem", "by", "did you mean team?"),
        ("/v1/spend?by=team&by=team", "by", "given twice"),
        ("/v1/spend?by=team&by=key&by=model", "by", "2 at most"),
        ("/v1/spend?range=fortnight", "range", "not known"),
        ("/v1/spend?range=7d&from=2026-11-01", "range", "either this"),
        ("/v1/spend?to=2026-11-01", "from", "give both"),
        ("/v1/spend?from=2026-13-01", "from", "no day such as"),
        ("/v1/spend?from=2026-11-02&to=2026-11-01", "to", "ends before it begins"),
        ("/v1/spend?from=2020-01-01&to=2026-11-01", "from", "longer than 400 days"),
        ("/v1/spend?zone=Mars/Olympus", "zone", "no IANA time zone"),
        ("/v1/spend?temas=red", "temas", "did you mean team?"),
        ("/v1/events?limit=0", "limit", "from 1 to"),
        ("/v1/events?limit=1001", "limit", "from 1 to"),
        ("/v1/events?limit=%F0%9D%9F%99", "limit", "from 1 to"),
        ("/v1/events?after=zzz", "after", "no `next`"),
        ("/v1/events?team=" + "x" * 513, "team", "512 characters"),
        ("/v1/events?team=%00", "team", "no text"),
        ("/v1/accounts?state=broken", "state", "not known"),
        ("/v1/refusals/42", "id", "no id such as"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_fields_name(
    site: Site, path: str, field: str, says: str
) -> None:
    found = get(site, path, 422)

    assert found["field"] == field
    assert says in found["error"]


def test_what_is_not_there_is_said(site: Site) -> None:
    said = get(site, "/v1/refusals/019a2c5e-5c00-7abc-8def-0123456789ac", 404)

    assert "there is no refusal" in said["error"]
    assert get(site, "/v1/nothing", 404) == {"error": "there is nothing at this address"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/budgets",
        "/v1/accounts",
        "/v1/spend?by=key&by=tag",
        "/v1/events",
        "/v1/refusals",
        "/v1/spend?by=x",
    ],
)
def test_an_answer_is_as_the_document_says(site: Site, path: str) -> None:
    whole = document()
    operation = whole["paths"][path.partition("?")[0]]["get"]
    with site.client() as client:
        answer = client.get(path)
    schema = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]

    Draft202012Validator({**schema, "components": whole["components"]}).validate(answer.json())


def test_the_document_is_served(site: Site) -> None:
    assert get(site, "/v1/openapi.json") == json.loads(json.dumps(document()))


def test_the_csv_adds_up_to_the_total(site: Site, world: World) -> None:
    with site.client() as client:
        lines = client.get("/events.csv?range=30d").text.splitlines()
        spend = client.get("/explore.csv?by=team&range=30d").text.splitlines()
    total = get(site, "/v1/spend?range=30d")["total"]["spent_usd"]

    column = lines[0].split(",").index("cost_usd")
    head = spend[0].split(",").index("spent_usd")
    assert sum((Decimal(row[head]) for row in _csv(spend)), start=Decimal(0)) == Decimal(total)
    assert sum((Decimal(row[column]) for row in _csv(lines)), start=Decimal(0)) == Decimal(total)


def _csv(lines: list[str]) -> list[list[str]]:
    return [*csv.reader(lines)][1:]
