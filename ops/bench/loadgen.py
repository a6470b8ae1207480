"""A load generator in a process of its own: closed-loop clients that each send their next request after an answer.

`python -m ops.bench.loadgen` reads a `Load` as JSON from stdin and writes a `Result` as JSON to stdout. It reports the
CPU it used: where that comes near one core, the generator is the limit and not the server.
"""

import asyncio
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import msgspec

from ops.http_client import Client, ConnectionFailedError

_GRACE_S = 60.0


class LoadError(Exception):
    """The generator could not do its work."""


class Load(msgspec.Struct):
    """What to send."""

    base_url: str
    paths: list[str]
    """Asked for in turn, over and over."""
    n_clients: int
    seconds: float
    warm_up_s: float = 1.0
    kinds: dict[str, str] = {}
    """Kind of answer -> what only the bodies of such contain."""


class Result(msgspec.Struct):
    """What came back in the measured time."""

    n_requests: int
    n_errors: int
    """Answers that are not 200, and connections that failed."""
    seconds: float
    latencies_s: list[float]
    cpu_share: float
    """CPU seconds of the generator per second, 1 being a whole core."""
    of_kind_s: dict[str, list[float]] = {}
    """Kind of answer -> the latencies of such, seconds."""

    @property
    def per_second(self) -> float:
        return self.n_requests / self.seconds


def generate(load: Load) -> Result:
    """Run the load in a process of its own. Raise `LoadError`."""
    # Not a pipe: of two megabytes its reader twice got a part only, and the writer no error.
    with tempfile.TemporaryFile() as found:
        try:
            subprocess.run(
                [sys.executable, "-m", "ops.bench.loadgen"],
                input=msgspec.json.encode(load),
                stdout=found,
                stderr=subprocess.PIPE,
                timeout=load.seconds + load.warm_up_s + _GRACE_S,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise LoadError(error.stderr.decode(errors="replace").strip().splitlines()[-1]) from error
        found.seek(0)
        return msgspec.json.decode(found.read(), type=Result)


async def run(load: Load) -> Result:
    """Warm up, then measure. Raise `ConnectionFailedError` if the server cannot be reached at all."""
    paths = itertools.cycle(load.paths)
    begin = time.perf_counter() + load.warm_up_s
    end = begin + load.seconds
    latencies: list[float] = []
    of_kind: dict[str, list[float]] = {kind: [] for kind in load.kinds}
    cpu: list[float] = []
    async with Client(load.base_url) as probe:
        await probe.get(load.paths[0])

    async def note_cpu() -> None:
        await asyncio.sleep(max(0.0, begin - time.perf_counter()))
        cpu.append(time.process_time())

    noting = asyncio.create_task(note_cpu())
    asking = (_ask(load, paths, begin, end, latencies, of_kind) for _ in range(load.n_clients))
    n_errors = sum(await asyncio.gather(*asking))
    seconds = time.perf_counter() - begin
    await noting
    cpu_share = (time.process_time() - cpu[0]) / seconds
    return Result(len(latencies), n_errors, seconds, latencies, cpu_share, of_kind)


async def _ask(
    load: Load,
    paths: Iterator[str],
    begin: float,
    end: float,
    latencies: list[float],
    of_kind: dict[str, list[float]],
) -> int:
    """Ask until `end`; add the latencies of what began after `begin`, return how many failed."""
    n_errors = 0
    kinds = {kind: text.encode() for kind, text in load.kinds.items()}
    async with Client(load.base_url) as client:
        while (started := time.perf_counter()) < end:
            try:
                answer = await client.get(next(paths))
            except (ConnectionFailedError, TimeoutError):
                n_errors += 1
                continue
            if started >= begin:
                latencies.append(time.perf_counter() - started)
                n_errors += answer.status != 200
                for kind, text in kinds.items():
                    if text in answer.body:
                        of_kind[kind].append(latencies[-1])
    return n_errors


def main() -> None:
    """Read what to do from stdin, do it, write what was found to stdout."""
    import uvloop

    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(load))))


if __name__ == "__main__":
    main()
