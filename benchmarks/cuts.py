"""A wire between a client and a server that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PIECE: Final = 65_536


class Wire:
    """Listens on a port of its own and passes on what comes, both ways, until it is cut.

    Args:
        port: of the server, on this machine.

    Attributes:
        url: for the client.
        cuts: moments on the event loop's clock at which there was something to cut.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self.url = ""
        self.cuts: list[float] = []

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._listener is not None  # noqa: S101 - entered before
        self._listener.close()
        self._abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        """Break what is connected now, without a word to either side. What is under way is lost."""
        if self._writers:
            self.cuts.append(asyncio.get_running_loop().time())
            self._abort()

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, there[1]}
        self._writers |= both
        for source, sink in ((reader, there[1]), (there[0], writer)):
            pump = asyncio.create_task(_pump(source, sink, lambda: self._forget(both)))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    def _forget(self, both: set[asyncio.StreamWriter]) -> None:
        self._writers -= both


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, ended: Callable[[], None]
) -> None:
    """Pass on bytes until one side ends, then end the other."""
    with contextlib.suppress(OSError):
        while data := await source.read(PIECE):
            sink.write(data)
            await sink.drain()
    ended()
    sink.close()
