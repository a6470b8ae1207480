"""A TCP proxy in front of Redis that makes it slow, lossy or gone, at will."""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_CHUNK = 65536


@dataclass(frozen=True)
class Fault:
    """What happens to answers."""

    delay_s: float = 0.0
    """Each comes so much later; those behind it are not delayed further."""
    loss: float = 0.0
    """Share of answers that never come; the connection is dead from then on, half of the times without saying so."""
    gone: bool = False
    """No connection is taken, and those there were are cut."""


class FaultProxy:
    """Forwards to a port of this machine, in a thread of its own."""

    def __init__(self, target_port: int, seed: int = 0) -> None:
        self.port = 0
        self._target_port = target_port
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._fault = Fault()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def set(self, fault: Fault) -> None:
        """Let this happen from now on."""
        asyncio.run_coroutine_threadsafe(self._set(fault), self._loop).result()

    def close(self) -> None:
        self.set(Fault(gone=True))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _set(self, fault: Fault) -> None:
        self._fault = fault
        if fault.gone:
            for writer in self._writers:
                writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault.gone:
            writer.transport.abort()
            return
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._target_port)
        both = {writer, there}
        self._writers |= both
        try:
            await asyncio.gather(self._ask(reader, there), self._answer(there_reader, writer))
        except OSError:
            pass  # one side has ended; so does the other
        finally:
            self._writers -= both
            for one in both:
                one.close()

    async def _ask(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            there.write(chunk)
            await there.drain()
        there.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dead = False
        while chunk := await reader.read(_CHUNK):
            if dead:
                continue
            if self._fault.loss and self._chance.random() < self._fault.loss:
                if self._chance.random() < 0.5:
                    writer.transport.abort()
                    return
                dead = True
            elif self._fault.delay_s:
                self._loop.call_later(self._fault.delay_s, writer.write, chunk)
            else:
                writer.write(chunk)
        writer.close()


@contextmanager
def fault_proxy(target_port: int) -> Iterator[FaultProxy]:
    """Run a proxy for as long as the block."""
    proxy = FaultProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()
