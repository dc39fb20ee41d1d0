"""Health: how far each process has come, and a few figures of their metrics pages."""

import asyncio
import re
import time
import urllib.error
import urllib.request
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from spendmeter_console.api.routes import NotThere, Sources, scope_of
from spendmeter_console.history.pool import HistoryBusy, Unusable
from spendmeter_console.history.rows import DeadLetterCount, Reconciled, TopicAge
from spendmeter_console.live.board import Selection
from spendmeter_console.pages.answer import page, rendered
from spendmeter_console.settings import ConsoleSettings

ANSWER_WITHIN_SECONDS = 2.0
MAX_PAGE_BYTES = 4 * 1024 * 1024
MAX_PAGES = 50
SHOWN = {
    "spendmeter_ready": "ready",
    "spendmeter_outbox_fill_ratio": "outbox full (%)",
    "spendmeter_outbox_oldest_unsent_seconds": "oldest unsent (s)",
    "spendmeter_outbox_lost_total": "events lost",
    "spendmeter_stream_lag_seconds": "lag (s)",
    "spendmeter_sink_lag_records": "lag (records)",
    "spendmeter_sink_lag_seconds": "lag (s)",
    "spendmeter_alerts_oldest_unsent_seconds": "lag (s)",
    "spendmeter_dead_letters_total": "dead letters",
    "spendmeter_sink_dead_letters_total": "dead letters",
    "spendmeter_internal_errors_total": "internal errors",
    "spendmeter_openings_waiting": "opening balances waiting",
    "spendmeter_watch_overdue_seconds": "overdue (s)",
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
    return ProcessHealth(address, _component(page), True, figures_in(page))


def figures_in(page: str) -> dict[str, float]:
    """What is shown of a metrics page, by its name there: samples are added up; of ages the oldest counts."""
    figures: dict[str, float] = {}
    for metric, value in _SAMPLE.findall(page):
        if metric not in SHOWN:
            continue
        name, before = SHOWN[metric], figures.get(SHOWN[metric], 0.0)
        if metric.endswith("_seconds"):
            figures[name] = max(before, round(float(value), 1))
        else:
            figures[name] = before + (
                round(float(value) * 100, 1) if metric.endswith("_ratio") else float(value)
            )
    return figures


def _component(page: str) -> str:
    for metric, component in (
        ("spendmeter_outbox_", "gateway"),
        ("spendmeter_sink_", "ClickHouse sink"),
        ("spendmeter_stream_", "stream worker"),
        ("spendmeter_alerts_", "alert relay"),
        ("spendmeter_watch_", "watcher"),
    ):
        if metric in page:
            return component
    return "process"


class HealthPages:
    """How the system does."""

    def __init__(self, sources: Sources, metrics: MetricsPages) -> None:
        self._board, self._history, self._clock = sources.board, sources.history, sources.clock
        self._metrics = metrics

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [Route("/health", page(self.health))]

    async def health(self, request: Request) -> Response:
        scope, now = scope_of(request), self._clock()
        if not scope.is_everything:
            raise NotThere("the health of the system is for who may see all of it")
        missing, reconciled = "", Reconciled()
        ages: list[TopicAge] = []
        unreadable: list[DeadLetterCount] = []
        began = time.monotonic()
        try:
            ages, unreadable = await self._history.ask(scope, lambda h: h.health(), "health", 2)
            reconciled = await self._history.ask(scope, lambda h: h.reconciled(), "reconciled", 2)
        except (Unusable, HistoryBusy) as error:
            missing = str(error)
        return rendered(
            request,
            "health.html",
            now,
            missing=missing,
            ages=ages,
            unreadable=unreadable,
            reconciled=reconciled,
            took_ms=round((time.monotonic() - began) * 1000),
            processes=await self._metrics.read(),
            silent=self._board.silent_seconds,
            caught_up=self._board.caught_up.is_set(),
            accounts=len(self._board.select(Selection(scope))),
            budgets=len(self._board.budgets(scope)),
        )
