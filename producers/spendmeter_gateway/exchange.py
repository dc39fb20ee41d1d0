"""One HTTP exchange with the proxy: who pays for it, and each call to a deployment made in it. No I/O.

LiteLLM runs hooks, callbacks and its logging queue in copies of the context in which the exchange began, so
the exchange is found in a context variable. Nothing that a client sends can reach that, unlike metadata.

LiteLLM wraps calls in calls (`/v1/messages` over chat, a chat with tools over further chats). What
counts is what goes to a provider: a call that sent nothing itself and contains others is a wrapper.
"""

import contextvars
import re
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from enum import Enum
from threading import Lock
from typing import Any, Protocol
from uuid import UUID

from spendmeter.contract.ids import uuid7
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.model import Caller, Deployment, UsageCounts, UsageDraft

# One request may name a list of models; each call beyond it is refused.
MAX_CALLS = 1_000
MAX_REFUSALS = 20
# Of what a stream has sent, for an estimate if it is cut; the rest counts by its length.
MAX_OUTPUT_BYTES = 256 * 1024
MAX_END_BYTES = 1024
CALLS_AT_ADMISSION = ("pass_through_endpoint", "call_mcp_tool")
"""Calls that begin with their admission: LiteLLM has no hook for a deployment there."""
# Exchanges that no wrapper ends, and requests found by the id that their metadata carries.
MAX_EXCHANGES_REMEMBERED = 10_000


class Outcome(Enum):
    """How a call to a deployment has ended, as far as is known."""

    RUNNING = "running"
    """Sent, or about to be; a stream that is still read."""
    ANSWERED = "answered"
    VOID = "void"
    """Nothing was billed: refused by the provider, never sent, or a wrapper of other calls."""
    CUT = "cut"
    """Sent, and given up before the answer had come: the provider bills at least the input."""


class UsageFilter(Protocol):
    """Takes out of a stream what its client has not asked for: what was used."""

    usage: UsageCounts | None

    def feed(self, data: bytes, *, is_last: bool = False) -> bytes:
        """What to send of the stream so far."""


