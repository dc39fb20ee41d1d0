"""`python -m spendmeter.local.clickhouse --path DIR --port N`: ClickHouse's HTTP protocol on loopback.

Behind it is the real engine (`engine.py`), so that everything else talks to a ClickHouse URL and cannot tell.
Left out: users, sessions (SET, USE, temporary tables), external tables, native-compressed bodies,
progress headers.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import click
from aiohttp import web

from spendmeter.local.compression import ENCODINGS, BadCompressionError, decompress
from spendmeter.local.engine import Answer, Context, Engine, EngineError, engine_error
from spendmeter.local.ports import LOOPBACK
from spendmeter.local.statements import Insert, Query, read_statement

MAX_BODY_BYTES = 512 * 1024 * 1024

# What HTTP carries beside settings. A session's id is accepted and means nothing.
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
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "user",
        "wait_end_of_query",
    }
)
PARAMETER_PREFIX = "param_"
NOT_IMPLEMENTED, CANNOT_DECOMPRESS = 48, 271  # ClickHouse's own error codes
HTTP_STATUS_BY_CODE = {60: 404, 81: 404, 46: 404, 62: 400, 27: 400, 36: 400, 47: 400, 115: 400, 202: 503}


def build_app(engine: Engine) -> web.Application:
    """The HTTP application over an open engine."""
    front = _Front(engine)
    # The body is decompressed here: aiohttp knows no lz4, and would answer 400.
    app = web.Application(client_max_size=MAX_BODY_BYTES, handler_args={"auto_decompress": False})
    app.router.add_get("/ping", _ping)
    app.router.add_route("*", "/", front.handle)
    return app


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


class _Front:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def handle(self, request: web.Request) -> web.Response:
        headers = {
            "X-ClickHouse-Query-Id": request.query.get("query_id") or str(uuid4()),
            "X-ClickHouse-Server-Display-Name": "spendmeter-local",
            "X-ClickHouse-Timezone": "UTC",
        }
        try:
            return await self._answer(request, headers)
        except EngineError as error:
            headers["X-ClickHouse-Exception-Code"] = str(error.code)
            return web.Response(
                text=f"{error}\n", status=HTTP_STATUS_BY_CODE.get(error.code, 500), headers=headers
            )

    async def _answer(self, request: web.Request, headers: dict[str, str]) -> web.Response:
        parameters, body = await _read(request)
        asked = parameters.get("query", "").encode()
        text = asked + b"\n" + body if asked and body else asked or body
        statement = read_statement(text)
        if isinstance(statement, Query) and statement.verb in ("SET", "USE"):
            # One connection serves everybody: it would hold for every client, or for none.
            raise engine_error(NOT_IMPLEMENTED, f"{statement.verb} is not served here: put it in the request")
        context = _context(request.headers, parameters)
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
    """The URL's parameters, with those of a form if there is one, and the decompressed body."""
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
        return parameters, await asyncio.to_thread(decompress, encoding, body)
    except BadCompressionError as error:
        raise engine_error(CANNOT_DECOMPRESS, str(error)) from error


def _context(headers: Mapping[str, str], parameters: Mapping[str, str]) -> Context:
    prefixed = {name: value for name, value in parameters.items() if name.startswith(PARAMETER_PREFIX)}
    return Context(
        database=parameters.get("database") or headers.get("X-ClickHouse-Database") or "default",
        settings={
            name: value
            for name, value in parameters.items()
            if name not in prefixed and name not in TRANSPORT_PARAMETERS
        },
        parameters={name.removeprefix(PARAMETER_PREFIX): value for name, value in prefixed.items()},
    )


def _summary(answer: Answer) -> str:
    counts = {
        "read_rows": answer.read_rows,
        "written_rows": answer.written_rows,
        "result_rows": answer.written_rows,
        "elapsed_ns": int(answer.elapsed_seconds * 1_000_000_000),
    }
    return json.dumps({name: str(count) for name, count in counts.items()})


@click.command()
@click.option("--path", type=click.Path(path_type=Path), required=True, help="Where the data lives.")
@click.option("--port", type=int, required=True, help=f"Port on {LOOPBACK}.")
def main(path: Path, port: int) -> None:
    """Serve the ClickHouse engine over HTTP until SIGTERM."""
    engine = Engine(path)
    try:
        web.run_app(build_app(engine), host=LOOPBACK, port=port, print=lambda _: None, access_log=None)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
