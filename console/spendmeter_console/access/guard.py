"""The guard in front of every request: by which name and method, who asks, how often, what a browser may do.

Everything is closed unless it is listed here: a new page needs a viewer before anybody thinks of it.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spendmeter_console.access.people import People, Person, hash_of, viewer_of
from spendmeter_console.access.rates import Rates, bucket_of
from spendmeter_console.access.sessions import Sessions
from spendmeter_console.settings import ConsoleSettings
from spendmeter_console.viewer import Viewer

SIGN_IN = "/sign-in"
ME = "/v1/me"
BUDGETS, NEW_BUDGET = "/budgets", "/new-budget"
_CHANGES = "changes"
_PUBLIC = frozenset({SIGN_IN, ME, "/me", "/healthz", "/readyz", "/v1/openapi.json"})
_STATIC = "/static/"
_API = "/v1/"
_BEARER = "Bearer "
_CHANGES_NOTHING = frozenset({"GET", "HEAD"})
_METHODS = frozenset({*_CHANGES_NOTHING, "POST"})
MAX_TARGET_BYTES = 8_192

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = (
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
)


class Guard:
    """ASGI middleware. A request that passes has `scope["viewer"]`: None only where the path is public."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ConsoleSettings,
        people: People,
        sessions: Sessions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._settings = settings
        self._people, self._sessions = people, sessions
        self._cookie = cookie_name(settings)
        self._rates = {
            SIGN_IN: Rates(per_minute=10, burst=10, clock=clock),
            ME: Rates(per_minute=20, burst=10, clock=clock),
            _CHANGES: Rates(per_minute=30, burst=20, clock=clock),
            "": Rates(per_minute=1_200, burst=300, clock=clock),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on with who asks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(scope["path"], MutableHeaders(scope=message))
            await send(message)

        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to what goes no further; else None, and the viewer stands in the scope."""
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        address = client_address(scope, headers, self._settings)
        scope["viewer"], scope["client_address"] = None, address
        if not self._is_our_name(headers):
            return PlainTextResponse(
                "this page goes by another name; set SPENDMETER_WEB_URL to the address in your browser\n", 421
            )
        if method not in _METHODS:
            return _said(path, "only GET and POST are answered here", 405, allow="GET, POST")
        if len(scope.get("query_string", b"")) + len(scope.get("raw_path") or b"") > MAX_TARGET_BYTES:
            return _said(path, "this address is too long; ask for less at once", 414)
        if method not in _CHANGES_NOTHING and not self._is_same_site(headers):
            return _said(path, "this form was not sent from this page; open the page and try again", 403)
        counted = _counted_as(path, method)
        if counted or not path.startswith(_STATIC):
            wait = self._rates[counted].wait_seconds(bucket_of(address))
            if wait:
                seconds = str(max(1, round(wait)))
                return _said(path, f"too often; try again in {seconds} s", 429, retry_after=seconds)
        return self._identify(scope, headers, path, address)

    def _identify(self, scope: Scope, headers: Headers, path: str, address: str) -> Response | None:
        if path.startswith(_STATIC) or path == ME:
            # Of ME the header holds a key of the gateway's; it is nobody's token here.
            return None
        authorization = headers.get("authorization", "")
        if authorization.startswith(_BEARER) and path.startswith(_API):
            person = self._people.by_token(authorization.removeprefix(_BEARER).strip())
            if person is None:
                return _said(path, "nobody has this token; ask for one", 401)
            scope["viewer"] = viewer_of(person)
            return None
        scope["viewer"] = self._known(scope, headers)
        if scope["viewer"] is not None or path in _PUBLIC:
            return None
        if path.startswith(_API):
            return _said(path, "send a token: Authorization: Bearer …", 401)
        # As it was sent: a name may hold a slash, which is escaped there.
        sent = (scope.get("raw_path") or quote(path).encode()).decode("latin-1")
        target = sent + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
        return RedirectResponse(f"{SIGN_IN}?next={quote(target, safe='')}", 303)

    def _known(self, scope: Scope, headers: Headers) -> Viewer | None:
        if not self._settings.needs_sign_in:
            return Viewer("this machine")
        person: Person | None = None
        if is_trusted_proxy(scope, self._settings):
            # Two of them: a client may have sent one that the proxy left in.
            named = headers.getlist(self._settings.web_proxy_header)
            person = self._people.by_name(named[0].strip()) if len(named) == 1 else None
            if person is not None:
                return replace(viewer_of(person), is_signed_in=False, holder=f"proxy {person.name}")
        for session_id in cookies(headers, self._cookie):
            person = self._sessions.person_of(session_id)
            if person is not None:
                return replace(viewer_of(person), holder=f"session {hash_of(session_id)}")
        return None

    def _is_our_name(self, headers: Headers) -> bool:
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            return False
        try:
            return (urlsplit(f"//{hosts[0]}").hostname or "") in self._settings.names
        except ValueError:
            return False

    def _is_same_site(self, headers: Headers) -> bool:
        """Whether a browser sent it from a page of ours, or no browser sent it on anybody's behalf.

        A page elsewhere cannot set either header; a request without both is refused, for it may be a
        browser's that is too old to have them.
        """
        fetched = headers.get("sec-fetch-site")
        if fetched is not None:
            return fetched == "same-origin"
        origin = headers.get("origin")
        return origin is not None and urlsplit(origin).netloc == headers.get("host")

    def _add_headers(self, path: str, headers: MutableHeaders) -> None:
        for name, value in _HEADERS:
            headers[name] = value
        if self._settings.is_https:
            headers["strict-transport-security"] = "max-age=31536000"
        if not path.startswith(_STATIC):
            headers["cache-control"] = "no-store"


def _counted_as(path: str, method: str) -> str:
    """Whose rate a request counts against: what can be guessed or changed has one of its own."""
    if path == ME or (path == SIGN_IN and method == "POST"):
        return path
    is_change = method == "POST" and (path == NEW_BUDGET or path.startswith(f"{BUDGETS}/"))
    return _CHANGES if is_change else ""


def cookie_name(settings: ConsoleSettings) -> str:
    """Over TLS with the prefix by which a browser keeps other sites of the domain from setting it."""
    return "__Host-spendmeter" if settings.is_https else "spendmeter_session"


def set_session(response: Response, settings: ConsoleSettings, session_id: str) -> None:
    """Hand the browser its session."""
    response.set_cookie(
        cookie_name(settings),
        session_id,
        max_age=settings.web_session_hours * 3600,
        path="/",
        secure=settings.is_https,
        httponly=True,
        samesite="lax",
    )


def cookies(headers: Headers, name: str) -> Iterable[str]:
    """What the cookie of that name holds: several where another site of the domain set one, too."""
    for header in headers.getlist("cookie"):
        for part in header.split(";"):
            try:
                parsed = SimpleCookie(part.strip())
            except CookieError:
                continue
            if name in parsed:
                yield parsed[name].value


def is_trusted_proxy(scope: Scope, settings: ConsoleSettings) -> bool:
    """Whether the connection itself comes from a listed proxy."""
    return bool(settings.proxies) and _is_listed(_peer(scope), settings)


def client_address(scope: Scope, headers: Headers, settings: ConsoleSettings) -> str:
    """Who asks: the other end of the connection; behind a listed proxy, the last address that it added."""
    peer = _peer(scope)
    if not is_trusted_proxy(scope, settings):
        return peer
    for one in reversed(",".join(headers.getlist("x-forwarded-for")).split(",")):
        address = one.strip()
        if not address:
            break
        if not _is_listed(address, settings):
            return address[:64]
    return peer


def _is_listed(address: str, settings: ConsoleSettings) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in settings.proxies)


def _peer(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def _said(path: str, sentence: str, status: int, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if status == 401:
        named["www-authenticate"] = "Bearer"
    if path.startswith(_API):
        return JSONResponse({"error": sentence}, status, headers=named)
    return PlainTextResponse(sentence + "\n", status, headers=named)