class Call:
    """One call to a deployment; its id becomes the id of its usage event."""

    __slots__ = (
        "arguments", "call_type", "caller", "deployment", "exchange", "has_children", "id", "is_estimated",
        "is_pending", "is_recorded", "is_streamed", "lacks_usage", "outcome", "parent", "priced",
        "recorded_nanousd", "response", "response_id", "sends", "stream", "usage",
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
        # Gemini and Vertex say it in the path.
        self.is_streamed = arguments.get("stream") is True or ":stream" in exchange.path
        self.outcome = Outcome.RUNNING
        self.sends = 0
        """How often LiteLLM said that it sends a request to the provider."""
        self.has_children = False
        self.response: object = None
        self.priced: tuple[object, UsageDraft | None] | None = None
        """What the answer said of its usage when it was priced, and the event that came of it."""
        self.usage: object = None
        """Of a stream, as LiteLLM has read it at its end."""
        self.stream: object = None
        """LiteLLM's reader of the answer, where that is a stream of chat chunks."""
        self.lacks_usage = False
        """Whether it is known that LiteLLM, and not the provider, has counted what it used."""
        self.response_id: str | None = None
        """What the provider calls its answer."""
        self.is_pending = False
        """Whether its cost counts already, although its event is not recorded."""
        self.is_recorded = False
        self.is_estimated = False
        """Whether its event was recorded without LiteLLM's, which may come yet and cost more."""
        self.recorded_nanousd = 0

    def answered(self, response: object) -> None:
        """The provider has answered."""
        self.response, self.priced, self.outcome = response, None, Outcome.ANSWERED
        found = response.get("id") if isinstance(response, dict) else getattr(response, "id", None)
        self.response_id = found if isinstance(found, str) else None

    @property
    def is_wrapper(self) -> bool:
        """Whether it only contains other calls."""
        return self.has_children and not self.sends

    @property
    def is_open(self) -> bool:
        """Whether it will have, or may need, an event that is not recorded yet."""
        return not self.is_recorded and self.outcome is not Outcome.VOID and not self.is_wrapper


class Exchange:
    """One HTTP exchange. Hooks of one event loop change it, and then the thread that settles it."""

    __slots__ = (
        "_admitted", "_lock", "_request_id", "auth", "caller", "calls", "has_ended", "has_logged",
        "is_complete", "is_list", "is_readable", "is_watched", "method", "output", "output_bytes",
        "output_end", "path", "refusals", "usage_filter",
    )  # fmt: skip

    def __init__(self, method: str = "", path: str = "", *, is_watched: bool = False) -> None:
        self.method, self.path = method, path
        self.is_watched = is_watched
        """Whether its end will be seen."""
        self.auth: object = None
        """LiteLLM's `UserAPIKeyAuth`, as soon as it is authenticated; LiteLLM completes it afterwards."""
        self.caller: Caller | None = None
        """Who pays: what authentication said. None until a request or call of it is judged."""
        self.calls: list[Call] = []
        self.refusals: deque[Refusal] = deque(maxlen=MAX_REFUSALS)
        """The latest refusals of requests and calls: LiteLLM may go on after one, or answer with any."""
        self.has_logged = False
        """Whether LiteLLM has logged an answer of it, or that it failed for good. It logs a request once,
        however many calls it made."""
        self.has_ended = False
        self.is_complete = False
        """Whether the whole answer was sent to the client."""
        self.is_list = False
        """Whether it names a list of models, which LiteLLM calls at one time."""
        self.is_readable = True
        """Whether what is sent to the client is not compressed."""
        self.output: list[bytes] = []
        self.output_bytes = 0
        self.output_end = b""
        """The last bytes of what a stream has sent."""
        self.usage_filter: UsageFilter | None = None
        """Takes out of a pass-through stream what we, not its client, had the provider add."""
        self._request_id: UUID | None = None
        self._admitted: deque[UUID] = deque()
        self._lock = Lock()

    @property
    def request_id(self) -> UUID:
        """Names the exchange's first request, and with that its first call and usage event."""
        if self._request_id is None:
            self._request_id = uuid7(time.time_ns() // 1_000_000)
        return self._request_id

    def begin(self, caller: Caller) -> UUID:
        """A request of it is about to be judged; returns its id, which its first call takes over."""
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
        """A call begins. It takes over the id, and so the hold, of the request or wrapper around it."""
        if parent is not None and (parent.exchange is not self or parent.outcome is not Outcome.RUNNING):
            parent = None
        if parent is not None and parent.is_open and not parent.sends and not parent.has_children:
            # The id goes to the call inside; the wrapper's own is never used.
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
        """The call came to nothing: the next one takes its id and hold."""
        call.outcome = Outcome.VOID
        if not call.is_recorded:
            self._admitted.appendleft(call.id)

    def consume_admitted(self, request_id: UUID | None = None) -> UUID | None:
        """The id of a request that no call has taken over: that one, or the oldest; None without one."""
        if request_id is not None:
            return request_id if self._forget(request_id) else None
        return self._admitted.popleft() if self._admitted else None

    def claim(self, call: Call) -> bool:
        """Whether the caller, and nobody else, is to record the call's event."""
        with self._lock:
            if call.is_recorded:
                return False
            call.is_recorded = True
            return True

    def stream_ended(self, call: Call | None, usage: object, response_id: str | None) -> None:
        """LiteLLM has read the end of a stream: that of this call, else of the oldest that it may be."""
        streams = [
            c for c in self.calls if c.is_streamed and c.is_open and c.usage is None and c.stream is None
        ]
        if call is None or call not in streams or call.is_wrapper:
            call = next(iter(streams), None)
        if call is not None:
            call.usage, call.response_id = usage, response_id

    def open_calls(self) -> list[Call]:
        """The calls that have no event yet and need one, or may."""
        return [call for call in self.calls if call.is_open]

    @property
    def made_several(self) -> bool:
        """Whether more than one of its calls was answered: then LiteLLM's log event mixes them up."""
        answered = 0
        for call in self.calls:
            if call.outcome is Outcome.ANSWERED and not call.is_wrapper:
                answered += 1
        return answered > 1

    def find(self, call_type: str, response_id: str, deployment_id: str | None) -> Call | None:
        """The call that a log event is about, recorded or not; None where it is about none of these."""
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
        """A part of a streamed answer went to the client."""
        self.is_readable = is_readable
        if is_readable:
            if self.output_bytes < MAX_OUTPUT_BYTES:
                self.output.append(body)
            self.output_end = (self.output_end + body)[-MAX_END_BYTES:]
        self.output_bytes += len(body)

    def lacks(self, mark: re.Pattern[bytes]) -> bool:
        """Whether nothing like it was sent in a stream to the client, as far as that can be seen."""
        if not self.is_watched or not self.is_readable:
            return False
        return mark.search(self.output_end) is None and mark.search(b"".join(self.output)) is None

    def forget(self) -> None:
        """Everything is settled: keep nothing of what was asked and answered."""
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
    """From here on, and in all that is started from here, the code runs for this exchange."""
    return _exchange.set(exchange)


def leave_exchange(token: "contextvars.Token[Exchange | None]") -> None:
    """Undo `enter_exchange`."""
    _exchange.reset(token)


def current_call() -> Call | None:
    """The call that this code runs for."""
    return _call.get()


def enter_call(call: Call | None) -> None:
    """From here on, and in all that is started from here, the code runs for this call."""
    _call.set(call)


class Exchanges:
    """Exchanges by the id of a request, for code that has lost its context. One event loop."""

    def __init__(self) -> None:
        self._by_request: OrderedDict[UUID, Exchange] = OrderedDict()

    def put(self, request_id: UUID, exchange: Exchange) -> None:
        """Remember where a request belongs; the oldest is forgotten first."""
        self._by_request[request_id] = exchange
        if len(self._by_request) > MAX_EXCHANGES_REMEMBERED:
            self._by_request.popitem(last=False)

    def get(self, request_id: UUID | None) -> Exchange | None:
        """The exchange of that request, if it is remembered."""
        return None if request_id is None else self._by_request.get(request_id)
