"""The proxy that bench faults puts before Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ops.bench.fault_proxy import Fault, FaultProxy


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that answers each line with itself."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_it_forwards_loses_and_cuts(echo: int) -> None:
    proxy = await asyncio.to_thread(FaultProxy, echo)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"one\n")
        assert await reader.readline() == b"one\n"
        await asyncio.to_thread(proxy.set, Fault(delay_s=0.05))
        writer.write(b"two\n")
        assert await reader.readline() == b"two\n"
        await asyncio.to_thread(proxy.set, Fault(gone=True))
        assert await _ended(reader)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await _ended(reader)
        await asyncio.to_thread(proxy.set, Fault(loss=1.0))
        silent = 0
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"lost\n")
            try:
                async with asyncio.timeout(0.1):
                    assert await _ended(reader)
            except TimeoutError:
                silent += 1
            writer.close()
        assert 0 < silent < 20  # some connections say that they are dead, and some do not
    finally:
        await asyncio.to_thread(proxy.close)


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.readline() == b""
    except ConnectionResetError:
        return True
