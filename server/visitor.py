"""A websocket connection of the server, from the moment when the system hands it over.

What comes and goes a dozen times a second takes the short way: whole pieces of audio are heard
where they arrive, and replies are written where they are made, without waking a task for either.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from typing import Protocol as Interface

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from server import turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.dialogue import Message, Protocol

CRUMB_BYTES: Final = 16  # below which a packet is a crumb
CRUMBS: Final = 8  # of them in a row, and the connection is served when others were
MESSAGES: Final = {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}  # whole ones, where `fin` is set


class Desk(Interface):
    """Who wants to know of connections."""

    def arrived(self, visitor: Visitor) -> None:
        """A connection was made, and has asked nothing yet."""
        ...

    def left(self, visitor: Visitor) -> None:
        """It is gone, however it went."""
        ...


class Visitor(ServerConnection):
    """A connection.

    Attributes:
        desk: whom it tells that it is there, and that it is gone.
        address: of the client, once its request has been let in; see `client_address`.
        protocol_spoken: the conversation on it, likewise.
        holder: the name of the key it brought, if keys are asked for.
        hear: is offered every binary message that nothing waits before; False leaves it to `recv`.
    """

    desk: Desk
    address: str | None = None
    protocol_spoken: Protocol | None = None
    holder: str | None = None
    hear: Callable[[bytes], bool] | None = None
    _unreceived = 0  # whole messages that wait for `recv`
    _users = 2  # the system's connection, and the task that serves it
    _crumbs = 0  # packets in a row that held next to nothing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands, but nothing has been asked yet."""
        super().connection_made(transport)
        self.desk.arrived(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, however it went."""
        super().connection_lost(exc)
        self.desk.left(self)
        self._released()

    async def handshake(self, *options: Any, **more: Any) -> None:
        """Answer the request: the first thing in the task that serves the connection."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the library runs this in one
        task.add_done_callback(lambda _: self._released())
        await super().handshake(*options, **more)

    def _released(self) -> None:
        """One of its users is done with it."""
        self._users -= 1
        if not self._users:
            self.loop.call_soon(self._fall_apart)

    def _fall_apart(self) -> None:
        """Nobody will ask for anything any more: let go of all parts, for they know each other.

        Else they would stay until Python looks for cycles among all objects, some 90 of them each
        time, and where hundreds come and go everybody would wait for that (`server/memory.py`).
        """
        vars(self.transport).pop("_read_ready_cb", None)  # asyncio's own knot
        vars(self.protocol).clear()
        vars(self).clear()

    def data_received(self, data: bytes) -> None:
        """Bytes came. Who sends them one by one is left until some have come together."""
        self._crumbs = self._crumbs + 1 if len(data) < CRUMB_BYTES else 0
        if self._crumbs == CRUMBS:
            turns.let_wait(self.transport)
        super().data_received(data)

    def process_event(self, event: Any) -> None:
        """Take in a frame, or the request."""
        if isinstance(event, Frame) and event.fin and event.opcode in MESSAGES:
            binary = event.opcode is Opcode.BINARY
            if binary and self.hear and not self._unreceived and self.hear(bytes(event.data)):
                return
            self._unreceived += 1
        super().process_event(event)

    async def recv(self, decode: bool | None = None) -> Message:  # type: ignore[override]  # noqa: FBT001
        """The next message that was not heard; see `ServerConnection.recv`."""
        message: Message = await super().recv(decode)
        self._unreceived -= 1
        return message

    async def send(self, message: Any, *, text: bool | None = None) -> None:
        """Send a message, and wait if too much of what was sent before has not left."""
        free = not self.paused and self.send_in_progress is None
        if isinstance(message, str) and text is None and free and self.protocol.state is State.OPEN:
            self.protocol.send_text(message.encode())
            self.send_data()
        else:
            await super().send(message, text=text)
