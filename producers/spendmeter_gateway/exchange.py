"""One HTTP exchange with the proxy: who pays for it, and each call to a deployment made in it. No I/O.

LiteLLM runs hooks, callbacks and its logging queue in copies of the context in which the exchange began, so
the exchange is found in a context variable. Nothing that a client sends can reach that, unlike metadata.

LiteLLM wraps calls in calls (`/v1/messages` over chat, a chat with tools over further chats). Only
calls to a provider count: a call that sent nothing itself and contains others is a wrapper.
"""

import contextvars
import re
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from enum import Enum
from threading import Lock
from typing import Any, Protocol
from uuid import UUID

from spendmeter.values.ids import uuid7
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.model import Caller, Deployment, UsageCounts, UsageDraft

# One request may name a list of models; each call beyond this number is refused.
MAX_CALLS = 1_000
MAX_REFUSALS = 20
# Bytes kept of a stream, for an estimate if it is cut; the rest counts by its length.
MAX_OUTPUT_BYTES = 256 * 1024
MAX_END_BYTES = 1024
CALLS_AT_ADMISSION = ("pass_through_endpoint", "call_mcp_tool")
"""Calls that begin with their admission: LiteLLM has no hook for a deployment there."""
# Exchanges without an ASGI end, and requests found by the id in their metadata.
MAX_EXCHANGES_REMEMBERED = 10_000


class Outcome(Enum):
    """How a call to a deployment has ended, as far as known."""

    RUNNING = "running"
    """Sent, or about to be sent; also a stream that is still being read."""
    ANSWERED = "answered"
    VOID = "void"
    """Nothing was billed: refused by the provider, never sent, or a wrapper of other calls."""
    CUT = "cut"
    """Sent, and abandoned before the answer came: the provider bills at least the input."""


class UsageFilter(Protocol):
    """Removes from a stream the usage that its client did not request."""

    usage: UsageCounts | None

    def feed(self, data: bytes, *, is_last: bool = False) -> bytes:
        """The bytes of the stream to send so far."""


class Call:
    """One call to a deployment; its id becomes the id of its usage event."""

    __slots__ = (
        "arguments", "call_type", "caller", "deployment", "earlier_error", "exchange", "has_children", "id",
        "is_estimated", "is_pending", "is_recorded", "is_streamed", "lacks_usage", "outcome", "parent",
        "priced", "recorded_nanousd", "response", "response_id", "sends", "stream", "usage",
    )  # fmt: skip

    def __init__(
        self,
        exchange: "Exchange",
        call_id: UUID,
        caller: Caller,
        deployment: Deployment,
        call_type: str,
        arguments: Mapping[str, Any],
        parent: "Call | None",
    ) -> None:
        self.exchange, self.id, self.caller, self.deployment = exchange, call_id, caller, deployment
        self.call_type, self.arguments, self.parent = call_type, arguments, parent
        # Gemini and Vertex have it in the path.
        self.is_streamed = arguments.get("stream") is True or ":stream" in exchange.path
        self.outcome = Outcome.RUNNING
        self.earlier_error = id(sys.exc_info()[1])
        """The `id` of the failure that led to it, if it is another attempt: no cause of its own failure."""
        self.sends = 0
        """How often LiteLLM reported that it sends a request to the provider."""
        self.has_children = False
        self.response: object = None
        self.priced: tuple[object, UsageDraft | None] | None = None
        """What the answer said of its usage when it was priced, and the event that came of it."""
        self.usage: object = None
        """Of a stream, as LiteLLM read it at the end."""
        self.stream: object = None
        """LiteLLM's reader of the answer, if that is a stream of chat chunks."""
        self.lacks_usage = False
        """Whether LiteLLM, and not the provider, is known to have counted its usage."""
        self.response_id: str | None = None
        """The provider's id of its answer."""
        self.is_pending = False
        """Whether its cost already counts although its event is not recorded."""
        self.is_recorded = False
        self.is_estimated = False
        """Whether its event was recorded without LiteLLM's log event, which may still come and cost more."""
        self.recorded_nanousd = 0

    def answered(self, response: object) -> None:
        """Note that the provider has answered."""
        self.response, self.priced, self.outcome = response, None, Outcome.ANSWERED
        found = response.get("id") if isinstance(response, dict) else getattr(response, "id", None)
        self.response_id = found if isinstance(found, str) else None

    @property
    def is_wrapper(self) -> bool:
        """Whether it only contains other calls."""
        return self.has_children and not self.sends

    @property
    def is_open(self) -> bool:
        """Whether it needs, or may need, an event that is not recorded yet."""
        return not self.is_recorded and self.outcome is not Outcome.VOID and not self.is_wrapper


