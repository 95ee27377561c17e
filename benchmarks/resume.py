"""Sessions that are cut: recordings sent to real servers, whose sockets break and processes die.

At points drawn at random the socket breaks; at every tenth the server is killed (SIGKILL), by turns
one worker of it or all of it, and started again on the same port. Sessions wait in a real Redis
(`redis-server` must be there). Counted: words and times that differ from those of the recogniser at
hand, which nobody disturbs (target: none).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from asr import client
from asr.errors import DataError, Error
from asr.measure import SAMPLE_RATE, read_samples
from asr.transcript import Final
from benchmarks import differences, inputs, program
from benchmarks.figure import Figure, report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from asr.audio import Samples
    from asr.transcript import Word

CHUNK = 1280
CUTS = 3  # of a recording
SEED = 20


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if anything differs."""
    parser = inputs.parser("resume", str(__doc__))
    parser.add_argument("--points", type=int, default=100, help="cuts in all (default: 100)")
    args = parser.parse_args(arguments)
    if shutil.which("redis-server") is None:
        raise DataError("redis-server is not installed; apt install redis-server")
    recordings = [read_samples(utterance.path) for utterance in inputs.utterances(args)]
    recognizer = inputs.loader(args)()
    options = [f"--precision={args.precision}"]
    options += [f"--model={args.model}"] if args.model else []
    options += [f"--decoder={args.decoder}"] if args.decoder else []
    run = asyncio.run(_run(recordings, options, args.points))
    alone = [recognizer.transcribe(recordings[number]).words for number in run.recordings]
    found = differences.count(zip(alone, run.words, strict=True))
    details: dict[str, object] = {
        "data": inputs.data_name(args),
        "sockets": run.sockets,
        "workers": run.workers,
        "servers": run.servers,
        "sessions": len(run.words),
        "words": found.compared,
        "seconds_until_it_goes_on": round(statistics.median(run.seconds), 3),
        "model_id": recognizer.bundle_id[:12],
    }
    points = run.sockets + run.workers + run.servers
    figures = [
        Figure(
            f"resume.{name}",
            f"Differing {name}, sessions cut at {points} points against uncut, {args.precision}",
            value,
            name,
            points,
            (value, value),
            at_most=0,
            details=details,
        )
        for name, value in (("words", found.words), ("times", found.times))
    ]
    return report("resume", figures, arguments, args.results if args.record else None)


@dataclass(slots=True)
class Run:
    """What was said, and what was done to it.

    Attributes:
        recordings: number of the recording of each session.
        words: what was said in each.
        sockets: cuts of the socket alone.
        workers: kills of a worker.
        servers: kills of the whole server.
        seconds: from each cut until the session went on.
    """

    recordings: list[int] = field(default_factory=list)
    words: list[tuple[Word, ...]] = field(default_factory=list)
    sockets: int = 0
    workers: int = 0
    servers: int = 0
    seconds: list[float] = field(default_factory=list)


async def _run(recordings: list[Samples], options: list[str], points: int) -> Run:
    """Send recordings until so many cuts have been made."""
    chance = random.Random(SEED)  # noqa: S311 - the same in every run
    run = Run()
    async with (
        _redis() as store,
        _Server(store, options).running() as server,
        Wire(server).listening() as wire,
    ):
        for number in cycle(range(len(recordings))):
            if run.sockets + run.workers + run.servers >= points:
                break
            samples = recordings[number]
            places = sorted(chance.randrange(len(samples)) for _ in range(CUTS))
            await server.all_there()
            chunks = _cutting(samples, places, wire, server, run)
            heard = client.stream(wire.url, chunks, SAMPLE_RATE)
            finals = [event async for event in heard if isinstance(event, Final)]
            run.recordings.append(number)
            run.words.append(tuple(word for final in finals for word in final.words))
        run.seconds = wire.seconds
    return run


async def _cutting(
    samples: Samples, places: list[int], wire: Wire, server: _Server, run: Run
) -> AsyncIterator[Samples]:
    """A recording; when its places are sent, the wire or the server behind it breaks."""
    for first in range(0, len(samples), CHUNK):
        while places and places[0] < first + CHUNK:
            places.pop(0)
            kills = run.workers + run.servers
            if run.sockets < 9 * (kills + 1):
                run.sockets += 1
                wire.cut()
            elif kills % 2:
                run.servers += 1
                wire.broken()
                await server.restart()
            else:
                run.workers += 1
                wire.broken()
                server.kill_workers()
        yield samples[first : first + CHUNK]


