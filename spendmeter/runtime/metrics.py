"""Metrics: the page that Prometheus reads, and the gauge that says a process is ready."""

from prometheus_client import Gauge, start_http_server

from spendmeter.runtime.settings import Settings

READY = Gauge("spendmeter_ready", "1 once this process does its work, 0 before and while it cannot.")


def serve(settings: Settings) -> None:
    """Serve /metrics on metrics_host:metrics_port from a thread of its own; nothing when the port is 0."""
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr=settings.metrics_host)
