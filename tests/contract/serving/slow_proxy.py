"""A TCP proxy whose answers can be made late."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_CHUNK = 65536


class SlowProxy:
    """Forwards at once what is asked, and after `delay_s` what is answered."""

    def __init__(self, target_port: int) -> None:
        self.delay_s = 0.0
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._never = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._never.set()
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        while not self._never.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(("127.0.0.1", self._target_port))
            self._sockets += [client, server]
            threading.Thread(target=self._forward, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, True), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, delayed: bool) -> None:
        try:
            while chunk := source.recv(_CHUNK):
                if delayed and self.delay_s:
                    self._never.wait(self.delay_s)
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # either side has closed
            source.close()
            sink.close()


@contextmanager
def slow_proxy(target_port: int) -> Iterator[SlowProxy]:
    """Run a proxy for as long as the block."""
    proxy = SlowProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()
