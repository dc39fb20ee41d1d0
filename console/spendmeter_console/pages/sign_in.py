"""Who is there: signing in and out, and the page on which the holder of a key shows it."""

from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from spendmeter_console.access.guard import ME, SIGN_IN, cookie_name, cookies, set_session
from spendmeter_console.access.people import People
from spendmeter_console.access.sessions import Sessions
from spendmeter_console.api.parameters import InvalidParameter
from spendmeter_console.api.routes import Sources
from spendmeter_console.pages.answer import page, rendered
from spendmeter_console.settings import ConsoleSettings

MAX_FORM_BYTES = 4_096


class SignInPages:
    """Sign-in by token, and Me."""

    def __init__(
        self, sources: Sources, settings: ConsoleSettings, people: People, sessions: Sessions
    ) -> None:
        self._clock = sources.clock
        self._settings, self._people, self._sessions = settings, people, sessions

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [
            Route("/me", page(self.me)),
            Route(SIGN_IN, page(self.sign_in), methods=["GET", "POST"]),
            Route("/sign-out", page(self.sign_out), methods=["POST"]),
        ]

    async def me(self, request: Request) -> Response:
        return rendered(request, "me.html", self._clock(), endpoint=ME)

    async def sign_in(self, request: Request) -> Response:
        onward = _own_path(request.query_params.get("next", "/"))
        if request.scope["viewer"] is not None:
            return RedirectResponse(onward, 303)
        if request.method == "GET":
            return rendered(request, "sign_in.html", self._clock(), wrong="", onward=onward)
        person = self._people.by_token((await _form(request)).get("token", "").strip())
        if person is None:
            return rendered(
                request,
                "sign_in.html",
                self._clock(),
                status=401,
                wrong="nobody has this token; check that all of it was copied",
                onward=onward,
            )
        response = RedirectResponse(onward, 303)
        set_session(response, self._settings, self._sessions.begin(person))
        return response

    async def sign_out(self, request: Request) -> Response:
        for session_id in cookies(request.headers, cookie_name(self._settings)):
            self._sessions.end(session_id)
        response = RedirectResponse(SIGN_IN, 303)
        response.delete_cookie(cookie_name(self._settings), path="/", secure=self._settings.is_https)
        return response


def _own_path(value: str) -> str:
    """Where to go on after a sign-in: a path of this page, whatever the link says."""
    is_path = value.startswith("/") and not value.startswith(("//", "/\\")) and value.isprintable()
    return value if is_path and "\\" not in value else "/"


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise InvalidParameter("token", "this form is too long; send the token alone")
    return dict(parse_qsl(body.decode("utf-8", "replace")))
