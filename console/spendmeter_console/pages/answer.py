"""What every page answers with: a template in the reader's zone, or a sentence that says what is wrong."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from spendmeter_console.access.guard import cookies
from spendmeter_console.api.parameters import UTC_ZONE, InvalidParameter, cursor_text, zone_of
from spendmeter_console.api.routes import NotThere
from spendmeter_console.history.pool import HistoryBusy, Unusable
from spendmeter_console.pages.render import environment, moment, until
from spendmeter_console.viewer import Viewer

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
ROWS = 100
"""Of a list on a page."""
SPAN = ("from", "to", "range", "zone")
_ENV = environment()


def rendered(request: Request, template: str, now: datetime, status: int = 200, **values: Any) -> Response:
    """A template with these values, and with what every template has."""
    zone = zone_in(request)
    viewer: Viewer | None = request.scope.get("viewer")
    text = _ENV.get_template(template).render(
        **values,
        viewer=viewer,
        path=request.url.path,
        now=now,
        zone=zone.key,
        at=lambda time, form="": moment(time, zone, now, form),
        until=lambda time: until(time, now),
    )
    return Response(text, status, media_type="text/html")


def page(endpoint: Endpoint) -> Endpoint:
    """The endpoint, whose refusals are pages, too."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except InvalidParameter as error:
            return _failed(request, 422, "This question cannot be", str(error))
        except NotThere as error:
            return _failed(request, 404, "Not here", str(error))
        except (Unusable, HistoryBusy) as error:
            return _failed(
                request,
                503,
                "History does not answer",
                f"{error}. Budgets and what is left of them are live all the same.",
            )

    return answer


def zone_in(request: Request) -> ZoneInfo:
    """The reader's zone, which their browser keeps in a cookie; UTC where it says none."""
    for value in cookies(request.headers, "spendmeter_zone"):
        try:
            return zone_of("zone", value)
        except InvalidParameter:
            continue
    return UTC_ZONE


def address(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """The path with these parameters, each of them escaped."""
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    return f"{path}?{query}" if query else path


def next_page(
    path: str,
    pairs: Iterable[tuple[str, str]],
    rows: Sequence[T],
    position: Callable[[T], tuple[datetime, UUID]],
) -> str:
    """The address of what follows the first ROWS, with the same parameters; empty at the end of the list."""
    if len(rows) <= ROWS:
        return ""
    kept = [(name, value) for name, value in pairs if name != "after"]
    return address(path, [*kept, ("after", cursor_text(*position(rows[ROWS - 1])))])


def csv_headers(name: str) -> dict[str, str]:
    """The headers of a file of that name."""
    return {"content-disposition": f'attachment; filename="{name}.csv"'}


def _failed(request: Request, status: int, title: str, sentence: str) -> Response:
    if request.url.path.startswith("/v1/"):
        return Response(json.dumps({"error": sentence}), status, media_type="application/json")
    return rendered(
        request, "error.html", datetime.now().astimezone(), status=status, title=title, sentence=sentence
    )


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _failed(request, status, HTTPStatus(status).phrase, "there is nothing at this address")


async def _broken(request: Request, error: Exception) -> Response:
    return _failed(request, 500, "This is a bug of ours", "the page could not be made; the log says why")


ERRORS: Mapping[Any, Any] = {HTTPException: _not_found, Exception: _broken}
"""By what was raised: what is answered."""
