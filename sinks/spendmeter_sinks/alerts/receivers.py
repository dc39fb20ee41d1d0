"""The edge to receivers: one offer of one message, and what the answer means.

HTTP of ours goes through aiohttp, whose time limit is of the whole exchange: a receiver that answers a byte
at a time is no less hung. All other services are Apprise's, which blocks: each of its routes has a thread.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol

import aiohttp
import requests
from apprise import Apprise, NotifyType
from apprise.plugins import N_MGR

from spendmeter_sinks.alerts import payloads
from spendmeter_sinks.alerts.message import Message, Severity
from spendmeter_sinks.alerts.routes import Service, Target

MAX_RETRY_AFTER_SECONDS = 3_600.0
_LATER_STATUSES = frozenset({408, 425, 429})
"""Of 4xx: what the same request may get past, later."""
_WORSE = 500
_TYPES = {
    Severity.CRITICAL: NotifyType.FAILURE,
    Severity.WARNING: NotifyType.WARNING,
    Severity.INFO: NotifyType.SUCCESS,
}
APPRISE_LOG = "apprise"


class Accepted(NamedTuple):
    """The receiver has it."""


class Later(NamedTuple):
    """It cannot have it now: to be offered again."""

    why: str
    after_seconds: float | None = None
    """As the receiver said."""


class Refused(NamedTuple):
    """It will not have it: the same again would be refused again."""

    why: str


Answer = Accepted | Later | Refused


class Receiver(Protocol):
    """What a route sends to."""

    lanes: int
    """How many messages may be on their way at once; those of one account never are."""

    @property
    def digests(self) -> bool:
        """Whether one message may be about several alerts."""
        ...

    async def offer(self, message: Message) -> Answer:
        """Offer it once. What goes wrong is in the answer, and never a word of a URL or secret."""
        ...

    async def close(self) -> None: ...


def receiver_of(target: Target, timeout_seconds: float) -> Receiver:
    """The receiver of a target that was checked."""
    if target.service is Service.APPRISE:
        return AppriseReceiver(target, timeout_seconds)
    return HttpReceiver(target, timeout_seconds)


class HttpReceiver:
    """A webhook, or Alertmanager."""

    lanes = 8

    def __init__(
        self,
        target: Target,
        timeout_seconds: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._target, self._now = target, now
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    @property
    def digests(self) -> bool:
        return self._target.service is not Service.LITELLM

    async def offer(self, message: Message) -> Answer:
        try:
            call = self._call(message)
        except payloads.NoPayload as error:
            return Refused(str(error))
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        url = self._target.url.get_secret_value().rstrip("/" if call.path else "") + call.path
        try:
            async with self._session.post(
                url, data=call.body, headers=call.headers, allow_redirects=False
            ) as response:
                return answer_of(response.status, response.headers.get("Retry-After"), self._now())
        except TimeoutError:
            return Later(f"no answer within {self._timeout.total:g} s")
        except (aiohttp.ClientError, OSError) as error:
            # Its text may hold the URL.
            return Later(f"no connection ({type(error).__name__})")

    def _call(self, message: Message) -> payloads.HttpCall:
        if self._target.service is Service.ALERTMANAGER:
            return payloads.alertmanager(message, self._target)
        make = payloads.litellm if self._target.service is Service.LITELLM else payloads.webhook
        return make(message, self._target, self._now())

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class AppriseReceiver:
    """Any service that Apprise knows, by one URL."""

    lanes = 1
    digests = True

    def __init__(self, target: Target, timeout_seconds: float) -> None:
        silence_apprise()
        _note_answers()
        self._plugin: Any = Apprise.instantiate(target.url.get_secret_value())
        assert self._plugin is not None, "the file was checked"
        if self._plugin.socket_read_timeout == type(self._plugin).socket_read_timeout:
            # Else a service that needs more than Apprise's four seconds would get each message for ever.
            self._plugin.socket_read_timeout = timeout_seconds
        self._timeout_seconds = timeout_seconds + _throttled_seconds(self._plugin)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="apprise")
        self._under_way: tuple[str, asyncio.Future[Answer]] | None = None
        """The message that was offered last, until it is known what became of it."""

    async def offer(self, message: Message) -> Answer:
        # A thread cannot be ended. It is this route's own, and what comes next waits for it; the same
        # message again waits for its answer, since the service may be about to accept it.
        if self._under_way is None or self._under_way[0] != message.id:
            work = asyncio.get_running_loop().run_in_executor(self._thread, self._notify, message)
            self._under_way = message.id, work
        _, work = self._under_way
        done, _ = await asyncio.wait([work], timeout=self._timeout_seconds)
        if not done:
            return Later(f"no answer within {self._timeout_seconds:g} s")
        self._under_way = None
        return work.result()

    def _notify(self, message: Message) -> Answer:
        _answered.last = None
        try:
            sent = self._plugin.notify(
                body=message.text or message.title,
                title=message.title,
                notify_type=_TYPES[message.severity],
                body_format="text",
            )
        except Exception as error:
            # A plugin's own bug is no reason to stop; its text may hold the URL.
            return Later(f"{self._plugin.service_name} could not be called ({type(error).__name__})")
        if sent:
            return Accepted()
        status_and_header: tuple[int, str | None] | None = _answered.last
        if status_and_header is None:
            return Later(f"{self._plugin.service_name} could not be reached")
        answer = answer_of(*status_and_header, datetime.now(UTC))
        return Later("the service did not accept it") if isinstance(answer, Accepted) else answer

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def answer_of(status: int, retry_after: str | None, now: datetime) -> Answer:
    """What an HTTP status means for a message that was offered."""
    if 200 <= status < 300:
        return Accepted()
    if status in _LATER_STATUSES or status >= _WORSE:
        return Later(f"HTTP {status}", _seconds(retry_after, now))
    if 300 <= status < 400:
        return Refused(f"HTTP {status}: it has moved; give the new URL")
    return Refused(f"HTTP {status}")


def what_is_wrong_with(url: str) -> str:
    """Why Apprise cannot use a URL, without a word of it but its schema; empty where it can."""
    silence_apprise()
    if Apprise.instantiate(url) is not None:
        return ""
    schema, found, _ = url.partition("://")
    if not found or not schema.isalnum():
        return "holds no URL of Apprise's, such as slack://… or mailto://…"
    if schema.lower() in ("http", "https"):
        return (
            "holds a web address of no service that Apprise knows; for a receiver of your own use `webhook`"
        )
    if schema.lower() in N_MGR:
        return f"holds a {schema}:// URL that Apprise cannot use; compare it with `apprise --details`"
    return f"holds a {schema}:// URL, a service that Apprise does not know; `apprise --details` lists them"


def silence_apprise() -> None:
    """Its log has URLs in it, and with them passwords."""
    log = logging.getLogger(APPRISE_LOG)
    log.handlers, log.propagate = [logging.NullHandler()], False
    log.setLevel(logging.CRITICAL + 1)


def _throttled_seconds(plugin: Any) -> float:
    """How long Apprise itself waits between two messages, so as not to be refused."""
    return float(plugin.request_rate_per_sec)


class _Answered(threading.local):
    last: tuple[int, str | None] | None = None


_answered = _Answered()


class _NotingSession(requests.Session):
    """Notes how the thread's last request was answered: Apprise says only that something failed.

    A redirect is an answer. Followed, a POST becomes a GET, and the page that it leads to says 200.
    """

    def send(self, request: Any, **more: Any) -> requests.Response:
        if request.method != "GET":
            more["allow_redirects"] = False
        response = super().send(request, **more)
        _answered.last = (response.status_code, response.headers.get("Retry-After"))
        return response


def _note_answers() -> None:
    """From now on every request of this process's Apprise is noted; `requests.post` makes such a session."""
    requests.sessions.Session = _NotingSession  # type: ignore[misc]


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Seconds, or a date (RFC 9110, 10.2.3); None of what is neither."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    if not 0 <= seconds < float("inf"):
        return None
    return min(seconds, MAX_RETRY_AFTER_SECONDS)
