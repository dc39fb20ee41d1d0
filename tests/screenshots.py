"""docs/figures/page-*.png: the page, as it shows the demo and a month of a small company in the demo's stack.

    python -m tests.screenshots [DIR]      # or `make screenshots`; minutes

The demo's budget and its refusal are real; the month is sent to Kafka, and goes the way of all events from
there.
"""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

from spendmeter.contract.records import encode_budget, encode_signal, encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageKind
from spendmeter.kafka.client import producer
from spendmeter.runtime.endpoints import Endpoints, StackDir, find_stack
from spendmeter.settings import Settings
from spendmeter_local.probes import wait_until
from tests.browser import find_browser
from tests.integration.console.world import DAYS, HOSTILE, World

FIGURES = Path(__file__).parents[1] / "docs/figures"
ZONE = "Europe/Berlin"
REQUESTS = 1_200
WITHIN_SECONDS = 300
DESKTOP, PHONE = {"width": 1200, "height": 800}, {"width": 390, "height": 844}
MAX_BYTES = 150_000


def main(folder: Path) -> None:
    """Start the demo, add the month, and write the pictures into the folder."""
    with tempfile.TemporaryDirectory(prefix="spendmeter-screenshots-") as directory:
        stack = StackDir(Path(directory))
        try:
            _run("demo", "--dir", directory, "--keep")
            endpoints = find_stack(stack.path)
            asyncio.run(_send_month(endpoints, stack))
            for path in _pictures(endpoints, folder):
                size = path.stat().st_size
                print(f"{path}: {size:,} bytes")
                assert size < MAX_BYTES, f"{path} has {size:,} bytes; {MAX_BYTES:,} at most"
        finally:
            _run("down", "--dir", directory)


def _run(*command: str) -> None:
    subprocess.run([Path(sys.executable).with_name("spendmeter"), *command], check=True)


async def _send_month(endpoints: Endpoints, stack: StackDir) -> None:
    world = World(datetime.now(UTC), REQUESTS)
    settings = Settings(kafka_bootstrap=endpoints.kafka_bootstrap, signing_keys_file=stack.signing_keys)
    kafka = producer(settings)
    await kafka.start()
    try:
        for one in world.budgets:
            if one.id in ("team-month", "key-day"):
                record = encode_budget(one)
                await kafka.send_and_wait(settings.topic(Topic.BUDGETS), record.value, record.key)
        shown = [event for event in world.events if event.team != HOSTILE and HOSTILE not in event.tags]
        sent = []
        for event in shown:
            record = encode_usage(event)
            topic = settings.topic(Topic.USAGE)
            sent.append(await kafka.send(topic, record.value, record.key, headers=record.headers))
        for signal in world.signals:
            # As the stream emitted them then: of what is sent now it emits the last alone.
            if signal.budget_id == "team-month" and HOSTILE not in signal.subject.values():
                record = encode_signal(signal)
                sent.append(await kafka.send(settings.topic(Topic.SIGNALS), record.value, record.key))
        await asyncio.gather(*sent)
    finally:
        await kafka.stop()
    since = {"from": f"{world.now - timedelta(days=DAYS + 1):%Y-%m-%d}"}
    requests = sum(event.kind is UsageKind.USAGE for event in shown)

    def is_stored() -> bool:
        found = httpx.get(f"{endpoints.web_url}/v1/spend", params=since, timeout=30).json()
        return bool(found["total"]["requests"] >= requests)

    def is_named() -> bool:
        return "laptop" in httpx.get(f"{endpoints.web_url}/budgets/key-day", timeout=30).text

    assert wait_until(is_stored, timeout_seconds=WITHIN_SECONDS), "the month did not arrive in history"
    assert wait_until(is_named, timeout_seconds=WITHIN_SECONDS), "the page has no name of a key"


def _pictures(endpoints: Endpoints, folder: Path) -> Iterator[Path]:
    refusals = httpx.get(f"{endpoints.web_url}/v1/refusals", timeout=30).json()["refusals"]
    account = max(_accounts(endpoints, "team-month"), key=lambda one: float(one["spent_usd"]))["account"]
    pages = {
        "overview": "/",
        "budget": f"/budgets/team-month?account={quote(account, safe='')}",
        "refusal": f"/refusals/{refusals[0]['decision_id']}",
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        for name, path in pages.items():
            for scheme in ("light", "dark"):
                yield _picture(
                    browser, f"{endpoints.web_url}{path}", scheme, folder / f"page-{name}-{scheme}.png"
                )
        yield _picture(browser, endpoints.web_url, "light", folder / "page-overview-phone.png", PHONE)
        browser.close()


def _accounts(endpoints: Endpoints, budget_id: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []

    def is_there() -> bool:
        answer = httpx.get(f"{endpoints.web_url}/v1/accounts", params={"budget": budget_id}, timeout=30)
        found[:] = answer.json()["accounts"]
        return len(found) >= 3

    assert wait_until(is_there, timeout_seconds=WITHIN_SECONDS), "the stream did not signal the month"
    return found


def _picture(browser: Browser, url: str, scheme: str, path: Path, viewport: dict[str, int] = DESKTOP) -> Path:
    context = browser.new_context(
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport=viewport,  # type: ignore[arg-type]
        timezone_id=ZONE,
    )
    page: Page = context.new_page()
    page.goto(url)
    expect(page.locator("html")).to_have_attribute("data-zone", ZONE)
    expect(page.locator("h1")).to_have_count(1)
    page.screenshot(path=path)
    context.close()
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES)
