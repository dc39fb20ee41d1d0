"""The pages in a real browser: the numbers on them, live, for everybody, and without an error.

Only plain tests here: Playwright's loop runs for as long as the browser is open.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.records import encode_budget, encode_signal, encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.window import window_of
from spendmeter_sinks.clickhouse.settings import SinkSettings
from tests.builders import budget

from .conftest import Site, send, serving, store
from .reading import DESKTOP, PHONE, ZONE, Reader, chromium
from .world import HOSTILE, World, hash_of, secret_of

PAGES = {
    "overview": "/",
    "budgets": "/budgets",
    "budget": "/budgets/team-month",
    "explore": "/explore?by=team&by=model&range=30d",
    "events": "/events?range=30d",
    "refusals": "/refusals?range=30d",
    "refusal": "/refusals/{decision}",
    "alerts": "/alerts?range=30d",
    "alert": "/alerts/{alert}",
    "prices": "/prices",
    "health": "/health",
    "me": "/me",
}


@pytest.fixture(scope="module")
def browser(site: Site) -> Iterator[Browser]:
    """After the page, whose records were sent from loops of their own."""
    with chromium() as started:
        yield started


@pytest.fixture
def reader(browser: Browser, site: Site) -> Iterator[Reader]:
    opened = Reader(browser, site, "light", DESKTOP)
    yield opened
    opened.context.close()


def value(page: Page, selector: str) -> str:
    return page.locator(f"{selector} data").first.get_attribute("value") or ""


def today_of(world: World) -> datetime:
    return datetime.now(ZoneInfo(ZONE)).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


@pytest.mark.parametrize(
    ("scheme", "viewport", "pages"),
    [
        ("light", DESKTOP, [*PAGES]),
        ("dark", PHONE, ["overview", "budgets", "budget", "explore", "alert", "me"]),
    ],
    ids=["desktop", "phone"],
)
def test_every_page_is_for_everybody_and_complains_of_nothing(
    browser: Browser, site: Site, world: World, scheme: str, viewport: dict[str, int], pages: list[str]
) -> None:
    opened = Reader(browser, site, scheme, viewport)
    wrong: dict[str, object] = {}
    for name in pages:
        page = opened.open(
            PAGES[name].format(decision=world.decisions[1].decision_id, alert=world.alerts[0].alert_id)
        )
        expect(page.locator("h1")).to_have_count(1)
        if found := opened.wrong():
            wrong[name] = found
    opened.context.close()

    assert wrong == {}
    assert opened.complaints == []


def test_the_overview_says_what_the_events_add_up_to(reader: Reader, world: World) -> None:
    page = reader.open("/")
    today = today_of(world)
    local = today.astimezone(ZoneInfo(ZONE))
    month = local.replace(day=1).astimezone(UTC)

    assert value(page, "#today") == format_usd(world.spent(lambda event: event.occurred_at >= today))
    assert value(page, "#month") == format_usd(world.spent(lambda event: event.occurred_at >= month))
    expected = world.spent_by(lambda event: [event.team or ""], lambda event: event.occurred_at >= today)
    shown = [one.get_attribute("value") for one in page.locator("#top-team tbody td.r data").all()]
    assert shown == [format_usd(amount) for amount in sorted(expected.values(), reverse=True)]


def test_explore_has_the_numbers_of_each_row_and_leads_to_its_events(reader: Reader, world: World) -> None:
    page = reader.open("/explore?by=team&by=model&range=30d")
    start = today_of(world) - timedelta(days=29)
    expected: dict[tuple[str, str], int] = {}
    for event in world.events:
        if event.occurred_at >= start - timedelta(hours=1) and _local_day(event) >= _local_day_of(start):
            at = (event.team or "", event.model)
            expected[at] = expected.get(at, 0) + event.cost_nanousd

    rows = page.locator("main table tbody tr")
    assert rows.count() == len(expected)
    found = [Decimal(one.get_attribute("value") or "") for one in page.locator("tbody td.r data").all()]
    assert sorted(found) == sorted(Decimal(format_usd(NanoUsd(amount))) for amount in expected.values())
    assert sum(found) == Decimal(value(page, ".sentence strong"))

    first = value(page, "tbody tr:first-child td.r")
    rows.first.get_by_role("link", name="events").click()
    page.wait_for_url("**/events?**")
    costs = [Decimal(one.get_attribute("value") or "") for one in page.locator("tbody td.r data").all()]
    assert sum(costs) == Decimal(first) or len(costs) == 100
    page.locator("summary").first.click()
    expect(page.locator("dl").first).to_contain_text("input_token")


def _local_day(event: UsageEvent) -> datetime:
    return _local_day_of(event.occurred_at)


def _local_day_of(time: datetime) -> datetime:
    return time.astimezone(ZoneInfo(ZONE)).replace(hour=0, minute=0, second=0, microsecond=0)


def test_a_filter_of_any_text_is_a_link_that_can_be_shared(
    reader: Reader, browser: Browser, site: Site
) -> None:
    page = reader.open("/explore?range=30d")
    page.get_by_label("Where").select_option("team")
    page.get_by_label("is", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**team=**")
    expect(page.locator("main table tbody tr")).to_have_count(1)

    shared = Reader(browser, site, "light", DESKTOP)
    again = shared.open(page.url.removeprefix(site.url))
    assert again.locator("main table").inner_text() == page.locator("main table").inner_text()
    shared.context.close()


def test_a_signal_shows_at_once_and_without_a_reload(
    reader: Reader, system: SinkSettings, world: World
) -> None:
    page = reader.open("/budgets/litellm:team:red")
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    page.evaluate("window.loaded = 'once'")
    of = next(one for one in world.budgets if one.id == "litellm:team:red")
    window = window_of(of, datetime.now(UTC))
    signal = world.signal(
        of, of.match, "litellm:team:red|team=red", window, 39_123_456_789, 10**9, datetime.now(UTC)
    )

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, send(system, [(Topic.SIGNALS, encode_signal(signal))])).result()
        expect(page.locator("#spent data")).to_have_attribute("value", "39.123456789")

    assert value(page, "#left") == "0.876543211"
    assert page.evaluate("window.loaded") == "once"
    expect(page.locator("#shown")).to_contain_text("warning")


def test_a_request_shows_on_the_overview_without_a_reload(
    reader: Reader, system: SinkSettings, world: World
) -> None:
    page = reader.open("/")
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    page.evaluate("window.loaded = 'once'")
    today = today_of(world)
    event = world.spend("laptop", 1_234_567_891)
    of = next(one for one in world.budgets if one.id == "company-year")
    window, now = window_of(of, event.occurred_at), datetime.now(UTC)
    signal = world.signal(of, {}, "company-year|", window, 1_234_567_891, 10**9, now)

    with ThreadPoolExecutor(1) as thread:
        usage = (Topic.USAGE, encode_usage(event))
        thread.submit(asyncio.run, store(system, world, [usage])).result()
        thread.submit(asyncio.run, send(system, [(Topic.SIGNALS, encode_signal(signal))])).result()
        spent = world.spent(lambda event: event.occurred_at >= today)
        expect(page.locator("#today data").first).to_have_attribute("value", format_usd(spent))

    assert page.evaluate("window.loaded") == "once"
    assert reader.complaints == []


def test_thousands_of_accounts_are_as_many_rows_as_are_seen(
    reader: Reader, system: SinkSettings, world: World
) -> None:
    count = 3_000
    of = budget(id="each-user", match={"user": "*"}, period="lifetime", updated_at=world.now)
    window = window_of(of, world.now)
    records = [
        encode_signal(
            world.signal(of, {"user": f"u{n:05}"}, f"each-user|user=u{n:05}", window, n * 100, 1, world.now)
        )
        for n in range(1, count + 1)
    ]
    page = reader.open("/budgets?budget=each-user")
    with ThreadPoolExecutor(1) as thread:
        sent = [(Topic.BUDGETS, encode_budget(of)), *((Topic.SIGNALS, one) for one in records)]
        thread.submit(asyncio.run, send(system, sent)).result()
    expect(page.locator("#count")).to_have_text("3,000")
    page.reload()
    rows = page.locator("#rows")
    expect(page.locator("#space .row").first).to_contain_text(f"u{count:05}")
    assert page.locator("#space .row").count() < 120

    rows.evaluate("box => { box.scrollTop = box.scrollHeight }")
    expect(page.locator("#space .row").last).to_contain_text("u00001")
    assert page.locator("#space .row").last.get_attribute("aria-rowindex") == str(count + 1)

    page.get_by_label("Search").fill("u01234")
    expect(page.locator("#count")).to_have_text("1")
    page.locator("#space a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/budgets/each-user?account=**")
    assert value(page, "#spent") == format_usd(NanoUsd(123_400))


def test_an_alert_says_where_it_was_sent_after_how_many_attempts_and_what_was_not(
    reader: Reader, world: World
) -> None:
    page = reader.open("/alerts?range=30d")
    sent = {
        alert.alert_id: page.locator(f"tr:has(a[href='/alerts/{alert.alert_id}']) td.sent")
        for alert in world.alerts[:5]
    }
    said, held, nowhere, many, unmet = (sent[one.alert_id] for one in world.alerts[:5])
    expect(said).to_contain_text("chat sent")
    expect(said).to_contain_text("1 reminders")
    expect(said).to_contain_text("not sent")
    expect(held).to_contain_text("night held until")
    expect(nowhere).to_contain_text("no route not sent")
    expect(many).to_contain_text("and 1 more")
    expect(unmet).to_have_text("–")

    page = reader.open(f"/alerts/{world.alerts[0].alert_id}")
    rows = [
        [cell.strip() for cell in row.inner_text().split("\t")] for row in page.locator("main tbody tr").all()
    ]
    of_chat = [row for row in rows if row[0] == "chat"]
    [refused] = [row for row in rows if row[0] != "chat"]
    assert [row[2].partition(",")[0].split(" until")[0] for row in of_chat] == ["held", "sent", "reminder 1"]
    assert [row[3] for row in of_chat] == ["–", "3", "1"]
    assert of_chat[0][4] == "waits for the digest of 5m"
    assert (refused[2], refused[3], refused[4].startswith("refused: <img")) == ("not sent", "3", True)

    page = reader.open(f"/alerts/{world.alerts[4].alert_id}")
    expect(page.locator("main")).to_contain_text("No relay has met it")


def test_a_key_shows_what_is_left_and_stays_in_no_address_and_no_store(reader: Reader) -> None:
    page = reader.open("/me")
    page.get_by_label("The key that you call the gateway with").fill(secret_of("laptop"))
    page.get_by_role("button", name="Show").click()

    expect(page.locator("#answer h2")).to_have_text("Key laptop")
    expect(page.locator("#answer tbody")).to_contain_text("litellm:team:red")
    kept = page.evaluate(
        "JSON.stringify([location.href, {...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert secret_of("laptop") not in kept
    assert hash_of("laptop") not in kept

    page.get_by_label("The key that you call the gateway with").fill("sk-wrong")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#answer")).to_contain_text("nothing is known of this key")


def test_times_are_the_readers(browser: Browser, site: Site, world: World) -> None:
    at = world.decisions[1].decided_at
    shown = {}
    for zone in ("America/New_York", "Asia/Tokyo"):
        opened = Reader(browser, site, "light", DESKTOP, timezone_id=zone)
        opened.page.goto(f"/refusals/{world.decisions[1].decision_id}")
        expect(opened.page.locator("html")).to_have_attribute("data-zone", zone)
        shown[zone] = opened.page.locator("dl.facts time").first.inner_text()
        opened.context.close()

    assert shown == {zone: f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}" for zone in shown}


def test_without_javascript_every_page_has_its_numbers(browser: Browser, site: Site, world: World) -> None:
    opened = Reader(browser, site, "light", DESKTOP, java_script_enabled=False)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    opened.page.goto("/")
    assert value(opened.page, "#today") == format_usd(world.spent(lambda event: event.occurred_at >= today))
    opened.page.goto("/budgets?search=laptop")
    assert opened.page.locator("#space .row").count() >= 1
    opened.context.close()


def test_the_keyboard_alone_leads_to_an_account(reader: Reader) -> None:
    page = reader.open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.locator("#next a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/budgets/**")


def test_what_cannot_be_asked_is_a_sentence(reader: Reader) -> None:
    page = reader.open("/explore?by=tem")

    expect(page.locator("main")).to_contain_text("by: 'tem' is no dimension; did you mean team?")


def test_without_history_budgets_stay_live_and_what_is_missing_is_said(
    browser: Browser, system: SinkSettings, world: World, tmp_path: Path
) -> None:
    with serving(system, tmp_path, {"CLICKHOUSE_URL": "http://127.0.0.1:9"}) as alone:
        opened = Reader(browser, alone, "light", DESKTOP)
        page = opened.open("/")
        expect(page.get_by_role("alert")).to_contain_text("History is away")
        expect(page.locator("#next")).to_contain_text("hostile")
        page = opened.open("/budgets/team-month")
        expect(page.get_by_role("alert")).to_contain_text("no ClickHouse answers")
        assert Decimal(value(page, "#spent")) > 0
        page = opened.open("/explore")
        expect(page.locator("h1")).to_have_text("History does not answer")
        opened.context.close()
