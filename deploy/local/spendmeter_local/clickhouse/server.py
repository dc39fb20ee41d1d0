"""ClickHouse's HTTP protocol on loopback.

Behind it is the real engine (`engine.py`), so clients use it like any ClickHouse URL.
It leaves out: all users but one, sessions (SET, USE, temporary tables), external tables, native-compressed
bodies, progress headers.

Every program on this machine, and every page in a browser on it, can reach a port on loopback. So each
request must name the user and the password, which this process, like all others, gets from
SPENDMETER_CLICKHOUSE_PASSWORD. A request under another host name, or from a page, is refused. GET only reads,
as in ClickHouse.
"""

import asyncio
import hmac
import json
import re
import sys
import zlib
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Protocol
from uuid import uuid4

import lz4.frame  # type: ignore[import-untyped]
from aiohttp import BasicAuth, web

from spendmeter_local.clickhouse.engine import Answer, Context, Engine, EngineError, engine_error
from spendmeter_local.clickhouse.statements import Insert, Query, read_statement

# clickhouse-connect compresses each block of an insert as a frame of its own. A decoder that stops after
# the first frame loses the rest without a word: of 100,000 rows 65,536 were kept, and the insert was
# answered 200.
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class BadCompressionError(ValueError):
    """The body is not what its Content-Encoding says, or ends inside a frame."""


class TooLargeError(ValueError):
    """The body would be larger than allowed."""


