"""Memory that sessions leave behind goes back to the system, and garbage is looked for where it is.

Connections and what serves them know each other, so they are freed by Python's collector of cycles.
It looks through old objects only when a quarter as many new ones have grown old, and a recogniser
with its libraries is a hundred thousand that never die. `settle` takes those out of its sight: then
it looks through sessions alone, in little time.

Even so it comes when it comes: 500 connections may end before it looks at old objects, and they
are some 10 kB each. And what is freed in many small pieces glibc keeps for the next ones.
`give_back` looks for garbage and hands memory over whenever sessions have ended.

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

SECONDS: Final = 10.0  # from one look to the next
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
    gc.collect()  # it remembers how much was there the last time


async def give_back(ended: Callable[[], int], seconds: float = SECONDS) -> None:
    """Give memory back whenever sessions have ended, again and again, until cancelled.

    To find garbage takes some 3 ms where there are 50 sessions, when all else waits. To hand
    memory over takes some 10 ms of a thread of its own; others wait meanwhile only where they need
    new memory from the same part of the heap.

    Args:
        ended: counts the sessions that have.
        seconds: from one look to the next.
    """
    before = ended()
    while True:
        await asyncio.sleep(seconds)
        now = ended()
        if now != before:
            before = now
            gc.collect()
            await asyncio.to_thread(_trim)


def _trim() -> None:
    """Return free memory to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
