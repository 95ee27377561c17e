"""What sessions leave behind is freed, and goes back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import subprocess
import sys
import weakref

import pytest

from server import memory
from tests.server.sockets import in_a_loop, serving, until


@in_a_loop
async def test_what_a_session_heard_is_freed_when_it_ends() -> None:
    """Without the collector of cycles, which comes when it comes."""
    gc.collect()
    gc.disable()
    try:
        async with serving() as service:
            async with service.session() as peer:
                await peer.sing("abc")
                [session] = service.server.sessions
                assert session.line is not None
                line = weakref.ref(session.line)
                del session
                await peer.tell("finish")
                await peer.hear_all()
            await until(lambda: not service.server.sessions)
            await until(lambda: line() is None)
    finally:
        gc.enable()


class Knot:
    """Garbage that only the collector of cycles finds."""

    def __init__(self) -> None:
        self.end = self


@in_a_loop
async def test_memory_is_given_back_when_sessions_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not again and again where nothing happens."""
    ended, given, looks = 0, 0, 0
    knows_itself = Knot()
    kept = weakref.ref(knows_itself)
    del knows_itself

    def trim() -> None:
        nonlocal given
        given += 1

    def count() -> int:
        nonlocal looks
        looks += 1
        return ended

    monkeypatch.setattr(memory, "_trim", trim)
    task = asyncio.create_task(memory.give_back(count, 0.001))
    await until(lambda: looks > 5)
    assert given == 0
    ended = 3
    await until(lambda: given == 1)
    assert kept() is None
    seen = looks
    await until(lambda: looks > seen + 5)
    assert given == 1
    task.cancel()


def test_what_is_loaded_is_looked_through_no_more() -> None:
    """The collector counts it as there for ever; free memory can be returned at any time."""
    try:
        memory.settle()
        assert gc.get_freeze_count() > 10_000
        memory._trim()  # noqa: SLF001 - whatever the C library, it does no harm
    finally:
        gc.unfreeze()


HEAPS = """
import ctypes, sys, threading
from server import memory

if "share" in sys.argv:
    memory.share_heap()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc.restype = ctypes.c_void_p
thread = threading.Thread(target=lambda: libc.malloc(ctypes.c_size_t(1000)))
thread.start()
thread.join()
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")
def test_threads_share_a_heap() -> None:
    """Each with one of its own, what the other frees would stay unused."""
    apart, shared = (
        subprocess.run([sys.executable, "-c", HEAPS, how], capture_output=True, check=True).stdout
        for how in ("apart", "share")
    )
    assert apart.count(b"<heap nr=") > shared.count(b"<heap nr=") == 1
