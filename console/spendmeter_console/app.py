"""The application: the guard, the API and the pages, over one board and one pool of questions to history."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from spendmeter.runtime.metrics import READY
from spendmeter_console.access.guard import Guard
from spendmeter_console.access.people import People
from spendmeter_console.access.sessions import Sessions
from spendmeter_console.api import routes as api
from spendmeter_console.changes.desk import ChangeDesk
from spendmeter_console.history.pool import HistoryBusy, HistoryPool, Unusable
from spendmeter_console.history.queries import NAMES_OF_THE_LAST, HistoryQueries
from spendmeter_console.live.board import Board
from spendmeter_console.pages import routes as pages
from spendmeter_console.pages.answer import ERRORS
from spendmeter_console.pages.health import MetricsPages
from spendmeter_console.settings import ConsoleSettings
from spendmeter_console.viewer import EVERYTHING

log = logging.getLogger(__name__)

NAMES_EVERY_SECONDS, ALL_NAMES_EVERY_SECONDS = 60.0, 3600.0
EVENTS_ARRIVE_WITHIN = timedelta(minutes=10)
AGAIN_SECONDS = 5.0
"""The pause after a question that history did not answer."""


def build(settings: ConsoleSettings, people: People) -> Starlette:
    """The whole page. It reads Kafka for as long as its lifespan lasts."""
    board, history = Board(settings), HistoryPool(settings)
    sessions = Sessions(people, settings.web_session_hours, time.monotonic)
    sources = api.Sources(board, history, lambda: datetime.now(UTC))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        READY.watch(asyncio.get_running_loop())
        READY.needs_kafka(lambda: board.last_answer)
        async with board.running():
            works = [asyncio.create_task(work) for work in (_keep_names(board, history), _say_ready(board))]
            try:
                yield
            finally:
                READY.set(0)
                for work in works:
                    work.cancel()
                await asyncio.gather(*works, return_exceptions=True)
                await history.close()

    return Starlette(
        routes=[
            *api.routes(sources),
            *pages.routes(
                sources,
                settings,
                people,
                sessions,
                ChangeDesk(settings, board.budget_topic),
                MetricsPages(settings),
            ),
            Route("/healthz", _lives),
            Route("/readyz", _is_ready),
        ],
        middleware=[Middleware(Guard, settings=settings, people=people, sessions=sessions)],
        exception_handlers=ERRORS,
        lifespan=lifespan,
    )


async def _keep_names(board: Board, history: HistoryPool) -> None:
    """Aliases of keys, as history has them; without it, a page shows what Kafka has.

    All of them once an hour; in between, those of the keys that were used since the time before.
    """
    all_at = read_at = -ALL_NAMES_EVERY_SECONDS
    while True:
        pause, began = NAMES_EVERY_SECONDS, time.monotonic()
        is_all = began - all_at >= ALL_NAMES_EVERY_SECONDS
        lately = NAMES_OF_THE_LAST if is_all else timedelta(seconds=began - read_at) + EVENTS_ARRIVE_WITHIN
        try:
            found = await history.ask(EVERYTHING, partial(_names_of, lately))
        except (Unusable, HistoryBusy):
            pause = AGAIN_SECONDS
        else:
            board.names = found if is_all else board.names | found
            all_at, read_at = (began if is_all else all_at), began
        await asyncio.sleep(pause)


def _names_of(lately: timedelta, history: HistoryQueries) -> dict[str, str]:
    return history.key_names(datetime.now(UTC), lately)


async def _say_ready(board: Board) -> None:
    await board.caught_up.wait()
    READY.set(1)
    log.info("budgets and signals have been read")


async def _lives(_: Request) -> Response:
    """That it is answered shows that the loop turns."""
    return PlainTextResponse("ok\n")


async def _is_ready(_: Request) -> Response:
    why = READY.why_not_ready()
    return PlainTextResponse(f"{why or 'ok'}\n", 503 if why else 200)
