"""Whether the fake model calls a tool: as long as the directive says so and the request has one. Pure."""

from typing import Any


def tool_call_of(body: dict[str, Any], rounds: int) -> str | None:
    """The tool to call now; None once `rounds` tools have answered in this conversation."""
    messages, tools = body.get("messages"), body.get("tools")
    if not rounds or not isinstance(messages, list) or not isinstance(tools, list):
        return None
    answered = sum(1 for one in messages if isinstance(one, dict) and one.get("role") == "tool")
    names = [_name(tool) for tool in tools if isinstance(tool, dict)]
    return next((name for name in names if name), None) if answered < rounds else None


def _name(tool: dict[str, Any]) -> str | None:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else tool.get("name")
    return name if isinstance(name, str) else None
