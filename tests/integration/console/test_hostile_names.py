"""Ten thousand names that somebody chose to do harm: text on every page, and in every file."""

import csv
import io
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, expect

from spendmeter.contract.alert import Alert, AlertKind, alert_id
from spendmeter.contract.budget import Budget
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import from_usd
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import MAX_TEXT_CHARS
from spendmeter.values.ids import derived_uuid7
from spendmeter_sinks.clickhouse.settings import SinkSettings
from tests.builders import budget

from .conftest import Site, serving, stored_system
from .reading import DESKTOP, PHONE, Reader, chromium
from .world import World

EVENTS, TAGS_OF_EACH = 1_000, 10
HARMFUL = (
    "<img src=x onerror=window.owned=1>",
    "</td></table><script>window.owned=1</script>",
    '"><svg onload=window.owned=1>',
    "javascript:window.owned=1",
    "{{7*7}}{% raw %}${7*7}",
    "=HYPERLINK(1)",
    "@SUM(1)",
    "-1+1|cmd",
    "\t=1",
    "' OR 1=1 --",
    "\x00\x07\x1b[2J\x1b]0;owned\x07\x7f\x9b",
    "\u202egpj.exe\u2066\u2067\u200f",
    "שלום עולם مرحبا",
    "👩‍👩‍👧‍👦🏳️‍🌈👍🏽",
    "Z" + "\u0300\u0301\u0315\u035f" * 30,
    "\u2028two\u2029lines\r\nand more",
    "\u200b\ufeff\u2060",
    "ﷺ" * 40,
    "W" * (MAX_TEXT_CHARS - 20),
    "a b" * 100,
    "%2e%2e%2f&team=red#x?y",
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class HostileWorld(World):
    """Every tag is a name of its own, and one of HARMFUL is in it, at its beginning, its end or twice."""

    def tag(self, number: int) -> str:
        harm = HARMFUL[number % len(HARMFUL)]
        match number // len(HARMFUL) % 3:
            case 0:
                return f"{harm}{number}"
            case 1:
                return f"{number}{harm}"
        return f"{harm}{number}{harm}"[:MAX_TEXT_CHARS]

    def _budgets(self) -> Iterator[Budget]:
        yield budget(
            id="each-tag",
            match={"tag": "*"},
            limit_nanousd=from_usd("0.01"),
            period="year",
            updated_at=self.now,
        )

    def _events(self, requests: int) -> Iterator[UsageEvent]:
        cost = random.Random(11)
        for number in range(requests):
            first = number * TAGS_OF_EACH
            yield self._event(
                occurred_at=self.now - timedelta(seconds=requests - number),
                alias="laptop",
                tags=tuple(self.tag(first + n) for n in range(TAGS_OF_EACH)),
                model=self.tag(number),
                cost_nanousd=cost.randint(1_000_000, 20_000_000),
            )

    def _decision(self, number: int) -> Decision:
        signal = self.signals[-1 - number]
        tag = signal.subject["tag"]
        # The first is of a key that has events here.
        return (
            super()
            ._decision(0)
            .model_copy(
                update={
                    "decision_id": derived_uuid7(int(self.now.timestamp() * 1000), "decision", str(number)),
                    "why": Why.LIMIT_REACHED,
                    "name": tag,
                    "account": signal.account,
                    "message": f"Budget has been exceeded! Tag={tag}",
                }
            )
        )

    def _alerts(self) -> Iterator[Alert]:
        for signal in self.signals[-60:]:
            yield Alert(
                alert_id=alert_id(signal.account, signal.window_start, AlertKind.EXCEEDED, "1"),
                kind=AlertKind.EXCEEDED,
                signal=signal,
                message=f"{signal.subject['tag']} has reached its limit",
                emitted_at=signal.emitted_at,
            )


@pytest.fixture(scope="module")
def world(system: SinkSettings) -> HostileWorld:
    return HostileWorld(datetime.now(UTC), EVENTS)


@pytest.fixture(scope="module")
def site(
    system: SinkSettings, world: HostileWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A page over a system of its own."""
    own = system.model_copy(
        update={"topic_prefix": f"t{uuid4().hex[:12]}.", "clickhouse_database": f"t{uuid4().hex[:12]}"}
    )
    stored_system(own, world)
    with serving(own, tmp_path_factory.mktemp("hostile")) as served:
        yield served


@pytest.fixture(scope="module")
def browser(site: Site) -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)], ids=["desktop", "phone"]
)
def test_names_that_would_do_harm_are_text_on_every_page(
    browser: Browser, site: Site, world: HostileWorld, scheme: str, viewport: dict[str, int]
) -> None:
    opened = Reader(browser, site, scheme, viewport)
    paths = {
        "/explore?by=tag&by=model&range=today": "main table tbody tr",
        "/events?range=7d": "main table tbody tr",
        "/budgets?budget=each-tag": "#space .row",
        "/budgets/each-tag": "#accounts tbody tr",
        "/refusals?range=7d": "main table tbody tr",
        f"/refusals/{world.decisions[0].decision_id}": "blockquote",
        "/alerts?range=7d": "main table tbody tr",
    }
    wrong: dict[str, object] = {}
    for path, rows in [*paths.items()] if viewport is DESKTOP else [*paths.items()][1:3]:
        page = opened.open(path)
        expect(page.locator(rows).first).to_be_visible()
        if found := opened.wrong(has_axe=viewport is DESKTOP and path.startswith(("/explore", "/alerts"))):
            wrong[path] = found
        if page.locator("main script, main a[href^='javascript:']").count():
            wrong[f"{path}: a name became a script"] = True
        broken = page.locator(rows).evaluate_all(
            "rows => rows.map((row) => row.getBoundingClientRect().height).filter((height) => height > 400)"
        )
        if broken:
            wrong[f"{path}: rows as high as a page"] = broken
    page = opened.open("/budgets?budget=each-tag")
    expect(page.locator("#count")).to_have_text(f"{EVENTS * TAGS_OF_EACH:,}")
    for share in (0.3, 1):
        page.locator("#rows").evaluate(f"box => {{ box.scrollTop = box.scrollHeight * {share} }}")
        expect(page.locator("#rows")).not_to_have_attribute("data-first", "0")
        if found := opened.wrong(has_axe=False):
            wrong[f"budgets, scrolled by {share:.0%}"] = found
    complaints = opened.complaints
    opened.context.close()

    assert wrong == {}
    assert complaints == []


def test_each_of_them_is_a_cell_of_the_file_whole_and_no_formula(site: Site, world: HostileWorld) -> None:
    with site.client() as client:
        spend = client.get("/explore.csv?by=tag&range=7d").content.decode()
        events = client.get("/events.csv?range=7d").content.decode()
    tags = {tag for event in world.events for tag in event.tags}
    rows = [*csv.DictReader(io.StringIO(spend, newline=""))]

    assert len(tags) == EVENTS * TAGS_OF_EACH
    assert {row["tag"] for row in rows} == {f"'{tag}" if tag.startswith(FORMULA) else tag for tag in tags}
    assert len([*csv.DictReader(io.StringIO(events, newline=""))]) == EVENTS
    cells = [
        cell for text in (spend, events) for row in csv.reader(io.StringIO(text, newline="")) for cell in row
    ]
    assert [
        cell for cell in cells if cell.startswith(FORMULA) and not cell.removeprefix("-")[:1].isdigit()
    ] == []
