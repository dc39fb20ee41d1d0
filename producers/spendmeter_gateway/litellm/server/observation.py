"""What LiteLLM does beside its hooks, as far as the calls that run need to know it."""

from collections.abc import Callable

from spendmeter_gateway.exchange import Call, Exchange, current_call, current_exchange
from spendmeter_gateway.litellm.compat import litellm_status
from spendmeter_gateway.litellm.recording.streams import observe_estimates, observe_streams
from spendmeter_gateway.litellm.server.asgi import install
from spendmeter_gateway.litellm.server.authentication import observe_authentication


def observe(on_end: Callable[[Exchange], None]) -> bool:
    """Observe what the proxy serves from now on; False while there is no server to be put around."""
    is_installed = install(on_end, litellm_status)
    observe_authentication(_authenticated)
    observe_streams(_stream_begins, _stream_waits)
    observe_estimates(_usage_estimated)
    return is_installed


def _authenticated(auth: object) -> None:
    exchange = current_exchange()
    if exchange is not None:
        exchange.auth = auth


def _stream_begins(stream: object) -> None:
    call = current_call() or _only_stream(current_exchange())
    if call is not None and call.stream is None:
        call.stream = stream


def _only_stream(exchange: Exchange | None) -> Call | None:
    """Text completions are first read when their call is no longer the context's; of several nobody knows."""
    streams = [c for c in exchange.open_calls() if c.is_streamed and c.stream is None] if exchange else []
    return streams[0] if len(streams) == 1 else None


def _usage_estimated() -> None:
    exchange = current_exchange()
    for call in () if exchange is None else exchange.open_calls():
        if call.is_streamed and call.stream is None:
            call.lacks_usage = True


def _stream_waits() -> Callable[[], None]:
    call = current_call()
    if call is None or not call.sends:
        return lambda: None
    call.sends -= 1

    def send() -> None:
        call.sends += 1

    return send
