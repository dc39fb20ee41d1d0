"""The HTTP answer of a refusal, in the shape that the route's clients read.

Each shape has all that LiteLLM's own budget error has (`error.message`, `error.type`), so that whoever reads
that can read this on every route, and what Anthropic's, Google's, AWS's or JSON-RPC's clients expect.
"""

import json
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from litellm.proxy._types import ProxyException

from spendmeter.contract.decision import Why
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.litellm.compat import litellm_status

# LiteLLM's own status where spend cannot be verified (`fail_closed_budget_enforcement`).
_UNVERIFIED_STATUS = 503
# The caller may not use this model; to wait or to try again helps nothing.
_UNPRICED_STATUS = 403
_BAD_REQUEST_STATUS = 400
_STATUSES = {
    Why.BLIND: _UNVERIFIED_STATUS,
    Why.UNPRICED: _UNPRICED_STATUS,
    Why.UNBOUNDED: _UNPRICED_STATUS,
    Why.CONTROL: _BAD_REQUEST_STATUS,
    Why.TAG_MISSING: _BAD_REQUEST_STATUS,
}
_GOOGLES = {
    _UNVERIFIED_STATUS: "UNAVAILABLE",
    _UNPRICED_STATUS: "PERMISSION_DENIED",
    _BAD_REQUEST_STATUS: "INVALID_ARGUMENT",
}
_AWSS = {
    _UNVERIFIED_STATUS: "ServiceUnavailableException",
    _UNPRICED_STATUS: "AccessDeniedException",
    _BAD_REQUEST_STATUS: "ValidationException",
}
# JSON-RPC leaves -32000 to -32099 to the server; LiteLLM answers -32000 as well.
_JSON_RPC_CODE = -32000
_OF_THE_OLD_BODY = frozenset({b"content-length", b"content-encoding", b"transfer-encoding", b"etag"})

_OF_AN_ERROR = frozenset({"error", "detail", "message"})
_GZIP = b"\x1f\x8b"
MAX_UNPACKED_BYTES = 1024 * 1024

Body = dict[str, Any]


class RefusalResponse(NamedTuple):
    """What goes to the client; `headers` in lower case, as ASGI has them."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def status_of(refusal: Refusal, litellm_status: int) -> int:
    """The HTTP status; `litellm_status` is what LiteLLM answers where its own budgets refuse."""
    return _STATUSES.get(refusal.refuse.why, litellm_status)


def refusal_response(refusal: Refusal, path: str, *, litellm_status: int) -> RefusalResponse:
    """The whole answer to a request for that path, in place of whatever LiteLLM would make of it."""
    status = status_of(refusal, litellm_status)
    body, more = _shape_of(path)(refusal, status)
    # ASCII: the message may have names in any script, and JSON escapes them.
    encoded = json.dumps(body).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(encoded)),
        **refusal.headers,
        **more,
    }
    return RefusalResponse(
        status,
        [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        encoded,
    )


def with_refusal_headers(
    headers: Iterable[tuple[bytes, bytes]], response: RefusalResponse
) -> list[tuple[bytes, bytes]]:
    """LiteLLM's headers (CORS, call id, …) with the refusal's in place of those that described its body."""
    replaced = _OF_THE_OLD_BODY | {name for name, _ in response.headers}
    return [pair for pair in headers if pair[0].lower() not in replaced] + response.headers


def is_about(body: bytes, refusal: Refusal) -> bool:
    """Whether an error's body, whatever its shape, is LiteLLM's rendering of this refusal.

    A request that was refused one deployment may have failed at the next for another reason.
    """
    body = _unpacked(body)
    if _is_report(body):
        return False
    return json.dumps(refusal.message)[1:-1].encode() in body or _unescaped(refusal.message) in body


def _is_report(body: bytes) -> bool:
    """Whether it is an object that reports errors and is none itself: /health's, with one for each model."""
    try:
        value = json.loads(body)
    except ValueError:
        return False
    return isinstance(value, dict) and not _OF_AN_ERROR & value.keys()


def _unpacked(body: bytes) -> bytes:
    """The body as it was before LiteLLM's middleware compressed it, as it does with longer ones."""
    if not body.startswith(_GZIP):
        return body
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, MAX_UNPACKED_BYTES)
    except zlib.error:
        return body


