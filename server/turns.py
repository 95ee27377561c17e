"""Whose turn it is on the event loop: sessions that speak come first, of others a few at a time.

An event loop asks which connections have something for it, and does all of that before it asks
again. So whoever opens hundreds of connections a second, or sends nonsense on as many as he may,
would be served in one go while everybody else waits. Here a session that has been heard for
0.3 s is always served, unless it comes in crumbs of a few bytes (`server/visitor.py`). All other
connections (new ones, silent ones, those of whoever asks for a figure) wait while there is
something else to do, the recognition of what came before included, and while somebody who speaks is
about to send more (`server/rhythm.py`). Every `PATIENCE_SECONDS` they have their turn: for
`TURN_SECONDS`, `FEW` of them in a round, so that whoever speaks waits for no more. What comes in
crumbs has come together by then. Nobody starves: what was left over is first the next time, as
epoll (Linux) goes through what is ready in turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import time
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncio.transports import BaseTransport
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class HasFileno(Protocol):
        """A file, a socket."""

        def fileno(self) -> int:
            """The number of its descriptor."""
            ...

    File = int | HasFileno

FEW: Final = 2  # connections of strangers in a round
TURN_SECONDS: Final = 0.002  # in which rounds with some of them may follow one another
PATIENCE_SECONDS: Final = 0.01  # from one such turn to the next while there is something else to do


class Turns(BaseSelector):
    """A selector that serves some first: the loop's own pipe, registered before all else, too.

    Args:
        few: of the others, at most so many are told of at a time.

    Attributes:
        occupied: whether the machine has other things to do than to serve strangers.
    """

    def __init__(self, few: int = FEW) -> None:
        self._few = few
        self._keys: dict[int, SelectorKey] = {}
        self._first: set[int] = set()
        self._urgent, self._others, self._all = (select.epoll() for _ in range(3))
        for part in (self._urgent, self._others):
            self._all.register(part.fileno(), select.EPOLLIN)
        self._turn = -math.inf  # when the last turn of strangers began
        self.occupied: Callable[[], bool] = lambda: False

    def prefer(self, file: File) -> None:
        """Serve it first from now on, until it is unregistered; nothing if it is not registered."""
        descriptor = _descriptor(file)
        if descriptor in self._keys and descriptor not in self._first:
            self._others.unregister(descriptor)
            self._first.add(descriptor)
            self._urgent.register(descriptor, _mask(self._keys[descriptor].events))

    def let_wait(self, file: File) -> None:
        """Serve it among the others again, until it is preferred anew."""
        descriptor = _descriptor(file)
        if descriptor in self._first and descriptor in self._keys:
            self._urgent.unregister(descriptor)
            self._first.remove(descriptor)
            self._others.register(descriptor, _mask(self._keys[descriptor].events))

    def register(self, fileobj: File, events: int, data: Any = None) -> SelectorKey:
        """Watch a file; see `selectors.BaseSelector`."""
        key = SelectorKey(fileobj, _descriptor(fileobj), events, data)
        if key.fd in self._keys:
            raise KeyError(f"{fileobj!r} (descriptor {key.fd}) is already registered")
        if not self._keys:
            self._first.add(key.fd)
        self._of(key.fd).register(key.fd, _mask(events))
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: File) -> SelectorKey:
        """Watch it no more; it is a stranger when it comes again."""
        key = self._keys.pop(_descriptor(fileobj))
        with contextlib.suppress(OSError):  # where it was closed before
            self._of(key.fd).unregister(key.fd)
        self._first.discard(key.fd)
        return key

    def modify(self, fileobj: File, events: int, data: Any = None) -> SelectorKey:
        """Watch it for something else."""
        before = self._keys[_descriptor(fileobj)]
        if events != before.events:
            self._of(before.fd).modify(before.fd, _mask(events))
        key = self._keys[before.fd] = SelectorKey(fileobj, before.fd, events, data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait until something is ready: all that come first, and a few of the others.

        A timeout of 0 means that the loop has something to do. Then, as while the machine is
        `occupied`, the others wait from the end of their turn for the beginning of the next one.
        """
        wait = math.inf if timeout is None else max(0.0, timeout)
        since = time.monotonic() - self._turn
        patience = PATIENCE_SECONDS - since
        if since >= TURN_SECONDS and patience > 0 and (wait == 0 or self.occupied()):
            found = self._urgent.poll(_milliseconds(min(wait, patience)))
            if found or wait <= patience:
                return self._ready(found)
            wait -= patience
        self._all.poll(_milliseconds(wait))
        others = self._others.poll(0, self._few)
        now = time.monotonic()
        if others and now >= self._turn + PATIENCE_SECONDS:
            self._turn = now
        return self._ready(self._urgent.poll(0) + others)

    def _ready(self, found: list[tuple[int, int]]) -> list[tuple[SelectorKey, int]]:
        ready = []
        for descriptor, mask in found:
            key = self._keys.get(descriptor)
            if key is not None:
                ready.append((key, _events(mask) & key.events))
        return ready

    def close(self) -> None:
        """Forget everything."""
        self._keys.clear()
        self._first.clear()
        for part in (self._all, self._urgent, self._others):
            part.close()

    def get_key(self, fileobj: File) -> SelectorKey:
        """What a file was registered with; KeyError if it was not."""
        return self._keys[_descriptor(fileobj)]

    def get_map(self) -> Mapping[Any, SelectorKey]:
        """All that is registered, by descriptor."""
        return self._keys

    def _of(self, descriptor: int) -> Any:
        """The epoll object that watches it."""
        return self._urgent if descriptor in self._first else self._others


class Loop(asyncio.SelectorEventLoop):
    """An event loop with turns."""

    def __init__(self) -> None:
        self.turns = Turns()
        super().__init__(self.turns)


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for a server: with turns where the system has epoll."""
    return Loop() if hasattr(select, "epoll") else asyncio.new_event_loop()


def prefer(transport: BaseTransport) -> None:
    """Serve this connection of the running loop first from now on, if the loop has turns."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, Loop):
        loop.turns.prefer(transport.get_extra_info("socket"))


def let_wait(transport: BaseTransport) -> None:
    """Take back what `prefer` gave this connection."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, Loop):
        loop.turns.let_wait(transport.get_extra_info("socket"))


def wait_while(occupied: Callable[[], bool]) -> None:
    """Let strangers of the running loop wait a little while this is so, if the loop has turns."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, Loop):
        loop.turns.occupied = occupied


def _descriptor(file: File) -> int:
    return file if isinstance(file, int) else file.fileno()


def _milliseconds(seconds: float) -> float:
    """Rounded up, as epoll counts them: less would be a loop without rest; -1 is for ever."""
    return -1.0 if seconds == math.inf else math.ceil(seconds * 1e3) * 1e-3


def _mask(events: int) -> int:
    mask = select.EPOLLIN if events & EVENT_READ else 0
    return mask | (select.EPOLLOUT if events & EVENT_WRITE else 0)


def _events(mask: int) -> int:
    """An error or the end of a connection is both: whoever reads or writes finds out."""
    events = EVENT_READ if mask & ~select.EPOLLOUT else 0
    return events | (EVENT_WRITE if mask & ~select.EPOLLIN else 0)
