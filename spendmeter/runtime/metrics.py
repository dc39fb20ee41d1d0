"""Metrics: the page for Prometheus, and the readiness gauge."""

from prometheus_client import Gauge, start_http_server

from spendmeter.settings import Settings

READY = Gauge("spendmeter_ready", "1 once this process does its work, 0 before and while it cannot.")


class NotServed(OSError):
    """The metrics page cannot be served; the message says why and what to set."""

    def __str__(self) -> str:
        return str(self.args[0])


def serve(settings: Settings) -> None:
    """Serve /metrics on metrics_host:metrics_port from its own thread; nothing if the port is 0.

    Raises:
        NotServed: another process has the port, or there is no such address here.
    """
    if not settings.metrics_port:
        return
    try:
        start_http_server(settings.metrics_port, addr=settings.metrics_host)
    except OSError as error:
        raise NotServed(
            f"the metrics page cannot be served at {settings.metrics_host}:{settings.metrics_port}"
            f" ({error.strerror or error}); set SPENDMETER_METRICS_PORT to a free port, or to 0 for none"
        ) from None
