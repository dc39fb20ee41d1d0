"""A browser window as a reader has it, and what it complains of."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser import find_browser
from tests.patience import WITHIN_SECONDS

from .conftest import Site

WITHIN_MS = 1_000 * WITHIN_SECONDS
expect.set_options(timeout=WITHIN_MS)
ZONE = "Europe/Berlin"
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


@contextmanager
def chromium() -> Iterator[Browser]:
    """For as long as the block lasts, and with it Playwright's loop."""
    with sync_playwright() as playwright:
        # A container's root has no other way.
        started = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield started
        started.close()


class Reader:
    """A browser window, and what it complains of."""

    def __init__(
        self, browser: Browser, site: Site, scheme: str, viewport: dict[str, int], **more: object
    ) -> None:
        self.context = browser.new_context(
            base_url=site.url,
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport=viewport,  # type: ignore[arg-type]
            **{"timezone_id": ZONE, **more},  # type: ignore[arg-type]
        )
        self.context.set_default_timeout(WITHIN_MS)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, path: str) -> Page:
        self.page.goto(path)
        # In the reader's zone: the first page of all is loaded a second time for that.
        expect(self.page.locator("html")).to_have_attribute("data-zone", ZONE)
        return self.page

    def violations(self) -> list[str]:
        # By the debugger's way: the page's own policy lets nothing in.
        session = self.context.new_cdp_session(self.page)
        session.send("Runtime.evaluate", {"expression": AXE})
        found = self.page.evaluate("axe.run()")["violations"]
        return [f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}" for one in found]

    def wrong(self, *, has_axe: bool = True) -> dict[str, object]:
        """What is wrong with the page that is open: for everybody, at this width, with what people named.

        Without axe, which needs seconds for a long list, only the latter two.
        """
        found: dict[str, object] = {}
        if has_axe and (violations := self.violations()):
            found["axe"] = violations
        if (wider := self.page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
            found["wider than the window"] = wider
        if self.page.locator("main img").count() or self.page.evaluate("'owned' in window"):
            found["a name became markup"] = True
        if acting := ACTS.search(self.page.inner_text("body")):
            found["a character that acts"] = repr(acting.group())
        return found
