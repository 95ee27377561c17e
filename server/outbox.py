"""What a session has to say and has not sent yet: in order, and without what is out of date."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from asr.transcript import Partial
from server.dialogue import Answer, Heard, Reply, Saved, SlowDown
from server.line import Left

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.line import Line

Said = Reply | Answer | Left


class Outbox:
    """Replies that have not left yet, each with the line it came from, if it came from one.

    Whoever fills it waits with `fewer` while there are too many, whoever empties it with `more`
    while there are none; both look again when they wake.

    Args:
        taken: called with the line of each reply that has left, or need not leave any more.
    """

    def __init__(self, taken: Callable[[Line], None]) -> None:
        self._taken = taken
        self._waiting: deque[tuple[Said, Line | None]] = deque()
        self._more = asyncio.Event()
        self._fewer = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, reply: Said, line: Line | None = None) -> None:
        """Queue a reply. A partial that has not left gives way to what follows in its segment."""
        if self._waiting and supersedes(reply, self._waiting[-1][0]):
            self._free(self._waiting.pop()[1])
        self._waiting.append((reply, line))
        self._more.set()

    def take(self) -> tuple[Said, Line | None]:
        """The next reply to send, if there is one; call `left` when it has left."""
        return self._waiting.popleft()

    def left(self, line: Line | None) -> None:
        """A reply of this line has left."""
        self._fewer.set()
        self._free(line)

    def forget(self, line: Line) -> None:
        """Drop the replies of a line."""
        self._waiting = deque(said for said in self._waiting if said[1] is not line)

    def clear(self) -> None:
        """Drop everything."""
        self._waiting.clear()

    async def more(self) -> None:
        """Wait until something is put in, or `wake`."""
        self._more.clear()
        await self._more.wait()

    async def fewer(self) -> None:
        """Wait until something has left, or `wake_filler`."""
        self._fewer.clear()
        await self._fewer.wait()

    def wake(self) -> None:
        """Let whoever empties it look again, though there is nothing more."""
        self._more.set()

    def wake_filler(self) -> None:
        """Let whoever fills it look again, though nothing has left."""
        self._fewer.set()

    def _free(self, line: Line | None) -> None:
        if line is not None:
            self._taken(line)


def supersedes(reply: Said, waiting: Said) -> bool:
    """Whether a reply makes the one before it, which has not left yet, needless."""
    if isinstance(reply, Heard) and isinstance(waiting, Heard):
        partial, channel = isinstance(waiting.event, Partial), waiting.channel
        same = (channel, waiting.event.segment) == (reply.channel, reply.event.segment)
        return partial and same
    return isinstance(reply, SlowDown | Saved) and type(waiting) is type(reply)
