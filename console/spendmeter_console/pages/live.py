"""What keeps open pages fresh: a stream of messages that something has changed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from spendmeter_console.access.rates import bucket_of
from spendmeter_console.api.routes import NotThere, Sources, query_of, scope_of
from spendmeter_console.pages.answer import page

MAX_FOLLOWERS = 500
MAX_FOLLOWERS_OF_ONE = 20
PAUSE_SECONDS = 0.25
"""Between two messages to one reader, so that a burst is one."""
ALIVE_SECONDS = 15.0


class LiveStream:
    """Server-sent events of the board."""

    def __init__(self, sources: Sources) -> None:
        self._board, self._clock = sources.board, sources.clock
        self._followers: Counter[str] = Counter()

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [Route("/live", page(self.live))]

    async def live(self, request: Request) -> Response:
        """A message whenever something has changed of what the viewer may see."""
        query, scope = query_of(request, self._clock()), scope_of(request)
        query.allow(("budget",))
        budget_id = query.one("budget")
        if budget_id and self._board.budget(scope, budget_id) is None:
            raise NotThere("no budget of this name is in force, or it is not yours to see")
        follower = bucket_of(request.scope["client_address"])
        if self._followers.total() >= MAX_FOLLOWERS or self._followers[follower] >= MAX_FOLLOWERS_OF_ONE:
            return PlainTextResponse("too many pages are open; this one is as of when it was loaded\n", 503)

        async def messages() -> AsyncIterator[bytes]:
            self._followers[follower] += 1
            try:
                edition = self._board.edition(scope, budget_id)
                yield b"retry: 2000\nevent: begun\ndata: \n\n"
                while True:
                    try:
                        async with asyncio.timeout(ALIVE_SECONDS):
                            edition = await self._board.wait_changed(scope, edition, budget_id)
                    except TimeoutError:
                        yield b": alive\n\n"
                        continue
                    yield f"event: changed\ndata: {edition}\n\n".encode()
                    await asyncio.sleep(PAUSE_SECONDS)
            finally:
                self._followers[follower] -= 1
                if not self._followers[follower]:
                    del self._followers[follower]

        return StreamingResponse(
            messages(), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )
