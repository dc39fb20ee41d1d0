"""The docs site: a fault ends the build, nothing comes from elsewhere, everybody can read it."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Literal

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

from tests.browser import find_browser
from tests.docs_site import BrokenSite, pages, render, serving, stage
from tests.patience import WITHIN_SECONDS

Scheme = Literal["light", "dark"]
FETCHED = {"img", "script", "link", "source", "iframe", "video", "audio", "embed", "object", "use"}
"""Elements whose address a browser fetches by itself."""


class Elements(HTMLParser):
    """The elements of a page, and which addresses it fetches."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.counts: dict[str, int] = {}
        self._in_article = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in FETCHED and given.get("rel") not in ("canonical", "next", "prev", "edit"):
            self.fetched += [
                str(given[name]) for name in ("src", "href", "srcset", "data") if given.get(name)
            ]
        if tag == "article":
            self._in_article += 1
        if self._in_article:
            self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._in_article -= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the site is built."""
    made = tmp_path_factory.mktemp("docs")
    stage(made)
    render(made)
    return made


@pytest.fixture(scope="module")
def site(folder: Path) -> Path:
    return folder / "site"


def built_pages(site: Path) -> Iterator[tuple[str, str]]:
    for name in pages():
        yield name, (site / name).with_suffix(".html").read_text(encoding="utf-8")


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    foreign = {
        f"{path.relative_to(site)}: {address}"
        for path in site.rglob("*.html")
        for address in Elements(path.read_text(encoding="utf-8")).fetched
        if re.match(r"(?:https?:)?//", address)
    }
    assert foreign == set()
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")), (
            path
        )


def test_each_page_has_the_parts_that_a_code_host_shows(folder: Path, site: Path) -> None:
    """Lists, tables, blocks of code: the two readers of Markdown differ where a list is written loosely."""
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    differs = {}
    for name, html in built_pages(site):
        here = Elements(html).counts
        there = Elements(
            f"<article>{markdown.render((folder / 'docs' / name).read_text(encoding='utf-8'))}"
        ).counts
        parts = ("li", "table", "tr", "pre", "h1", "h2", "h3")
        found = {part: (there.get(part, 0), here.get(part, 0)) for part in parts}
        if wrong := {part: both for part, both in found.items() if both[0] != both[1]}:
            differs[name] = wrong
    assert differs == {}, (
        "(there, here): write a blank line before a list, and 4 spaces before what belongs to an item"
    )


def test_llms_txt_names_every_page_and_the_whole_is_there(site: Path) -> None:
    listed = set(re.findall(r"\]\(([^)]+)\)", (site / "llms.txt").read_text(encoding="utf-8")))
    whole = (site / "llms-full.txt").read_text(encoding="utf-8")

    assert listed == set(pages())
    assert [name for name in listed if not (site / name).read_text(encoding="utf-8").startswith("# ")] == []
    assert "# Troubleshooting by symptom" in whole


def test_a_link_to_nowhere_and_an_anchor_that_is_not_there_end_the_build(folder: Path) -> None:
    page = folder / "docs/forecast.md"
    before = page.read_text(encoding="utf-8")
    page.write_text(f"{before}\n[a](gone.md) and [b](budgets.md#no-such-heading)\n", encoding="utf-8")
    try:
        with pytest.raises(BrokenSite) as broken:
            render(folder)
    finally:
        page.write_text(before, encoding="utf-8")

    assert "gone.md" in str(broken.value)
    assert "no-such-heading" in str(broken.value)


PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
FOUND = re.compile("runaway", re.IGNORECASE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])


@pytest.mark.parametrize(
    ("scheme", "viewport", "names"),
    [
        ("light", DESKTOP, ["index.html", "reference/settings.html", "cookbook/budgets.html"]),
        ("dark", PHONE, ["cookbook/budgets.html"]),
    ],
    ids=["light", "dark"],
)
def test_a_browser_fetches_nothing_from_elsewhere_and_finds_and_everybody_can_read(
    browser: Browser, site: Path, scheme: Scheme, viewport: ViewportSize, names: list[str]
) -> None:
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    wrong: dict[str, list[str]] = {}
    fetched: list[str] = []
    with serving(site) as address:
        page = browser.new_page(color_scheme=scheme, viewport=viewport)
        page.set_default_timeout(WITHIN_SECONDS * 1000)
        page.on("request", lambda one: fetched.append(one.url))
        for name in names:
            page.goto(f"{address}/{name}")
            page.wait_for_load_state("networkidle")
            page.evaluate(axe)
            found = page.evaluate("axe.run()")["violations"]
            if serious := [one["id"] for one in found if one["impact"] in ("serious", "critical")]:
                wrong[name] = serious
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        page.locator('.md-search__button, label[for="__search"]').locator("visible=true").first.click()
        page.get_by_role("combobox").fill("runaway")
        expect(page.get_by_role("option", name=FOUND).first).to_be_visible(timeout=WITHIN_SECONDS * 1000)
        page.close()

    assert wrong == {}
    assert [url for url in fetched if not url.startswith((address, "data:", "blob:"))] == []
