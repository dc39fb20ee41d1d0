"""A receiver of messages on this machine: it accepts whatever JSON is sent to it, and keeps it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from spendmeter_local.ports import LOOPBACK


@contextmanager
def receiver() -> Iterator[tuple[int, list[Any]]]:
    """A port at which messages are accepted, and the messages."""
    received: list[Any] = []

    class Accept(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer((LOOPBACK, 0), Accept)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
