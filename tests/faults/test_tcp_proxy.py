"""Each mode of a link does what it says to the bytes that pass."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from spendmeter_local.ports import LOOPBACK, free_port
from tests.faults.tcp_proxy import LinkPorts, Mode, serve, set_mode
from tests.patience import WITHIN_SECONDS

QUIET_SECONDS = 0.3


class Echo:
    """A client whose server, behind the link, answers what it is sent."""

    def __init__(self, control: int, port: int, seen: list[bytes]) -> None:
        self._control, self._port = control, port
        self.seen = seen
        """What reached the server."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(LOOPBACK, self._port)

    async def set(self, mode: Mode, milliseconds: int = 0) -> None:
        await set_mode(self._control, "link", mode, milliseconds)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                seen.append(data)
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    control, listen = free_port(), free_port()
    async with _server(answer) as target:
        serving = asyncio.create_task(serve(control, [LinkPorts("link", listen, target)]))
        found = Echo(control, listen, seen)
        await _until_set(found)
        yield found
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_an_open_link_passes_everything(echo: Echo) -> None:
    reader, writer = await echo.connect()
    writer.write(b"a" * 300_000)
    assert await _soon(reader.readexactly(300_000)) == b"a" * 300_000
    writer.close()


async def test_a_refusing_link_resets_what_is_open_and_what_comes(echo: Echo) -> None:
    reader, writer = await echo.connect()
    writer.write(b"a")
    await _soon(reader.readexactly(1))

    await echo.set("refuse")
    assert await _ends(reader)
    again, _ = await echo.connect()
    assert await _ends(again)

    await echo.set("open")
    reader, writer = await echo.connect()
    writer.write(b"a")
    assert await _soon(reader.readexactly(1)) == b"a"
    writer.close()


async def test_a_stalled_link_holds_everything_and_then_passes_it(echo: Echo) -> None:
    reader, writer = await echo.connect()
    await echo.set("stall")
    writer.write(b"abc")
    assert await _is_quiet(reader)
    assert echo.seen == []

    await echo.set("open")
    assert await _soon(reader.readexactly(3)) == b"abc"
    writer.close()


async def test_a_mute_link_passes_requests_and_loses_the_answers(echo: Echo) -> None:
    reader, writer = await echo.connect()
    await echo.set("mute")
    writer.write(b"abc")
    await _until_seen(echo, b"abc")
    assert await _is_quiet(reader)

    await echo.set("open")
    assert await _ends(reader)
    writer.close()


async def test_a_delaying_link_is_late_and_loses_nothing(echo: Echo) -> None:
    reader, writer = await echo.connect()
    await echo.set("delay", 150)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    writer.write(b"abc")
    assert await _soon(reader.readexactly(3)) == b"abc"
    assert loop.time() - begun >= 0.3, "once on the way there and once on the way back"
    writer.close()


async def test_a_trickling_link_passes_small_pieces(echo: Echo) -> None:
    reader, writer = await echo.connect()
    await echo.set("trickle", 1)
    writer.write(b"x" * 200)
    assert await _soon(reader.readexactly(200)) == b"x" * 200
    assert len(echo.seen) > 1
    writer.close()


async def test_a_tearing_link_passes_a_part_and_resets(echo: Echo) -> None:
    await echo.set("tear")
    torn = 0
    for _ in range(100):
        reader, writer = await echo.connect()
        writer.write(b"x" * 1000)
        received = b""
        try:
            received = await _soon(reader.readexactly(1000))
        except (asyncio.IncompleteReadError, ConnectionError):
            torn += 1
        writer.close()
        assert received in (b"", b"x" * 1000)
    assert torn > 0
    assert any(len(data) < 1000 for data in echo.seen)


@asynccontextmanager
async def _server(answer: object) -> AsyncIterator[int]:
    server = await asyncio.start_server(answer, LOOPBACK, 0)  # type: ignore[arg-type]
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _until_set(echo: Echo) -> None:
    deadline = asyncio.get_running_loop().time() + WITHIN_SECONDS
    while True:
        try:
            return await echo.set("open")
        except OSError:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)


async def _until_seen(echo: Echo, data: bytes) -> None:
    deadline = asyncio.get_running_loop().time() + WITHIN_SECONDS
    while b"".join(echo.seen) != data:
        assert asyncio.get_running_loop().time() < deadline, echo.seen
        await asyncio.sleep(0.02)


async def _soon(reading: "asyncio.Future[bytes] | object") -> bytes:
    return await asyncio.wait_for(reading, WITHIN_SECONDS)  # type: ignore[arg-type]


async def _ends(reader: asyncio.StreamReader) -> bool:
    try:
        return await _soon(reader.read(1)) == b""
    except ConnectionError:
        return True


async def _is_quiet(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), QUIET_SECONDS)
    except TimeoutError:
        return True
    return False
