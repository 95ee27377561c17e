"""Clients that do to a server what no client should; each tells what the server did wrong in turn.

All of them come from other addresses of this machine than the well-behaved one (127.0.0.2 and on;
Linux). An empty answer is a good one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Final

from benchmarks import framing, fuzz
from benchmarks.raw import BINARY, TEXT, RawClient, close, frame, request, text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

GONE_SECONDS: Final = 70.0  # within which the server must have got rid of whoever is not there
SESSION_SECONDS: Final = 60.0
STATUSES: Final = frozenset({101, 400, 404, 429, 503})  # of an answer to a strange request
# Of the end of a strange session. None: our own noise was not read to its end, and the close lost.
CODES: Final = frozenset({None, 1000, 1002, 1003, 1007, 1008, 1009, 1013})
SLICE: Final = 1280  # bytes of audio in a message of a one-byte sender
# Of slow readers: pings a second of all of them, and seconds in which they must be cut off. The
# system takes 3 MB of answers for each before anything waits.
ASKED: Final = 5000
SLOW_SECONDS: Final = 300.0
EVERY: Final = 0.1  # seconds from some pings to the next

Wrong = list[str]


def sources() -> Iterator[str]:
    """Addresses to come from."""
    return itertools.cycle(f"127.0.0.{number}" for number in range(2, 250))


# Nonsense


class Fuzzer:
    """Sends sessions of `benchmarks.fuzz`, so many at a time.

    Args:
        port: of the websockets.
        wyoming_port: of the plain connections, or None for none.
        seed: of the sessions.

    Attributes:
        messages: sent so far.
        sessions: held so far.
        wrong: what the server did wrong, with the number of the session.
    """

    def __init__(self, port: int, wyoming_port: int | None, seed: int) -> None:
        self._port = port
        self._wyoming_port = wyoming_port
        self._seed = seed
        names = tuple(fuzz.PROTOCOLS)
        self._protocols = tuple(n for n in names if wyoming_port is not None or n != "wyoming")
        self._numbers = itertools.count()
        self._sources = sources()
        self.messages = 0
        self.sessions = 0
        self.wrong: Wrong = []

    async def run(self, messages: int, per_second: float, together: int = 16) -> Wrong:
        """Send at least so many messages, not faster than so many a second."""
        begin = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for _ in range(together):
                group.create_task(self._some(messages, begin, per_second))
        return self.wrong

    async def _some(self, messages: int, begin: float, per_second: float) -> None:
        now = asyncio.get_running_loop().time
        while self.messages < messages:
            if (early := begin + self.messages / per_second - now()) > 0:
                await asyncio.sleep(early)
            number = next(self._numbers)
            session = fuzz.session(self._seed, number, self._protocols)
            self.messages += len(session.messages)
            self.sessions += 1
            try:
                async with asyncio.timeout(SESSION_SECONDS):
                    why = await self._one(session)
            except TimeoutError:
                why = "it took too long"
            except OSError as error:
                why = f"no connection ({error})"
            if why:
                self.wrong.append(f"{session.protocol}, session {number}: {why}")

    async def _one(self, session: fuzz.Session) -> str:
        plain = session.protocol == "wyoming"
        port = self._wyoming_port if plain and self._wyoming_port else self._port
        async with RawClient(port, next(self._sources)) as client:
            if plain:
                return await _plain(client, session.messages)
            status = await client.upgrade(session.path, *session.headers)
            if status != 101:
                return "" if status in STATUSES else f"HTTP {status}"
            await client.send(*map(_framed, session.messages), close())
            await client.hear_all()
            if client.close_code not in CODES or any(b'"internal"' in m for m in client.messages):
                return f"closed with {client.close_code}, {client.messages[-1:]!r:.200}"
            return ""


async def _plain(client: RawClient, messages: Sequence[fuzz.Message]) -> str:
    await client.send(*(m if isinstance(m, bytes) else m.encode() for m in messages))
    with contextlib.suppress(OSError):
        client.writer.write_eof()
    said = b""
    with contextlib.suppress(OSError):
        said = await client.reader.read()
    return f"{said[-200:]!r}" if b'"internal"' in said else ""


def _framed(message: fuzz.Message) -> bytes:
    if isinstance(message, bytes):
        return frame(BINARY, message)
    return frame(TEXT, message.encode("utf-8", "surrogatepass"))


# Rudeness


async def framed_wrongly(port: int) -> Wrong:
    """All cases of `benchmarks.framing`."""
    return [f"{name}: {why}" for name, why in (await framing.failures(port)).items()]


async def oversized(port: int, count: int) -> Wrong:
    """Messages that are too long, many at a time."""
    return await _together(port, framing.limits(), count)


async def bombs(port: int, count: int) -> Wrong:
    """What would be gigabytes, if it were unpacked."""
    return await _together(port, framing.compressed(), count)


async def _together(port: int, cases: Sequence[framing.Case], count: int) -> Wrong:
    chosen = list(itertools.islice(itertools.cycle(cases), count))
    found = await asyncio.gather(*(case.run(port) for case in chosen))
    return [f"{case.name}: {why}" for case, why in zip(chosen, found, strict=True) if why]


async def slow_readers(port: int, count: int) -> Wrong:
    """Clients that ask again and again and never listen: they must be cut off."""
    asked = text({"type": "ping", "id": "x" * 128}) * round(ASKED * EVERY / count)

    async def one(source: str) -> None:
        async with RawClient(port, source, receive_bytes=4096) as client:
            await client.begin()
            client.listen_no_more()
            with contextlib.suppress(OSError):
                while True:
                    client.writer.write(asked)
                    await client.writer.drain()
                    await asyncio.sleep(EVERY)

    return await _all_gone("slow reader", [one] * count, SLOW_SECONDS)


async def half_open(port: int, count: int) -> Wrong:
    """Clients that are not there any more, at each stage: all must be let go of."""

    async def silent(source: str) -> None:
        async with RawClient(port, source) as client:
            await client.reader.read()

    async def half_a_request(source: str) -> None:
        async with RawClient(port, source) as client:
            await client.send(request()[:40])
            await client.reader.read()

    async def no_start(source: str) -> None:
        async with RawClient(port, source) as client:
            await client.upgrade()
            await client.reader.read()

    async def no_pong(source: str) -> None:
        async with RawClient(port, source) as client:
            await client.begin()
            await client.reader.read()

    return await _all_gone("half-open", [silent, half_a_request, no_start, no_pong] * count)


async def _all_gone(
    what: str, clients: Sequence[Callable[[str], Awaitable[None]]], seconds: float = GONE_SECONDS
) -> Wrong:
    """Run clients that end when the server ends them."""

    async def one(client: Callable[[str], Awaitable[None]], source: str) -> str:
        try:
            async with asyncio.timeout(seconds):
                await client(source)
        except TimeoutError:
            return f"{what} {client.__name__}: still there after {seconds:g} s"
        except OSError:  # cut off, as it should be
            return ""
        return ""

    found = await asyncio.gather(*(one(*pair) for pair in zip(clients, sources(), strict=False)))
    return [why for why in found if why]


async def one_byte_senders(port: int, count: int, audio: bytes) -> Wrong:
    """Sessions in packets of a byte: slow, not wrong. All hear what is heard in one piece."""
    said = [frame(BINARY, audio[at : at + SLICE]) for at in range(0, len(audio), SLICE)]
    data = b"".join([*said, text({"type": "finish"})])

    async def heard(source: str, size: int) -> list[str]:
        async with RawClient(port, source) as client:
            await client.begin()
            await client.trickle(data, size)
            await client.hear_all()
            messages = [json.loads(message) for message in client.messages]
            return [m["text"] for m in messages if m["type"] == "final"]

    whole = await heard("127.0.0.2", len(data))
    sent = zip(sources(), range(count), strict=False)
    cut = await asyncio.gather(*(heard(source, 1) for source, _ in sent))
    wrong = [found for found in cut if found != whole]
    return [f"one-byte sender: heard {found}, not {whole}" for found in wrong]


async def connects(port: int, per_second: float, seconds: float) -> tuple[Wrong, float]:
    """So many connections a second, which ask something, nothing, or nonsense, and leave.

    Returns:
        What went wrong, and how many there were a second.
    """
    asked = itertools.cycle((request(), b"", b"GET / HTTP/1.1\r\n\r\n", b"\0\xff nonsense\r\n\r\n"))
    now = asyncio.get_running_loop().time
    begin, made, wrong = now(), 0, []
    async with asyncio.TaskGroup() as group:

        async def one(source: str, data: bytes) -> None:
            try:
                async with asyncio.timeout(SESSION_SECONDS), RawClient(port, source) as client:
                    await client.send(data)
                    if data:
                        await client.answer()
            except (OSError, TimeoutError) as error:
                wrong.append(f"connect: {type(error).__name__}")

        for source in sources():
            elapsed = now() - begin
            if elapsed >= seconds:
                break
            if made > elapsed * per_second:
                await asyncio.sleep(made / per_second - elapsed)
            group.create_task(one(source, next(asked)))
            made += 1
    return wrong, made / (now() - begin)
