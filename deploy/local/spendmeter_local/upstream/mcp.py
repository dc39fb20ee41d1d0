"""A tool server over HTTP (MCP) with `add` and `search`; the proxy's configuration sets their prices."""

from typing import Any

from aiohttp import web

PATH = "/mcp"
TOOLS = ("add", "search")
_VERSION = "2025-06-18"


def add_routes(app: web.Application) -> None:
    """Serve it at `/mcp`."""
    app.router.add_post(PATH, _post)
    app.router.add_get(PATH, _no_stream)
    app.router.add_delete(PATH, _ended)


async def _post(request: web.Request) -> web.Response:
    message = await request.json()
    if "id" not in message:
        return web.Response(status=202)
    result = answer(message.get("method"), message.get("params") or {})
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})


def answer(method: str | None, params: dict[str, Any]) -> dict[str, Any]:
    """The result of one call of the protocol."""
    if method == "initialize":
        return {
            "protocolVersion": params.get("protocolVersion", _VERSION),
            "capabilities": {"tools": {"listChanged": False}},
            "serverInfo": {"name": "toolbox", "version": "1"},
        }
    if method == "tools/list":
        schema = {"type": "object", "properties": {}}
        return {"tools": [{"name": name, "description": name, "inputSchema": schema} for name in TOOLS]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": "42"}], "isError": False}
    return {}


async def _no_stream(_: web.Request) -> web.Response:
    return web.Response(status=405)


async def _ended(_: web.Request) -> web.Response:
    return web.Response(status=200)
