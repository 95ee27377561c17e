"""Memory that sessions leave behind goes back to the system, and garbage is looked for seldom.

A connection and what serves it know each other, and such cycles are freed by Python's collector
alone. Where many come and go it came about once a second, and everybody waited for 20 to 60 ms (by
a trial). So they are taken apart where they end (`server/visitor.py`, `Session.run`) and free
themselves; `settle` takes what never dies out of the collector's sight, and lets it come by itself
only where garbage piles up all the same, as that of the standard library's streams does.

What is freed in many small pieces glibc keeps for the next ones. `give_back` looks for garbage and
hands memory over when sessions have ended: twice a minute, or when many have.

Sessions are begun on one thread and recognised on another, and what one takes the other may free.
glibc gives every thread a heap of its own, each with its own holes; `share_heap` lets all threads
fill the holes of one.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS: Final = 30.0  # from one giving back to the next
MANY: Final = 10_000  # ended connections, after which it is time at once
LOOKS: Final = 30  # from one time to the next, whether it is time already
GARBAGE: Final = 50_000  # objects more than died, after which the collector comes by itself
M_ARENA_MAX: Final = -8  # of glibc's malloc.h


def share_heap() -> None:
    """Let threads that are started from now on use one heap, where the C library can (glibc)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def settle() -> None:
    """Let the collector look no more through what there is: call it once all is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)


async def give_back(ended: Callable[[], int], seconds: float = SECONDS, many: int = MANY) -> None:
    """Give memory back when sessions have ended, again and again, until cancelled.

    To find garbage takes some 3 ms where there are 50 sessions, when all else waits, and longer
    where hundreds of connections are being made. To hand memory over takes some 10 ms of a thread
    of its own; others wait meanwhile only where they need new memory from the same part of the
    heap.

    Args:
        ended: counts the sessions that have.
        seconds: from one time to the next.
        many: so many that have ended are not kept for so long.
    """
    before, looks = ended(), 0
    while True:
        await asyncio.sleep(seconds / LOOKS)
        now, looks = ended(), looks + 1
        if now - before >= many or (now != before and looks >= LOOKS):
            before, looks = now, 0
            gc.collect()
            await asyncio.to_thread(_trim)


def _trim() -> None:
    """Return free memory to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
