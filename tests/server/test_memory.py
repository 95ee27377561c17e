"""What sessions leave behind is freed, and goes back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import subprocess
import sys
import weakref

import pytest

from benchmarks.raw import BINARY, TEXT, RawClient, close, frame, request, text
from server import memory
from server.visitor import Visitor
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


LEAVING = {
    "said all": frame(BINARY, bytes(3200)) + text({"type": "finish"}),
    "closed at once": close(),
    "too long": frame(BINARY, told=(2**40, 8)),
    "no websocket": b"\xff\xff",
    "no start": frame(TEXT, b"{}"),
    "nothing": b"",
}


@pytest.mark.parametrize("leaving", LEAVING)
@in_a_loop
async def test_a_connection_frees_itself_however_it_ends(
    leaving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows what serves it and is known by that, and so do their parts; nobody else knows it."""
    seen: weakref.WeakSet[Visitor] = weakref.WeakSet()
    made, came = Visitor.connection_made, 0

    def note(visitor: Visitor, transport: asyncio.BaseTransport) -> None:
        nonlocal came
        came += 1
        seen.add(visitor)
        made(visitor, transport)

    monkeypatch.setattr(Visitor, "connection_made", note)
    gc.collect()
    gc.disable()
    try:
        async with serving() as service:
            for begins in (True, False):
                async with RawClient(service.port) as client:
                    if begins and leaving != "no start":
                        await client.begin()
                    elif leaving != "nothing":
                        await client.send(request(port=service.port))
                    await client.send(LEAVING[leaving])
                    if leaving != "nothing":
                        await client.hear_all()
            await until(lambda: came == 2 and not seen)
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
    task = asyncio.create_task(memory.give_back(count, 0.001 * memory.LOOKS, many=1))
    await until(lambda: looks > 5)
    assert given == 0
    ended = 3
    await until(lambda: given == 1)
    assert kept() is None
    seen = looks
    await until(lambda: looks > seen + 5)
    assert given == 1
    task.cancel()
    task = asyncio.create_task(memory.give_back(count, 0.001 * memory.LOOKS, many=5))
    seen = looks
    await until(lambda: looks > seen)
    ended += 1
    seen = looks
    await until(lambda: given == 2)
    assert looks > seen + memory.LOOKS // 2
    task.cancel()


def test_what_is_loaded_is_looked_through_no_more() -> None:
    """The collector counts it as there for ever, and comes for what piles up alone."""
    usual = gc.get_threshold()
    try:
        memory.settle()
        assert gc.get_freeze_count() > 10_000
        assert gc.isenabled()
        assert gc.get_threshold()[0] == memory.GARBAGE
        memory._trim()  # noqa: SLF001 - whatever the C library, it does no harm
    finally:
        gc.set_threshold(*usual)
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
