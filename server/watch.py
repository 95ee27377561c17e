"""When a session gives up its peer: one that does not start, does not read, or is not there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from asr.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from server.limits import Limits


class Watch:
    """Looks at the clock for a session, which notes here what it does.

    Args:
        limits: how long the peer may take.
        ping: asks whether the peer is there; see `Connection.ping`.
        end: ends the session in order, for a reason.
        abort: cuts it off.
        leave: notes that the connection is closed.

    Attributes:
        opened: when the session began, on the loop's clock.
        begun: the client has said what it wants.
        last_message: when the peer was last heard of.
        writing_since: when what is being sent was begun; None where nothing is.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        ping: Callable[[], Awaitable[Awaitable[object]]],
        end: Callable[[ProtocolError], None],
        abort: Callable[[], None],
        leave: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._ping, self._end, self._abort, self._leave = ping, end, abort, leave
        self._now = asyncio.get_running_loop().time
        self.opened = self.last_message = self._now()
        self.begun = False
        self.writing_since: float | None = None
        self._deaf = False

    def rest(self) -> None:
        """Know the session no more, which knows its watch: call it when that has ended."""
        del self._ping, self._end, self._abort, self._leave

    def heard(self) -> float:
        """The peer was heard of just now; return the time."""
        self.last_message = self._now()
        return self.last_message

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """Leave the socket unread meanwhile: nobody can tell whether the peer is silent."""
        self._deaf = True
        try:
            yield
        finally:
            self._deaf = False
            self.heard()

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        limits = self._limits
        bounds = (limits.start_seconds, limits.silent_seconds, limits.write_seconds)
        step = min(*bounds, limits.session_seconds) / 4
        while True:
            await asyncio.sleep(step)
            await self._look(self._now())

    async def _look(self, now: float) -> None:
        limits = self._limits
        if self.writing_since is not None:
            if now - self.writing_since > limits.write_seconds:
                self._abort()
        elif not self.begun and now - self.opened > limits.start_seconds:
            nothing = f"nothing was sent within {limits.start_seconds:g} s"
            why = f"{nothing}; send start, or what else the protocol begins with"
            self._end(ProtocolError(why, "no_start", 1008))
        elif now - self.opened > limits.session_seconds:
            lasted = f"the session lasted {limits.session_seconds:g} s, as long as it may"
            self._end(ProtocolError(f"{lasted}; start a new one", "too_long", 1008))
        elif not self._deaf and now - self.last_message > limits.silent_seconds:
            await self._probe()

    async def _probe(self) -> None:
        """Ping the peer, and give it up if nothing at all comes back."""
        before = self.last_message
        try:
            async with asyncio.timeout(self._limits.silent_seconds):
                await (await self._ping())
            self.heard()
        except TimeoutError:
            if self.last_message == before:
                self._abort()
        except ConnectionClosed:
            self._leave()
