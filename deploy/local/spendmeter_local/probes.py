"""Whether a component can do its work now. Each probe is bounded and answers, never raises."""

import asyncio
import http.client
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError


def wait_until(condition: Callable[[], bool], *, timeout_seconds: float, every_seconds: float = 0.05) -> bool:
    """True as soon as `condition` is; False if it does not become true within the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_seconds)
    return True


PROBE_TIMEOUT_SECONDS = 2

READY = re.compile(rb"^spendmeter_ready(?:\{[^}]*\})? 1(?:\.0)?$", re.MULTILINE)


def http_answers(url: str) -> bool:
    """A GET is answered with a status below 300."""
    return _get(url) is not None


def says_ready(metrics_url: str) -> bool:
    """The Prometheus page is served and its gauge `spendmeter_ready` is 1."""
    page = _get(metrics_url)
    return page is not None and READY.search(page) is not None


def kafka_answers(bootstrap: str) -> bool:
    """The broker at this address answers a metadata request, and counts itself among the brokers."""
    return asyncio.run(_kafka_answers(bootstrap))


async def _kafka_answers(bootstrap: str) -> bool:
    # While a broker starts, a refused connection is an expected result, not an error to log.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=PROBE_TIMEOUT_SECONDS * 1000)
    try:
        await client.bootstrap()
        return bootstrap in {f"{broker.host}:{broker.port}" for broker in client.cluster.brokers()}
    except (KafkaError, OSError):
        return False
    finally:
        await client.close()


def _get(url: str) -> bytes | None:
    # No proxy from the environment: everything probed is on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PROBE_TIMEOUT_SECONDS) as answer:
            content: bytes = answer.read()
            return content
    except (OSError, http.client.HTTPException):
        return None