class Wire:
    """What carries bytes between client and server, and can break.

    Attributes:
        url: its near end.
        seconds: from each cut to the first bytes of the server afterwards that are no handshake.
    """

    def __init__(self, server: _Server) -> None:
        self.url = ""
        self.seconds: list[float] = []
        self._server = server
        self._ends: set[asyncio.StreamWriter] = set()
        self._cut_at: float | None = None

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Wire]:
        """The wire, for a time."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        async with server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self
            self.cut()

    def cut(self) -> None:
        """Break all connections, without a word."""
        self.broken()
        for end in self._ends:
            end.transport.abort()

    def broken(self) -> None:
        """Something breaks: count the time from here."""
        self._cut_at = asyncio.get_running_loop().time()

    async def _connect(self, near: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        with contextlib.suppress(OSError):
            far, back = await asyncio.open_connection("127.0.0.1", self._server.port)
            self._ends.add(back)
            answers = asyncio.create_task(self._carry(far, writer, handshake=True))
            await self._carry(near, back)
            back.transport.abort()
            await answers
            self._ends.discard(back)
        writer.transport.abort()
        self._ends.discard(writer)

    async def _carry(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, handshake: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                to.write(data)
                await to.drain()
                if handshake:
                    handshake = False
                    self._connected()
        to.transport.abort()

    def _connected(self) -> None:
        if self._cut_at is not None:
            self.seconds.append(asyncio.get_running_loop().time() - self._cut_at)
            self._cut_at = None


class _Server:
    """`asr serve` with two workers, which can be killed and started again."""

    def __init__(self, store: str, options: list[str]) -> None:
        self.port = 0
        self._options = ["--workers=2", f"--store={store}", *options]
        self._environment = os.environ | {"ASR_RESUME_SECRET": secrets.token_hex(32)}
        self._process: asyncio.subprocess.Process | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[_Server]:
        """The server, for a time."""
        await self._start()
        try:
            yield self
        finally:
            await self._kill()

    async def restart(self) -> None:
        """Kill all of it, and start it again."""
        await self._kill()
        await self._start()

    def kill_workers(self) -> None:
        """Kill the workers; the supervisor starts others."""
        for worker in self._workers():
            os.kill(worker, signal.SIGKILL)

    async def all_there(self) -> None:
        """Wait until new sessions are taken, as often as it takes to have asked every worker."""
        ready = 0
        while ready < 8:
            await asyncio.sleep(0 if ready else 0.1)
            with contextlib.suppress(OSError, EOFError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await reader.readline()
                ready = ready + 1 if b" 200 " in answer else 0
                writer.close()

    async def _start(self) -> None:
        command = [sys.executable, "-m", "asr", "serve", f"--port={self.port}", *self._options]
        self._process = await asyncio.create_subprocess_exec(
            *command, env=self._environment, stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr is not None  # noqa: S101 - asked for
        said = b""
        async for line in self._process.stderr:
            said = line
            if b"listening on" in line:
                self.port = int(line.split(b"ws://")[1].split()[0].split(b":")[1].split(b"/")[0])
                self._drain = asyncio.create_task(self._process.stderr.read())
                return
        raise Error(f"the server did not start: {said.decode().strip()}")

    async def _kill(self) -> None:
        assert self._process is not None  # noqa: S101 - started before
        for process in (self._process.pid, *self._workers()):
            os.kill(process, signal.SIGKILL)
        await self._process.wait()
        await self._drain

    def _workers(self) -> list[int]:
        assert self._process is not None  # noqa: S101 - started before
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
        return [int(child) for child in children.split()]


@contextlib.asynccontextmanager
async def _redis() -> AsyncIterator[str]:
    """The address of a Redis, which is there for a time."""
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/redis.sock"
        command = ["redis-server", "--port", "0", "--unixsocket", socket, "--save", ""]
        process = await asyncio.create_subprocess_exec(
            *command, "--dir", folder, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None  # noqa: S101 - asked for
        try:
            async for line in process.stdout:
                if b"eady to accept connections" in line:
                    break
            yield f"unix://{socket}"
        finally:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    program.run(main)
