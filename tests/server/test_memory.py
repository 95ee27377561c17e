"""What sessions leave behind is freed, and goes back to the system."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING

from server import memory
from tests.server.sockets import in_a_loop, serving, until

if TYPE_CHECKING:
    import pytest


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
