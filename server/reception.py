"""Who is there: connections of any kind, and those of them that were let in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from server import metrics as figures
from server.visitor import Visitor

if TYPE_CHECKING:
    from server.admission import Admission
    from server.limits import Limits
    from server.metrics import Metrics
    from server.tcp import TcpConnection


class Reception:
    """Keeps account of connections, for `Admission` and for the figures.

    Args:
        admission: is told who comes in and who leaves.
        metrics: counts them.
        limits: how many may be there that have asked nothing yet.

    Attributes:
        connections: all that are there.
        handshakes: those that have asked nothing yet, oldest first.
        places: those that were let in; at most `limits.sessions`.
        gone: how many were there and are not any more, so far.
    """

    def __init__(self, admission: Admission, metrics: Metrics, limits: Limits) -> None:
        self._admission = admission
        self._metrics = metrics
        self._limits = limits
        self._empty = asyncio.Event()
        self.connections: set[Visitor | TcpConnection] = set()
        self.handshakes: dict[Visitor, None] = {}
        self.places: set[Visitor | TcpConnection] = set()
        self.gone = 0

    def arrived(self, connection: Visitor | TcpConnection) -> None:
        """A connection was made. Those that say nothing must not keep others out."""
        self.connections.add(connection)
        self._metrics.hold(figures.CONNECTIONS, len(self.connections))
        if not isinstance(connection, Visitor):
            return
        self.handshakes[connection] = None
        if len(self.handshakes) > self._limits.handshakes:
            oldest = next(iter(self.handshakes))
            del self.handshakes[oldest]
            oldest.transport.abort()
            self._metrics.rejected("handshake")

    def asked(self, visitor: Visitor) -> None:
        """It has sent its request."""
        self.handshakes.pop(visitor, None)

    def let_in(self, connection: Visitor | TcpConnection, address: str) -> None:
        """It may hold a session. `address` is the client's, who is counted by it."""
        connection.address = address
        self.places.add(connection)
        self._admission.enter(address)
        self._metrics.hold(figures.SESSIONS, len(self.places))

    def left(self, connection: Visitor | TcpConnection) -> None:
        """A connection is gone, however it went."""
        self.gone += 1
        self.connections.discard(connection)
        self._metrics.hold(figures.CONNECTIONS, len(self.connections))
        if isinstance(connection, Visitor):
            self.handshakes.pop(connection, None)
        if connection in self.places:
            assert connection.address is not None  # noqa: S101 - set when it was let in
            self.places.discard(connection)
            self._admission.leave(connection.address)
            self._metrics.hold(figures.SESSIONS, len(self.places))
            self._empty.set()

    async def until_empty(self) -> None:
        """Wait until nobody is there who was let in."""
        while self.places:
            self._empty.clear()
            await self._empty.wait()

    def turn_away(self) -> None:
        """End the connections that have asked nothing."""
        for visitor in list(self.handshakes):
            visitor.transport.abort()

    def cut_off(self) -> None:
        """End all connections at once."""
        for connection in list(self.connections):
            connection.transport.abort()
