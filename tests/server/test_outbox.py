"""What a session has not sent yet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from asr.transcript import Partial
from server.dialogue import Heard, Pong
from server.outbox import Outbox, supersedes
from tests.server.sockets import in_a_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

PONG = Pong(1)
ONE: Any = "one line"
OTHER: Any = "another"


def shown(text: str, channel: int | None = None) -> Heard:
    """A partial of the first segment."""
    return Heard(Partial(0, "", text, 1), 0.0, channel=channel)


def test_a_partial_gives_way_to_newer_ones_of_its_own_channel_only() -> None:
    """What one channel says is no reason to be silent about another."""
    assert supersedes(shown("a b", 0), shown("a", 0))
    assert not supersedes(shown("c", 1), shown("a", 0))


def test_what_gives_way_is_taken_like_what_has_left() -> None:
    """Or the engine would hold back a client that reads slowly for ever."""
    taken: list[object] = []
    outbox = Outbox(taken.append)
    outbox.put(shown("a"), ONE)
    outbox.put(shown("a b"), OTHER)
    assert (len(outbox), taken) == (1, [ONE])
    assert outbox.take() == (shown("a b"), OTHER)
    outbox.left(OTHER)
    outbox.left(None)
    assert (len(outbox), taken) == (0, [ONE, OTHER])


def test_the_replies_of_one_line_are_forgotten_in_the_midst_of_others() -> None:
    """A client that discards its stream still hears the answers to what else it asked."""
    outbox = Outbox(lambda _: None)
    for line in (ONE, None, OTHER):
        outbox.put(PONG, line)
    outbox.forget(ONE)
    assert [outbox.take()[1] for _ in range(len(outbox))] == [None, OTHER]


@in_a_loop
async def test_both_ends_wait_for_each_other_and_can_be_woken() -> None:
    """A session that ends must not leave one of its tasks waiting."""
    outbox = Outbox(lambda _: None)
    cases: list[tuple[Callable[[], Coroutine[None, None, None]], Callable[[], None]]] = [
        (outbox.more, lambda: outbox.put(PONG)),
        (outbox.more, outbox.wake),
        (outbox.fewer, lambda: outbox.left(None)),
        (outbox.fewer, outbox.wake_filler),
    ]
    for wait, call in cases:
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        call()
        await waiting
