"""What the other processes say of themselves: a few figures of their metrics pages."""

import asyncio
import re
import urllib.error
import urllib.request
from typing import NamedTuple
from urllib.parse import urlsplit

from spendmeter_console.settings import ConsoleSettings

ANSWER_WITHIN_SECONDS = 2.0
MAX_PAGE_BYTES = 4 * 1024 * 1024
MAX_PAGES = 50
SHOWN = {
    "spendmeter_ready": "ready",
    "spendmeter_outbox_fill_ratio": "outbox full (%)",
    "spendmeter_outbox_oldest_unsent_seconds": "oldest unsent (s)",
    "spendmeter_outbox_lost_total": "events lost",
    "spendmeter_sink_lag_records": "lag of history (records)",
    "spendmeter_sink_seconds_since_commit": "history committed (s ago)",
    "spendmeter_dead_letters_total": "dead letters",
    "spendmeter_sink_dead_letters_total": "dead letters",
    "spendmeter_internal_errors_total": "internal errors",
    "spendmeter_openings_waiting": "opening balances waiting",
}
"""Metric to what it is called on the page."""
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{[^}]*\})? ([-+0-9.eE]+)", re.MULTILINE)


class ProcessHealth(NamedTuple):
    """One process: what it says, or that it does not answer."""

    address: str
    component: str
    answers: bool
    figures: dict[str, float]


class MetricsPages:
    """The pages that the settings name."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._urls = settings.web_metrics_urls[:MAX_PAGES]

    async def read(self) -> list[ProcessHealth]:
        """All pages, at once."""
        return await asyncio.gather(*(asyncio.to_thread(_read, url) for url in self._urls))


def _read(url: str) -> ProcessHealth:
    address = urlsplit(url).netloc.rpartition("@")[2]
    try:
        # Only what the operator has listed, and it begins with http, as the settings hold.
        with urllib.request.urlopen(url, timeout=ANSWER_WITHIN_SECONDS) as answer:
            page = answer.read(MAX_PAGE_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return ProcessHealth(address, "", False, {})
    figures: dict[str, float] = {}
    for metric, value in _SAMPLE.findall(page):
        if metric in SHOWN:
            shown = round(float(value) * 100, 1) if metric.endswith("_ratio") else float(value)
            figures[SHOWN[metric]] = figures.get(SHOWN[metric], 0.0) + shown
    return ProcessHealth(address, _component(page), True, figures)


def _component(page: str) -> str:
    for metric, component in (
        ("spendmeter_outbox_", "gateway"),
        ("spendmeter_sink_", "ClickHouse sink"),
        ("spendmeter_stream_", "stream worker"),
    ):
        if metric in page:
            return component
    return "process"
