"""A plain TCP connection in the place of a websocket, for protocols that frame messages themselves.

A message is whatever bytes have come; there are no close codes and no pings on the wire. Whether
the peer is still there, the system finds out (TCP keep-alive).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

if TYPE_CHECKING:
    from asyncio.transports import Transport
    from collections.abc import Awaitable

    from server.dialogue import Message

READ_BYTES: Final = 2**16  # taken in at a time; the stream reader holds twice as much at most
NORMAL: Final = 1000
ABNORMAL: Final = 1006
# The system asks after so many seconds of silence, then so often, so many times.
KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class TcpConnection:
    """What a session needs of a connection, over the streams of asyncio.

    Attributes:
        transport: of the connection.
        close_code: how it ended, in the words of websockets: 1000 by an orderly end of either side,
            1006 by an error; None while it stands.
        remote_address: of the client, host first.
        address: of the client, for counting its sessions.
        holder: the name of a key; there are none here.
    """

    address: str = ""
    holder: str | None = None

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        transport: Transport = writer.transport  # type: ignore[assignment] # of a connection
        self.transport = transport
        self.close_code: int | None = None
        self.remote_address = writer.get_extra_info("peername") or ("",)
        keep_alive(writer.get_extra_info("socket"))

    async def recv(self) -> bytes:
        """The bytes that come next, at least one.

        Raises:
            ConnectionClosed: there are no more.
        """
        try:
            data = await self._reader.read(READ_BYTES)
        except OSError as error:
            self.close_code = ABNORMAL
            raise ConnectionClosedError(None, None) from error
        if not data:
            self.close_code = self.close_code or NORMAL
            raise ConnectionClosedOK(None, None)
        return data

    async def send(self, message: Message) -> None:
        """Send bytes, and wait while the peer has too much unread.

        Raises:
            ConnectionClosed: the peer is gone.
        """
        data = message.encode() if isinstance(message, str) else message
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            self.close_code = ABNORMAL
            raise ConnectionClosedError(None, None) from error

    async def ping(self) -> Awaitable[object]:
        """The peer counts as there until the system says otherwise."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answered.set_result(None)
        return answered

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Send what waits, then end the connection. The code and its reason are for websockets."""
        del code, reason
        self.close_code = self.close_code or NORMAL
        with contextlib.suppress(OSError):
            self._writer.close()
            await self._writer.wait_closed()


def keep_alive(connected: socket.socket | None) -> None:
    """Let the system ask a silent peer whether it is there."""
    if connected is None:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        option = getattr(socket, name, None)  # not everywhere
        if option is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
