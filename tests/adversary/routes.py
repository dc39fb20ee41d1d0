"""How a case is said on each route: method, path, headers and body. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.adversary.case import Case

FILLER = tuple(
    word
    for line in (
        "people count what they spend because a number that is known in time changes what they do next and",
        "nothing else about money is as simple or as often forgotten by those who build machines for it",
    )
    for word in line.split()
)
CHAT_MODELS = ("gpt-4o-mini", "gpt-4o", "my-4o", "claude", "gem", "deep", "azure-4o", "house")
TEXT = "$TEXT"

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    """One way to ask."""

    path: str
    body: Body
    """`$TEXT` and `$MODEL` stand for the prompt and the model."""
    models: tuple[str, ...]
    can_stream: bool = False
    streams_by: str = ""
    """The path of the streamed call, where the body does not say so."""
    is_form: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    poll: str = ""
    """Path that reads the answer again, `{id}` being its id."""


def _chat(path: str, models: tuple[str, ...], **more: Any) -> Route:
    body = {"model": "$MODEL", "messages": [{"role": "user", "content": TEXT}]}
    return Route(path, body, models, can_stream=True, **more)


def _messages(path: str, models: tuple[str, ...]) -> Route:
    body = {"model": "$MODEL", "max_tokens": 2000, "messages": [{"role": "user", "content": TEXT}]}
    return Route(path, body, models, can_stream=True, headers={"anthropic-version": "2023-06-01"})


def _gemini(prefix: str, model: str) -> Route:
    return Route(
        f"{prefix}/models/$MODEL:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]},
        (model,),
        can_stream=True,
        streams_by=f"{prefix}/models/$MODEL:streamGenerateContent?alt=sse",
    )


_MCP = [{"type": "mcp", "server_url": "litellm_proxy/mcp/toolbox", "require_approval": "never"}]

ROUTES: Mapping[str, Route] = {
    "chat": _chat("/v1/chat/completions", CHAT_MODELS),
    "chat, other path": _chat("/openai/deployments/$MODEL/chat/completions", ("gpt-4o-mini", "gpt-4o")),
    "completions": Route(
        "/v1/completions", {"model": "$MODEL", "prompt": TEXT}, ("instruct", "gpt-4o-mini"), can_stream=True
    ),
    "messages": _messages("/v1/messages", ("claude", "gpt-4o-mini")),
    "responses": Route(
        "/v1/responses",
        {"model": "$MODEL", "input": TEXT},
        ("gpt-4o", "gpt-4o-mini", "claude"),
        can_stream=True,
        poll="/v1/responses/{id}",
    ),
    "embeddings": Route("/v1/embeddings", {"model": "$MODEL", "input": TEXT}, ("embed",)),
    "gemini": _gemini("/v1beta", "gem"),
    "rerank": Route(
        "/v1/rerank", {"model": "$MODEL", "query": TEXT, "documents": ["one", "two", "three"]}, ("rank",)
    ),
    "images": Route("/v1/images/generations", {"model": "$MODEL", "prompt": TEXT}, ("image",)),
    "transcriptions": Route(
        "/v1/audio/transcriptions", {"model": "$MODEL", "prompt": TEXT}, ("transcribe",), is_form=True
    ),
    "speech": Route("/v1/audio/speech", {"model": "$MODEL", "input": TEXT, "voice": "alloy"}, ("speak",)),
    "moderations": Route("/v1/moderations", {"model": "$MODEL", "input": TEXT}, ("moderate",)),
    "openai pass-through": _chat("/openai_passthrough/v1/chat/completions", ("gpt-4o-mini", "gpt-4o")),
    "anthropic pass-through": _messages("/anthropic/v1/messages", ("claude-sonnet-4-5",)),
    "gemini pass-through": _gemini("/gemini/v1beta", "gemini-2.5-flash"),
    "tool loop": Route(
        "/v1/chat/completions",
        {"model": "$MODEL", "messages": [{"role": "user", "content": TEXT}], "tools": _MCP},
        ("gpt-4o", "gpt-4o-mini"),
        can_stream=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What goes over the wire, but for the key."""

    path: str
    headers: Mapping[str, str]
    body: Body
    is_form: bool


def prompt(case: Case, nonce: int) -> str:
    """The text, with the directive that the upstream obeys and logs."""
    words = [FILLER[number % len(FILLER)] for number in range(case.words)]
    said = " ".join(f"{name}={value}" for name, value in (("nonce", nonce), *case.directive))
    return " ".join(filter(None, [case.marker, *words, f"[[{said}]]"]))


def request(case: Case, nonce: int, victim: str) -> Request:
    """The case as HTTP. `victim` is the hash of somebody else's key."""
    route = ROUTES[case.route]
    path = route.streams_by if case.stream and route.streams_by else route.path
    body: Body = _filled(route.body, {"$MODEL": case.model, TEXT: prompt(case, nonce)})
    if case.stream and not route.streams_by:
        body["stream"] = True
    headers = dict(route.headers)
    for control in case.controls:
        value = json.loads(control.value.replace("$VICTIM", victim))
        if control.where == "header":
            headers[control.name] = str(value)
        else:
            body[control.name] = _nested(value, case.depth)
    return Request(path.replace("$MODEL", case.model), headers, body, route.is_form)


def readable(case: Case, victim: str = "somebody-else") -> str:
    """The request in words, for a report."""
    made = request(case, 0, victim)
    body = json.dumps(made.body)
    return f"POST {made.path} {json.dumps(dict(made.headers))} {body[:2000]}"


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(one, names) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


Build = Callable[[Case, int], Request]
