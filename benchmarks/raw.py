"""A websocket client made by hand, frame by frame, so that everything in it can be wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HOST: Final = "127.0.0.1"
MASK: Final = b"\x37\xfa\x21\x3d"  # the example of RFC 6455, section 5.7
START: Final = json.dumps(
    {"type": "start", "version": 1, "format": {"encoding": "s16le", "sample_rate": 16000}}
).encode()


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    told: tuple[int, int] | None = None,
) -> bytes:
    """A frame as a client sends it, right or wrong; RFC 6455, section 5.2.

    Args:
        opcode: 0 to 15.
        payload: what is in it.
        fin: whether it is the last of its message.
        rsv: the three reserved bits, 0 to 7.
        mask: 4 bytes; None leaves the payload plain, which no client may.
        told: the length that the header tells, and in how many bytes (2 or 8) it does so; by
            default the payload's own, in as few as there can be.
    """
    size = len(payload)
    length, width = told or (size, 0 if size < 126 else 2 if size < 65_536 else 8)
    short = {0: length, 2: 126, 8: 127}[width]
    head = bytes([fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short])
    head += length.to_bytes(width, "big") if width else b""
    return head + (mask + masked(payload, mask) if mask is not None else payload)


def masked(payload: bytes, mask: bytes) -> bytes:
    """The payload with every byte but those of a zero mask turned; twice is as before."""
    if not payload or mask == bytes(4):
        return payload
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def text(value: Any, **options: Any) -> bytes:
    """A frame with an object in JSON."""
    return frame(TEXT, json.dumps(value, ensure_ascii=False).encode(), **options)


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """A close frame; without a code there is nothing in it."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def request(path: str = "/v1/stream", *headers: str, port: int = 0) -> bytes:
    """The request for an upgrade, with more headers."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {HOST}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class RawClient:
    """A connection to a server on this machine, for `async with`.

    Args:
        port: of the server.
        source: address of ours to connect from, such as `127.0.0.2`.
        receive_bytes: what the system may hold of what comes; None leaves that to it.

    Attributes:
        reader: what comes.
        writer: where things go.
        status: of the answer to the request, 0 before.
        pongs: payloads of the pongs that came.
        messages: text messages that came, in order.
        close_code: of the close frame that came: 1005 for an empty one, None before.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self, port: int, source: str = HOST, receive_bytes: int | None = None) -> None:
        self._port = port
        self._source = source
        self._receive_bytes = receive_bytes
        self.status = 0
        self.pongs: list[bytes] = []
        self.messages: list[bytes] = []
        self.close_code: int | None = None

    async def __aenter__(self) -> Self:
        wire = socket.socket()
        wire.setblocking(False)  # noqa: FBT003 - the only way to say it
        try:
            if self._receive_bytes is not None:
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
            wire.bind((self._source, 0))
            await asyncio.get_running_loop().sock_connect(wire, (HOST, self._port))
        except BaseException:
            wire.close()
            raise
        self.reader, self.writer = await asyncio.open_connection(sock=wire, limit=2**22)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.transport.abort()

    async def send(self, *pieces: bytes) -> None:
        """Send bytes as they are. Where nobody takes them any more, that shows in what comes."""
        with contextlib.suppress(OSError):
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()

    async def trickle(self, data: bytes, size: int = 1) -> None:
        """Send bytes in little pieces, each in a packet of its own."""
        for at in range(0, len(data), size):
            await self.send(data[at : at + size])
            await asyncio.sleep(0)

    def listen_no_more(self) -> None:
        """Leave what comes in the system's buffers, and then on the wire."""
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP connection
        transport.pause_reading()

    async def upgrade(self, path: str = "/v1/stream", *headers: str) -> int:
        """Ask for a websocket; the status of the answer."""
        await self.send(request(path, *headers, port=self._port))
        return await self.answer()

    async def answer(self) -> int:
        """The status of the HTTP answer; 0 if there is none."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            self.status = int(head.split(b" ", 2)[1])
        except (OSError, EOFError, ValueError, IndexError):
            self.status = 0
        return self.status

    async def hear(self) -> int | None:
        """Take in a frame; its opcode, or None when no more come."""
        try:
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            payload = await self.reader.readexactly(size)
        except (OSError, EOFError):
            return None
        opcode = first & 0x0F
        if opcode == TEXT:
            self.messages.append(payload)
        elif opcode == PONG:
            self.pongs.append(payload)
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
        return opcode

    async def hear_until(self, wanted: bytes) -> bool:
        """Take in frames up to a text message with this in it; False when they end before."""
        seen = len(self.messages)
        while await self.hear() is not None:
            if any(wanted in message for message in self.messages[seen:]):
                return True
        return False

    async def hear_all(self) -> None:
        """Take in frames until no more come, and answer a close as one must."""
        while (opcode := await self.hear()) is not None:
            if opcode == CLOSE:
                await self.send(close(self.close_code if self.close_code != 1005 else None))

    async def begin(self) -> bool:
        """Upgrade and start a session in the native protocol; whether that worked."""
        if await self.upgrade() != 101:
            return False
        await self.send(frame(TEXT, START))
        return await self.hear_until(b'"ready"')
