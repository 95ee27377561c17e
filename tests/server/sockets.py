"""Servers and clients for tests: real sockets on a free port, real threads, no sleeping."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from typing import TYPE_CHECKING, Any, ParamSpec

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from server.app import Server
from server.turns import new_loop
from tests.server.tones import recognizer, sing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from numpy.typing import NDArray

    from asr.recognizer import Recognizer
    from asr.transcript import Final
    from server.admission import Access
    from server.limits import Limits

PATIENCE = 60  # seconds: far beyond what any test needs, on any machine
P = ParamSpec("P")


def within(
    seconds: float,
) -> Callable[[Callable[P, Awaitable[None]]], Callable[P, None]]:
    """Run an asynchronous test, and never for longer than that."""

    def decorate(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
        @functools.wraps(test)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            async def bounded() -> None:
                async with asyncio.timeout(seconds):
                    await test(*args, **kwargs)

            with asyncio.Runner(loop_factory=new_loop) as runner:  # as `asr serve` does
                runner.run(bounded())

        return run

    return decorate


def in_a_loop(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an asynchronous test, and never for ever."""
    return within(PATIENCE)(test)


@contextlib.asynccontextmanager
async def serving(
    listens: Recognizer | None = None,
    limits: Limits | None = None,
    access: Access | None = None,
    **options: Any,
) -> AsyncIterator[Service]:
    """A running server."""
    server = Server(listens or recognizer(), limits, access, **options)
    host, port = await server.start("127.0.0.1", 0)
    try:
        yield Service(server, f"ws://{host}:{port}/v1/stream", port)
    finally:
        await server.stop()


class Service:
    """A server with its address."""

    def __init__(self, server: Server, url: str, port: int) -> None:
        self.server = server
        self.url = url
        self.port = port

    def connect(self, **options: Any) -> connect:
        """A websocket, for `async with`."""
        return connect(self.url, compression=None, **options)

    @contextlib.asynccontextmanager
    async def session(self, rate: int = 16000, **options: Any) -> AsyncIterator[Peer]:
        """A session that has been opened, in f32le."""
        async with self.connect() as connection:
            peer = Peer(connection)
            await peer.start(rate, **options)
            yield peer

    async def recognise(self, song: str, chunk: int = 1280) -> list[dict[str, Any]]:
        """What a well-behaved client hears: the finals' fields."""
        async with self.session() as peer:
            await peer.sing(song, chunk)
            await peer.tell("finish")
            heard = await peer.hear_all()
            assert peer.close_code == 1000
            assert heard[-1]["type"] == "done"
            assert heard[-1]["position"] == len(sing(song))
            return [message for message in heard if message["type"] == "final"]


class Peer:
    """A client that can do everything wrong."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    @property
    def close_code(self) -> int | None:
        """How the server closed."""
        return self.connection.close_code

    async def start(self, rate: int = 16000, encoding: str = "f32le", **options: Any) -> None:
        """Open the session."""
        audio_format = {"encoding": encoding, "sample_rate": rate, "channels": 1}
        await self.tell("start", version=1, format=audio_format, options=options)
        assert (await self.hear())["type"] == "ready"

    async def tell(self, kind: str, **fields: Any) -> None:
        """Send a text message."""
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def say(self, samples: NDArray[Any]) -> None:
        """Send samples as they are."""
        await self.connection.send(samples.tobytes())

    async def sing(self, song: str, chunk: int = 1280) -> None:
        """Send a song in messages."""
        samples = sing(song)
        for first in range(0, len(samples), chunk):
            await self.say(samples[first : first + chunk])

    async def hear(self) -> dict[str, Any]:
        """The next message."""
        message: dict[str, Any] = json.loads(await self.connection.recv())
        return message

    async def hear_until(self, kind: str) -> dict[str, Any]:
        """The next message of that type; those before are passed over."""
        while (message := await self.hear())["type"] != kind:
            pass
        return message

    async def hear_all(self) -> list[dict[str, Any]]:
        """All messages up to the close."""
        heard = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                heard.append(await self.hear())
        return heard


async def http_get(
    port: int, path: str, *headers: str, method: str = "GET", host: str = ""
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of a plain GET, or of another method; as if for another host."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    if answer.split()[1] != "101":
        answer += (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    status, *rest = head.split("\r\n")
    named = dict(line.lower().split(": ", 1) for line in rest)
    return int(status.split()[1]), named, body


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so inside the server, which has no event to wait on for it."""
    while not condition():  # noqa: ASYNC110 - every test is bounded
        await asyncio.sleep(0.002)


def fields_of(finals: tuple[Final, ...]) -> list[tuple[Any, ...]]:
    """What must be equal between a socket and a recogniser at hand."""
    return [
        (f.segment, f.text, f.reason, f.position, [(w.text, w.start, w.end) for w in f.words])
        for f in finals
    ]


def fields_heard(messages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The same of messages."""
    return [
        (
            m["segment"],
            m["text"],
            m["reason"],
            m["position"],
            [(w["word"], w["start"], w["end"]) for w in m["words"]],
        )
        for m in messages
        if m["type"] == "final"
    ]
