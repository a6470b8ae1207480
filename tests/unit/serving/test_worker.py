"""The transport under the server's protocol."""

import asyncio

from serving.worker import JoinedWrites


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append(b"closed")

    def is_closing(self) -> bool:
        return b"closed" in self.calls


async def test_what_is_written_in_one_turn_is_sent_at_once_and_in_order() -> None:
    wire = Wire()
    joined = JoinedWrites(wire, asyncio.get_running_loop())
    joined.write(b"head ")
    joined.write(b"body")
    await asyncio.sleep(0)
    assert wire.calls == [b"head body"]
    joined.write(b"next")
    joined.close()
    await asyncio.sleep(0)
    assert wire.calls == [b"head body", b"next", b"closed"]
    assert joined.is_closing()
