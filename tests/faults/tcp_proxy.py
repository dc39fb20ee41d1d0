"""`python -m tests.faults.tcp_proxy`: TCP links that can be cut, stalled, slowed and torn in use.

Each link listens on one port of loopback and forwards to another. A line of JSON on the control port,
`{"link": …, "mode": …, "milliseconds": …}`, sets what happens to it until the next such line:

| mode | what a client of the link sees |
| --- | --- |
| `open` | everything passes |
| `refuse` | connections are reset, new ones too |
| `stall` | nothing passes, nothing ends; when it is over, all passes |
| `mute` | requests pass, answers do not; when it is over, the connections are reset |
| `delay` | each piece comes `milliseconds` later |
| `trickle` | pieces of a few bytes, one at a time |
| `tear` | every now and then half a piece passes, then the connection is reset |
"""

import asyncio
import json
import random
import socket
import sys
from dataclasses import dataclass
from typing import Literal, get_args

import click

from spendmeter_local.ports import LOOPBACK

Mode = Literal["open", "refuse", "stall", "mute", "delay", "trickle", "tear"]

PIECE_BYTES = 64 * 1024
# A piece is cut into at most so many: each costs a turn of the loop and a packet.
MAX_CRUMBS = 20
TEAR_CHANCE = 0.2
CONTROL_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LinkPorts:
    """Where a link listens and where it leads, both on loopback."""

    name: str
    listen: int
    target: int

    @classmethod
    def read(cls, text: str) -> "LinkPorts":
        name, listen, target = text.split(":")
        return cls(name, int(listen), int(target))

    def __str__(self) -> str:
        return f"{self.name}:{self.listen}:{self.target}"


class Link:
    """One listening port and the connections through it. Used from one event loop."""

    def __init__(self, ports: LinkPorts) -> None:
        self.ports = ports
        self._mode: Mode = "open"
        self._milliseconds = 0
        self._changed = asyncio.Event()
        self._connections: set[_Connection] = set()

    async def serve(self) -> None:
        """Accept until cancelled."""
        server = await asyncio.start_server(self._accept, LOOPBACK, self.ports.listen)
        async with server:
            await server.serve_forever()

    def set(self, mode: Mode, milliseconds: int = 0) -> None:
        """From now on treat the link's traffic like this."""
        if mode == "refuse" or self._mode == "mute":
            for connection in list(self._connections):
                connection.reset()
        self._mode, self._milliseconds = mode, milliseconds
        self._changed.set()
        self._changed = asyncio.Event()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "refuse":
            _reset(writer)
            return
        try:
            onward = await asyncio.open_connection(LOOPBACK, self.ports.target)
        except OSError:
            _reset(writer)
            return
        connection = _Connection(self, (reader, writer), onward)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def carry(self, data: bytes, to: asyncio.StreamWriter, *, is_answer: bool) -> None:
        """Pass a piece on as the mode demands. Raises ConnectionResetError when it tears the connection."""
        while self._mode == "stall" or (self._mode == "mute" and is_answer):
            await self._changed.wait()
        if self._mode == "delay":
            await asyncio.sleep(self._milliseconds / 1000)
        if self._mode == "tear" and random.random() < TEAR_CHANCE:
            to.write(data[: random.randrange(len(data))])
            await to.drain()
            raise ConnectionResetError
        if self._mode == "trickle":
            step = max(1, len(data) // MAX_CRUMBS)
            for start in range(0, len(data), step):
                to.write(data[start : start + step])
                await to.drain()
                await asyncio.sleep(self._milliseconds / 1000)
            return
        to.write(data)
        await to.drain()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    def __init__(self, link: Link, client: Stream, target: Stream) -> None:
        self._link, self._client, self._target = link, client, target

    async def run(self) -> None:
        pumps = [
            asyncio.create_task(self._pump(self._client[0], self._target[1], is_answer=False)),
            asyncio.create_task(self._pump(self._target[0], self._client[1], is_answer=True)),
        ]
        # Either side's end ends both: no protocol here uses half a connection.
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        failed = [e for e in await asyncio.gather(*pumps, return_exceptions=True) if isinstance(e, OSError)]
        for _, writer in (self._client, self._target):
            if failed:
                _reset(writer)
            else:
                writer.close()

    def reset(self) -> None:
        for _, writer in (self._client, self._target):
            _reset(writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        while data := await reader.read(PIECE_BYTES):
            await self._link.carry(data, writer, is_answer=is_answer)


def _reset(writer: asyncio.StreamWriter) -> None:
    # Linger zero: the peer sees a reset, not an orderly end, and nothing that is buffered goes out.
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def set_mode(control_port: int, link: str, mode: Mode, milliseconds: int = 0) -> None:
    """Set a link of a running fault proxy; returns once it is set. Raises OSError, ValueError."""
    async with asyncio.timeout(CONTROL_TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(LOOPBACK, control_port)
        writer.write(json.dumps({"link": link, "mode": mode, "milliseconds": milliseconds}).encode() + b"\n")
        answer = (await reader.readline()).decode().strip()
        writer.close()
    if answer != "ok":
        raise ValueError(f"the fault proxy says {answer!r}")


async def serve(control_port: int, ports: list[LinkPorts]) -> None:
    """Serve every link, and the control port, until cancelled."""
    links = {one.name: Link(one) for one in ports}

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            asked = json.loads(line)
            if asked["link"] in links and asked["mode"] in get_args(Mode):
                links[asked["link"]].set(asked["mode"], asked["milliseconds"])
                writer.write(b"ok\n")
            else:
                writer.write(b"no such link or mode\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(control, LOOPBACK, control_port)
    async with server, asyncio.TaskGroup() as serving:
        for link in links.values():
            serving.create_task(link.serve())


@click.command()
@click.option("--control", type=int, required=True, help="Port that takes the modes.")
@click.option("--link", "links", multiple=True, help="name:listening port:target port")
def main(control: int, links: tuple[str, ...]) -> None:
    """Serve until killed."""
    try:
        asyncio.run(serve(control, [LinkPorts.read(link) for link in links]))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