class Exchange:
    """One HTTP exchange. First hooks on one event loop change it, then the thread that settles it."""

    __slots__ = (
        "_admitted", "_lock", "_request_id", "auth", "caller", "calls", "has_ended", "has_logged",
        "is_complete", "is_list", "is_readable", "is_watched", "method", "output", "output_bytes",
        "output_end", "path", "refusals", "usage_filter",
    )  # fmt: skip

    def __init__(self, method: str = "", path: str = "", *, is_watched: bool = False) -> None:
        self.method, self.path = method, path
        self.is_watched = is_watched
        """Whether the gateway will see its end."""
        self.auth: object = None
        """LiteLLM's `UserAPIKeyAuth` once authenticated; LiteLLM completes it later."""
        self.caller: Caller | None = None
        """Who pays, according to authentication. None until one of its requests or calls is judged."""
        self.calls: list[Call] = []
        self.refusals: deque[Refusal] = deque(maxlen=MAX_REFUSALS)
        """The latest refusals of requests and calls: LiteLLM may continue after one, or answer with any."""
        self.has_logged = False
        """Whether LiteLLM has logged an answer, or a final failure. It logs a request once, however many
        calls it made."""
        self.has_ended = False
        self.is_complete = False
        """Whether the whole answer was sent to the client."""
        self.is_list = False
        """Whether it names a list of models, which LiteLLM calls in parallel."""
        self.is_readable = True
        """Whether the answer to the client is uncompressed."""
        self.output: list[bytes] = []
        self.output_bytes = 0
        self.output_end = b""
        """The last bytes that a stream has sent."""
        self.usage_filter: UsageFilter | None = None
        """Removes from a pass-through stream what the provider added for us, not for the client."""
        self._request_id: UUID | None = None
        self._admitted: deque[UUID] = deque()
        self._lock = Lock()

    @property
    def request_id(self) -> UUID:
        """The id of the exchange's first request, and so of its first call and usage event."""
        if self._request_id is None:
            self._request_id = uuid7(time.time_ns() // 1_000_000)
        return self._request_id

    def begin(self, caller: Caller) -> UUID:
        """Begin a request that is about to be judged; returns its id, which its first call inherits."""
        if self.caller is None:
            self.caller = caller
            request_id = self.request_id
        else:
            request_id = uuid7(time.time_ns() // 1_000_000)
        self._admitted.append(request_id)
        return request_id

    def open(
        self,
        caller: Caller,
        deployment: Deployment,
        call_type: str,
        arguments: Mapping[str, Any],
        parent: Call | None,
        request_id: UUID | None = None,
    ) -> Call:
        """Begin a call. It inherits the id, and so the hold, of the request or wrapper around it."""
        if parent is not None and (parent.exchange is not self or parent.outcome is not Outcome.RUNNING):
            parent = None
        if parent is not None and parent.is_open and not parent.sends and not parent.has_children:
            # The inner call gets the id; the wrapper's own is never used.
            call_id, parent.id = parent.id, uuid7(time.time_ns() // 1_000_000)
        elif request_id is not None:
            call_id = request_id
            self._forget(request_id)
        else:
            call_id = self._admitted.popleft() if self._admitted else uuid7(time.time_ns() // 1_000_000)
        if parent is not None:
            parent.has_children = True
        call = Call(self, call_id, caller, deployment, call_type, arguments, parent)
        self.calls.append(call)
        return call

    def give_back(self, call: Call) -> None:
        """Discard a call: the next one inherits its id and hold."""
        call.outcome = Outcome.VOID
        if not call.is_recorded:
            self._admitted.appendleft(call.id)

    def consume_admitted(self, request_id: UUID | None = None) -> UUID | None:
        """The id of a request that no call has inherited: that one, or the oldest; None without one."""
        if request_id is not None:
            return request_id if self._forget(request_id) else None
        return self._admitted.popleft() if self._admitted else None

    def claim(self, call: Call) -> bool:
        """Claim the recording of the call's event; returns whether the caller has it."""
        with self._lock:
            if call.is_recorded:
                return False
            call.is_recorded = True
            return True

    def stream_ended(self, call: Call | None, usage: object, response_id: str | None) -> None:
        """Note that LiteLLM has read the end of a stream: of this call, or of the oldest possible one."""
        streams = [
            c for c in self.calls if c.is_streamed and c.is_open and c.usage is None and c.stream is None
        ]
        if call is None or call not in streams or call.is_wrapper:
            call = next(iter(streams), None)
        if call is not None:
            call.usage, call.response_id = usage, response_id

    def open_calls(self) -> list[Call]:
        """The calls without an event that need one, or may need one."""
        return [call for call in self.calls if call.is_open]

    @property
    def made_several(self) -> bool:
        """Whether several of its calls were answered: then LiteLLM's log event mixes them up."""
        answered = 0
        for call in self.calls:
            if call.outcome is Outcome.ANSWERED and not call.is_wrapper:
                answered += 1
        return answered > 1

    def find(self, call_type: str, response_id: str, deployment_id: str | None) -> Call | None:
        """The call that a log event is about, recorded or not; None if it is about none of these."""
        calls = [c for c in self.calls if c.outcome is not Outcome.VOID and not c.is_wrapper]
        named = [c for c in calls if response_id and c.response_id == response_id]
        alike = [c for c in calls if c.response_id is None and _may_be(c, call_type, deployment_id)]
        unnamed = [c for c in calls if not c.is_recorded and _may_be(c, call_type, deployment_id)]
        for call in (*named, *alike, *unnamed):
            if not call.is_recorded:
                return call
        settled = [c for c in calls if c.is_estimated and _may_be(c, call_type, deployment_id)]
        return next(iter(named or settled), None)

    def sent(self, body: bytes, *, is_readable: bool = True) -> None:
        """Note that a part of a streamed answer went to the client."""
        self.is_readable = is_readable
        if is_readable:
            if self.output_bytes < MAX_OUTPUT_BYTES:
                self.output.append(body)
            self.output_end = (self.output_end + body)[-MAX_END_BYTES:]
        self.output_bytes += len(body)

    def lacks(self, mark: re.Pattern[bytes]) -> bool:
        """Whether, as far as can be seen, no stream to the client contained anything like it."""
        if not self.is_watched or not self.is_readable:
            return False
        return mark.search(self.output_end) is None and mark.search(b"".join(self.output)) is None

    def forget(self) -> None:
        """Everything is settled: drop the texts of requests and answers."""
        self.output.clear()
        for call in self.calls:
            call.arguments, call.response, call.priced, call.stream = {}, None, None, None

    def _forget(self, request_id: UUID) -> bool:
        try:
            self._admitted.remove(request_id)
        except ValueError:
            return False
        return True


def _may_be(call: Call, call_type: str, deployment_id: str | None) -> bool:
    if (
        call.call_type in CALLS_AT_ADMISSION or call_type in CALLS_AT_ADMISSION
    ) and call.call_type != call_type:
        return False
    known = call.deployment.id
    return known is None or deployment_id is None or known == deployment_id


_exchange: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar(
    "spendmeter_exchange", default=None
)
_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar("spendmeter_call", default=None)


def current_exchange() -> Exchange | None:
    """The exchange that this code runs for."""
    return _exchange.get()


def enter_exchange(exchange: Exchange) -> "contextvars.Token[Exchange | None]":
    """Make this the exchange of the code from here on, and of everything started from here."""
    return _exchange.set(exchange)


def leave_exchange(token: "contextvars.Token[Exchange | None]") -> None:
    """Undo `enter_exchange`."""
    _exchange.reset(token)


def current_call() -> Call | None:
    """The call that this code runs for."""
    return _call.get()


def enter_call(call: Call | None) -> None:
    """Make this the call of the code from here on, and of everything started from here."""
    _call.set(call)


class Exchanges:
    """Exchanges by the id of a request, for code that has lost its context. One event loop."""

    def __init__(self) -> None:
        self._by_request: OrderedDict[UUID, Exchange] = OrderedDict()

    def put(self, request_id: UUID, exchange: Exchange) -> None:
        """Remember a request's exchange; the oldest is forgotten first."""
        self._by_request[request_id] = exchange
        if len(self._by_request) > MAX_EXCHANGES_REMEMBERED:
            self._by_request.popitem(last=False)

    def get(self, request_id: UUID | None) -> Exchange | None:
        """The exchange of that request, if it is remembered."""
        return None if request_id is None else self._by_request.get(request_id)
