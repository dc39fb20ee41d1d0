"""Whether a process lives, whether it does its work, and how it says so."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from spendmeter.runtime import health, metrics
from spendmeter.runtime.health import KAFKA_SILENT_SECONDS, Readiness
from spendmeter.settings import Settings
from spendmeter_local.ports import LOOPBACK, free_port, is_free


@contextmanager
def turning() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_process_lives_while_its_loop_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    readiness, free = Readiness(), threading.Event()
    assert readiness.why_not_alive() == "", "it is about to start its loop"
    with turning() as loop:
        readiness.watch(loop)
        assert readiness.why_not_alive() == ""

        monkeypatch.setattr(health, "TURN_WITHIN_SECONDS", 0.01)
        loop.call_soon_threadsafe(free.wait)
        assert readiness.why_not_alive() == "stuck: the loop of this process has not turned for 0.01 s"
        monkeypatch.undo()
        free.set()
        assert readiness.why_not_alive() == ""
    assert readiness.why_not_alive() == "stopped: the loop of this process has ended"


def test_a_process_is_ready_once_it_says_so_and_while_kafka_answers() -> None:
    readiness, answered = Readiness(), [None, time.monotonic()]
    readiness.needs_kafka(lambda: answered[-1])
    assert readiness.why_not_ready() == "not ready: the log says what this process waits for"
    readiness.set(1)
    assert readiness.why_not_ready() == ""

    answered.append(time.monotonic() - KAFKA_SILENT_SECONDS - 1)
    assert readiness.why_not_ready().startswith("not ready: Kafka has not answered for 3")
    answered.append(None)
    assert readiness.why_not_ready() == "", "it never answered: then the process itself is not ready"
    readiness.set(0)
    assert readiness.why_not_ready()


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    try:
        with urlopen(Request(f"http://{LOOPBACK}:{port}{path}", method=method), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_the_checks_stand_beside_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "READY", readiness := Readiness())
    port = free_port()
    metrics.serve(Settings(metrics_port=port))

    assert get(port, "/healthz") == (200, "ok\n")
    assert get(port, "/readyz") == (503, "not ready: the log says what this process waits for\n")
    assert "\nspendmeter_ready 0.0\n" in get(port, "/metrics")[1]
    readiness.set(1)
    assert get(port, "/readyz") == (200, "ok\n")
    assert "\nspendmeter_ready 1.0\n" in get(port, "/metrics?name[]=spendmeter_ready")[1]
    assert get(port, "/readyz", "POST")[0] == 405
    assert get(port, "/readyz/")[0] == 200, "as before, any other path is the page for Prometheus"


def test_each_worker_of_a_proxy_has_a_port_as_long_as_there_are_any() -> None:
    first = free_port_with_the_next_free()
    settings = Settings(metrics_port=first)
    metrics.serve(settings, ports=2)
    with pytest.raises(metrics.NotServed, match=f"{LOOPBACK}:{first} "):
        metrics.serve(settings)
    metrics.serve(settings, ports=2)

    assert [get(port, "/metrics")[0] for port in (first, first + 1)] == [200, 200]
    with pytest.raises(metrics.NotServed, match=f"{LOOPBACK}:{first} to {first + 1} "):
        metrics.serve(settings, ports=2)


def free_port_with_the_next_free() -> int:
    return next(port for port in iter(free_port, None) if is_free(port + 1))


def test_without_a_port_nothing_is_served() -> None:
    before = threading.active_count()
    metrics.serve(Settings(metrics_port=0), ports=3)

    assert threading.active_count() == before