class _Frame(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


_FRAMES: dict[str, Callable[[], _Frame]] = {
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "deflate": zlib.decompressobj,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}
ENCODINGS = frozenset(_FRAMES)


def decompress(encoding: str, body: bytes, at_most: int) -> bytes:
    """All of `body`, in one of `ENCODINGS`, of at most that many bytes.

    Raises BadCompressionError, TooLargeError.
    """
    parts: list[bytes] = []
    left = at_most
    rest: bytes | None = body
    while rest:
        frame = _FRAMES[encoding]()
        try:
            # One byte above the limit shows that there are more.
            part = frame.decompress(rest, left + 1)
        except (zlib.error, zstd.ZstdError, RuntimeError) as error:
            raise BadCompressionError(f"not {encoding}: {error}") from error
        left -= len(part)
        if left < 0:
            raise TooLargeError(f"the {encoding} body holds more than {at_most:,} bytes")
        if not frame.eof:
            raise BadCompressionError(f"the {encoding} body ends inside a frame")
        parts.append(part)
        rest = frame.unused_data
    return b"".join(parts)


MAX_BODY_BYTES = 512 * 1024 * 1024
"""Of a request body, both compressed and decompressed."""
BODY_WITHIN_SECONDS = 60.0
USER = "default"
PASSWORD_VARIABLE = "SPENDMETER_CLICKHOUSE_PASSWORD"
OUR_NAMES = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?", re.IGNORECASE)

# URL parameters that are not settings. A session's id is accepted and ignored.
TRANSPORT_PARAMETERS = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "query",
        "query_id",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "wait_end_of_query",
    }
)
PARAMETER_PREFIX = "param_"
ONLY_SETTINGS = 2  # value of ClickHouse's setting `readonly`, as its own HTTP interface gives it to GET
NOT_IMPLEMENTED, CANNOT_DECOMPRESS = 48, 271  # ClickHouse's own error codes
SYNTAX_ERROR, CANNOT_PARSE_NUMBER, SOCKET_TIMEOUT, AUTHENTICATION_FAILED = 62, 72, 209, 516
HTTP_STATUS_BY_CODE = {
    **dict.fromkeys((27, 36, 47, 62, 115, 452), HTTPStatus.BAD_REQUEST),
    **dict.fromkeys((164, 358, 497), HTTPStatus.FORBIDDEN),
    **dict.fromkeys((46, 60, 81), HTTPStatus.NOT_FOUND),
    202: HTTPStatus.SERVICE_UNAVAILABLE,
    SOCKET_TIMEOUT: HTTPStatus.REQUEST_TIMEOUT,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(engine: Engine, password: str) -> web.Application:
    """The HTTP application over an open engine."""
    front = _Front(engine, password)
    # The body is decompressed here: aiohttp knows no lz4, and would answer 400.
    app = web.Application(
        client_max_size=MAX_BODY_BYTES, handler_args={"auto_decompress": False}, middlewares=[_only_programs]
    )
    app.router.add_get("/ping", _ping)
    app.router.add_get("/", front.handle)
    app.router.add_post("/", front.handle)
    return app


@web.middleware
async def _only_programs(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests that a browser sends for a page, and foreign host names that point to this machine."""
    if OUR_NAMES.fullmatch(request.headers.get("Host", "")) is None:
        return _forbidden("this ClickHouse answers as 127.0.0.1 or localhost only")
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
        return _forbidden("this ClickHouse serves programs on this machine, not web pages")
    return await handler(request)


def _forbidden(sentence: str) -> web.Response:
    return web.Response(text=f"{sentence}\n", status=HTTPStatus.FORBIDDEN)


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


class _Front:
    def __init__(self, engine: Engine, password: str) -> None:
        self._engine = engine
        self._password = password.encode()

    async def handle(self, request: web.Request) -> web.Response:
        query_id = request.query.get("query_id", "")
        headers = {
            "X-ClickHouse-Query-Id": query_id if query_id and query_id.isprintable() else str(uuid4()),
            "X-ClickHouse-Server-Display-Name": "spendmeter-local",
            "X-ClickHouse-Timezone": "UTC",
        }
        if not self._is_ours(request.headers):
            # Before its body is read.
            headers["X-ClickHouse-Exception-Code"] = str(AUTHENTICATION_FAILED)
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse"'
            refused = engine_error(
                AUTHENTICATION_FAILED,
                f"the user {USER} and the password in the stack's clickhouse.password are needed:"
                " SPENDMETER_CLICKHOUSE_PASSWORD (AUTHENTICATION_FAILED)",
            )
            return web.Response(text=f"{refused}\n", status=HTTPStatus.UNAUTHORIZED, headers=headers)
        try:
            return await self._answer(request, headers)
        except EngineError as error:
            headers["X-ClickHouse-Exception-Code"] = str(error.code)
            return web.Response(
                text=f"{error}\n", status=HTTP_STATUS_BY_CODE.get(error.code, 500), headers=headers
            )

    def _is_ours(self, headers: Mapping[str, str]) -> bool:
        try:
            given = BasicAuth.decode(headers.get("Authorization", ""), "utf-8")
            user, password = given.login, given.password
        except ValueError:
            user, password = headers.get("X-ClickHouse-User", USER), headers.get("X-ClickHouse-Key", "")
        is_known = hmac.compare_digest(password.encode(errors="surrogateescape"), self._password)
        return is_known and user == USER

    async def _answer(self, request: web.Request, headers: dict[str, str]) -> web.Response:
        try:
            async with asyncio.timeout(BODY_WITHIN_SECONDS):
                parameters, body = await _read(request)
        except TimeoutError as error:
            raise engine_error(
                SOCKET_TIMEOUT, f"the request did not arrive within {BODY_WITHIN_SECONDS:g} s"
            ) from error
        try:
            asked = parameters.get("query", "").encode()
            statement = read_statement(asked + b"\n" + body if asked and body else asked or body)
        except UnicodeError as error:
            raise engine_error(SYNTAX_ERROR, f"the statement is not UTF-8: {error}") from error
        if isinstance(statement, Query) and statement.verb in ("SET", "USE"):
            # One connection serves all clients, so it would apply to every client, or to none.
            raise engine_error(NOT_IMPLEMENTED, f"{statement.verb} is not served here: put it in the request")
        context = _context(request.method, request.headers, parameters)
        if isinstance(statement, Insert):
            answer = await self._engine.insert(statement, context)
        else:
            wanted = request.headers.get("X-ClickHouse-Format") or parameters.get(
                "default_format", "TabSeparated"
            )
            answer = await self._engine.query(statement, wanted, context)
            if statement.returns_rows:
                headers["X-ClickHouse-Format"] = statement.format or wanted
        headers["X-ClickHouse-Summary"] = _summary(answer)
        return web.Response(body=answer.body, headers=headers)


async def _read(request: web.Request) -> tuple[dict[str, str], bytes]:
    """The parameters of the URL and of a form, if there is one, and the decompressed body."""
    parameters = dict(request.query)
    if parameters.get("decompress") == "1" or parameters.get("compress") == "1":
        raise engine_error(NOT_IMPLEMENTED, "native-compressed bodies are not served here")
    # Not x-www-form-urlencoded: that is what curl calls the query that follows --data.
    if request.content_type == "multipart/form-data":
        form = await request.post()
        parameters.update({name: value for name, value in form.items() if isinstance(value, str)})
        return parameters, b""
    body = await request.read()
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding == "identity" or not body:
        return parameters, body
    if encoding not in ENCODINGS:
        raise engine_error(NOT_IMPLEMENTED, f"Content-Encoding {encoding} is not served here")
    try:
        return parameters, await asyncio.to_thread(decompress, encoding, body, MAX_BODY_BYTES)
    except TooLargeError as error:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(body), text=f"{error}\n") from error
    except BadCompressionError as error:
        raise engine_error(CANNOT_DECOMPRESS, str(error)) from error


def _context(method: str, headers: Mapping[str, str], parameters: Mapping[str, str]) -> Context:
    prefixed = {name: value for name, value in parameters.items() if name.startswith(PARAMETER_PREFIX)}
    wanted = parameters.get("readonly", "0")
    if wanted not in ("0", "1", "2"):
        raise engine_error(CANNOT_PARSE_NUMBER, "readonly is 0, 1 or 2")
    return Context(
        database=parameters.get("database") or headers.get("X-ClickHouse-Database") or "default",
        settings={
            name: value
            for name, value in parameters.items()
            if name not in prefixed and name not in TRANSPORT_PARAMETERS and name != "readonly"
        },
        parameters={name.removeprefix(PARAMETER_PREFIX): value for name, value in prefixed.items()},
        readonly=int(wanted) or (0 if method == "POST" else ONLY_SETTINGS),
    )


def _summary(answer: Answer) -> str:
    counts = {
        "read_rows": answer.read_rows,
        "written_rows": answer.written_rows,
        "result_rows": answer.written_rows,
        "elapsed_ns": int(answer.elapsed_seconds * 1_000_000_000),
    }
    return json.dumps({name: str(count) for name, count in counts.items()})