def _unescaped(message: str) -> bytes:
    return json.dumps(message, ensure_ascii=False)[1:-1].encode("utf-8", "replace")


_Shape = Callable[[Refusal, int], tuple[Body, dict[str, str]]]


def _litellms(refusal: Refusal, status: int) -> Body:
    return {"message": refusal.message, "type": refusal.type, "param": refusal.param, "code": str(status)}


def _openai(refusal: Refusal, status: int) -> tuple[Body, dict[str, str]]:
    return {"error": _litellms(refusal, status)}, {}


def _anthropic(refusal: Refusal, status: int) -> tuple[Body, dict[str, str]]:
    return {"type": "error", "error": _litellms(refusal, status)}, {}


def _google(refusal: Refusal, status: int) -> tuple[Body, dict[str, str]]:
    # Google's code is the status as a number.
    name = _google_status(refusal, status)
    return {"error": {**_litellms(refusal, status), "code": status, "status": name}}, {}


def _google_status(refusal: Refusal, status: int) -> str:
    if refusal.refuse.why not in _STATUSES:
        return "RESOURCE_EXHAUSTED"
    return _GOOGLES[status]


def _aws(refusal: Refusal, status: int) -> tuple[Body, dict[str, str]]:
    # AWS's clients try a ThrottlingException again; this one they do not.
    kind = "ServiceQuotaExceededException" if refusal.refuse.why not in _STATUSES else _AWSS[status]
    return {"message": refusal.message, "error": _litellms(refusal, status)}, {"x-amzn-errortype": kind}


def _cohere(refusal: Refusal, status: int) -> tuple[Body, dict[str, str]]:
    return {"message": refusal.message, "error": _litellms(refusal, status)}, {}


def _json_rpc(refusal: Refusal, status: int) -> tuple[Body, dict[str, str]]:
    error = {"code": _JSON_RPC_CODE, "message": refusal.message, "data": _litellms(refusal, status)}
    return {"jsonrpc": "2.0", "id": None, "error": error}, {}


_BY_SEGMENT: dict[str, _Shape] = {
    "anthropic": _anthropic,
    "claude_code_gateway": _anthropic,
    "skills": _anthropic,
    "gemini": _google,
    "vertex_ai": _google,
    "vertex-ai": _google,
    "v1beta": _google,
    "v1beta1": _google,
    "v1alpha": _google,
    "bedrock": _aws,
    "cohere": _cohere,
    "a2a": _json_rpc,
    "mcp": _json_rpc,
}
_OPENAIS = frozenset({"openai", "openai_passthrough", "azure"})
_NAMES_FOLLOW = frozenset({"models", "deployments", "engines"})


def _shape_of(path: str) -> _Shape:
    segments = [segment for segment in path.lower().split("/") if segment]
    if segments[:1] == ["messages"] or ("v1", "messages") in pairwise(segments):
        # Also below a root path, and /v1/messages/batches.
        return _anthropic
    for segment, after in pairwise([*segments, ""]):
        if segment in _NAMES_FOLLOW:
            # What follows is a model's name, which may be anything: /models/gemini-2.5-flash:generateContent.
            return _google if ":" in after else _openai
        if segment == "publishers":
            return _anthropic if after == "anthropic" else _google
        if segment in _OPENAIS:
            return _openai
        if segment in _BY_SEGMENT:
            found = _BY_SEGMENT[segment]
            return _below_vertex(segments) if found is _google else found
    return _openai


def _below_vertex(segments: list[str]) -> _Shape:
    """Google serves Anthropic's and OpenAI's protocols as well."""
    if ("publishers", "anthropic") in pairwise(segments):
        return _anthropic
    return _openai if "openai" in segments else _google


class RefusedError(ProxyException):  # type: ignore[misc]
    """LiteLLM's router goes on to a fallback, and never repeats an attempt that ended like this."""

    status_code = 422
    """What the router reads: it would try 429 and 503 again. The client gets `code`."""


def refused(refusal: Refusal) -> ProxyException:
    """A refusal as LiteLLM raises its own: the same body and status, and no second try."""
    return RefusedError(
        message=refusal.message,
        type=refusal.type,
        param=refusal.param,
        code=status_of(refusal, litellm_status()),
        headers=refusal.headers,
    )
