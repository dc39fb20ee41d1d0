"""Metrics: the page for Prometheus, the readiness gauge, and the health checks beside the page."""

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import Gauge, make_wsgi_app

from spendmeter.runtime.health import Readiness
from spendmeter.settings import Settings

REQUEST_WITHIN_SECONDS = 30.0

READY = Readiness()
_GAUGE = Gauge("spendmeter_ready", "1 once this process does its work, 0 before and while it cannot.")
_GAUGE.set_function(lambda: float(not READY.why_not_ready()))


class NotServed(OSError):
    """The metrics page cannot be served; the message says why and what to set."""

    def __str__(self) -> str:
        return str(self.args[0])


class _Server(ThreadingMixIn, WSGIServer):
    # Whatever a request waits for, the process may end.
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_WITHIN_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """A request is no line of the log."""


def serve(settings: Settings, *, ports: int = 1) -> None:
    """Serve /metrics, /healthz and /readyz on metrics_host:metrics_port from threads of their own.

    Nothing if the port is 0. `ports`: so many are tried, from metrics_port on, until one is free.

    Raises:
        NotServed: other processes have the ports, or there is no such address here.
    """
    first = settings.metrics_port
    for port in range(first, min(first + ports, 65_536)) if first else ():
        try:
            server = _bound(settings.metrics_host, port)
        except OSError as error:
            failed = error
        else:
            threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
            return
    if first:
        at = f"{settings.metrics_host}:{first}" + (f" to {first + ports - 1}" if ports > 1 else "")
        raise NotServed(
            f"the metrics page cannot be served at {at} ({failed.strerror or failed});"
            " set SPENDMETER_METRICS_PORT to a free port, or to 0 for none"
        )


def _bound(host: str, port: int) -> WSGIServer:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    of_family = type("_Server", (_Server,), {"address_family": family})
    return make_server(host, port, _answer, of_family, _Handler)


_metrics_page: Callable[..., Iterable[bytes]] = make_wsgi_app()


def _answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    checks: dict[str, Callable[[], str]] = {
        "/healthz": READY.why_not_alive,
        "/readyz": lambda: READY.why_not_ready() or READY.why_not_alive(),
    }
    check = checks.get(environ["PATH_INFO"])
    if check is None or environ["REQUEST_METHOD"] != "GET":
        return _metrics_page(environ, start_response)
    why = check()
    status = "503 Service Unavailable" if why else "200 OK"
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
    return [f"{why or 'ok'}\n".encode()]
