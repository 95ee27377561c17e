"""Whoever speaks is served first, strangers a few at a time, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.features import BLOCK_SAMPLES
from server import turns
from server.line import PROVED_SECONDS, Line
from server.turns import Loop, Turns
from server.visitor import CRUMBS, Visitor
from tests.server.sockets import in_a_loop, serving, until
from tests.server.tones import sing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
BOTH = READ | WRITE
IDLE = 1e-3  # seconds that a loop can wait which has nothing to do


@contextlib.contextmanager
def pairs(count: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Connected sockets."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            here, there = socket.socketpair()
            made.append((stack.enter_context(here), stack.enter_context(there)))
        yield made


@contextlib.contextmanager
def turning(few: int = 2) -> Iterator[Turns]:
    """A selector, with what a loop registers first."""
    made = Turns(few)
    with pairs(1) as [(own, _)]:
        made.register(own, READ, "own")
        try:
            yield made
        finally:
            made.close()


@settings(max_examples=50, deadline=None)
@given(data=st.data(), count=st.integers(1, 12), few=st.integers(1, 4))
def test_the_preferred_come_all_at_once_and_strangers_in_turn(
    data: st.DataObject, count: int, few: int
) -> None:
    """Whoever is ready and stays so is told of within a known number of rounds, not only once."""
    some = st.sets(st.integers(0, count - 1))
    preferred, ready = data.draw(some, "preferred"), data.draw(some, "ready")
    with turning(few) as made, pairs(count) as ends:
        for number, (here, _) in enumerate(ends):
            made.register(here, READ, number)
            if number in preferred:
                made.prefer(here)
        for number in ready:
            ends[number][1].send(b"x")
        strangers = ready - preferred
        seen: list[int] = []
        rounds = -(-len(strangers) // few)
        for _ in range(2 * rounds):
            found = [key.data for key, events in made.select(IDLE) if events == READ]
            assert set(found) >= ready & preferred
            others = [number for number in found if number not in preferred]
            assert len(others) == min(few, len(strangers))
            seen += others
        if rounds:
            assert set(seen[: few * rounds]) == strangers
            assert set(seen[-len(strangers) :]) == strangers
        else:
            assert {key.data for key, _ in made.select(IDLE)} == ready


def test_strangers_wait_while_there_is_something_else_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Callbacks of the loop, or recognition; but not for ever, and nobody else waits."""
    with turning(few=1) as made, pairs(3) as ends:
        for number, (here, there) in enumerate(ends):
            made.register(here, READ, number)
            there.send(b"x")
        made.prefer(ends[2][0])

        def told(timeout: float | None) -> list[int]:
            return [key.data for key, _ in made.select(timeout)]

        monkeypatch.setattr(turns, "PATIENCE_SECONDS", 1000.0)
        monkeypatch.setattr(turns, "TURN_SECONDS", 500.0)
        assert told(0) == [2, 0]  # nobody has had a turn
        assert told(0) == [2, 1]  # it lasts, and those who speak are served in it
        monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
        assert told(0) == [2]
        assert told(IDLE) == [2, 0]
        made.occupied = lambda: True
        assert told(IDLE) == told(None) == [2]
        ends[2][0].recv(1)
        assert told(IDLE) == []
        monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.0)
        assert told(0) == [1]
        monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.01)
        assert told(None) == [0]  # after as long


def outcome(selector: selectors.BaseSelector, what: str, *told: Any) -> Any:
    """What a call brings; None where it is refused."""
    try:
        return getattr(selector, what)(*told)
    except KeyError:
        return None


def ready(selector: selectors.BaseSelector) -> list[tuple[int, Any, int]]:
    """What it tells of."""
    return sorted((key.fd, str(key.data), events) for key, events in selector.select(IDLE))


changes = st.tuples(
    st.sampled_from(["register", "modify", "unregister", "get_key", "prefer", "send", "end"]),
    st.integers(0, 3),
    st.sampled_from([READ, WRITE, BOTH]),
)


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(changes, max_size=30))
def test_it_is_a_selector_like_any_other(steps: list[tuple[str, int, int]]) -> None:
    """With places enough it tells what the system's own does, refusals included."""
    with turning(few=99) as made, pairs(4) as ends, selectors.DefaultSelector() as usual:
        [own] = made.get_map().values()
        usual.register(own.fileobj, READ, "own")
        for what, number, events in steps:
            here, there = ends[number]
            if what == "prefer":
                made.prefer(here)
            elif what == "send":
                with contextlib.suppress(BrokenPipeError):
                    there.send(b"x")
            elif what == "end":
                there.shutdown(socket.SHUT_WR)
            else:
                told = (here, events, number) if what in {"register", "modify"} else (here,)
                assert outcome(made, what, *told) == outcome(usual, what, *told)
            assert ready(made) == ready(usual)
            assert dict(made.get_map()) == dict(usual.get_map())


def test_what_was_closed_can_still_be_unregistered_and_comes_back_as_a_stranger() -> None:
    """As asyncio does it where a connection breaks."""
    with turning(few=1) as made, pairs(3) as ends:
        for here, there in ends:
            made.register(here, READ, None)
            there.send(b"x")
        here = ends[0][0]
        made.prefer(here)
        assert len(made.select(IDLE)) == 2
        made.unregister(here)
        made.register(here, READ, None)
        assert len(made.select(IDLE)) == 1
        made.prefer(here)
        descriptor = here.fileno()
        here.close()
        made.unregister(descriptor)
        made.prefer(descriptor)  # nothing: it is not there
        assert descriptor not in made.get_map()
        with pytest.raises(KeyError):
            made.get_key(descriptor)


def noted(call: str) -> list[int]:
    """The descriptors with which a method of the running loop's turns is called from now on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    descriptors: list[int] = []
    done = getattr(loop.turns, call)

    def note(file: turns.File) -> None:
        descriptors.append(file if isinstance(file, int) else file.fileno())
        done(file)

    setattr(loop.turns, call, note)
    return descriptors


def test_what_was_preferred_can_be_one_of_the_others_again() -> None:
    """And be preferred anew; a file that was not, or is not there, stays as it is."""
    with turning(few=1) as selector, pairs(3) as made:
        for here, there in made:
            selector.register(here, READ)
            there.send(b"x")
        for here, _ in made:
            selector.prefer(here)
        assert len(selector.select(0)) == 3
        for here, _ in made[:2]:
            selector.let_wait(here)
            selector.let_wait(here)
        selector.let_wait(10**6)
        first = {key.fileobj for key, _ in selector.select(0)}
        assert made[2][0] in first
        assert len(first) == 2
        selector.prefer(made[0][0])
        assert {made[0][0], made[2][0]} <= {key.fileobj for key, _ in selector.select(0)}


@in_a_loop
async def test_who_sends_crumbs_is_preferred_no_more_until_it_sends_a_piece() -> None:
    """A session in packets of a byte would wake the loop as often as a hundred that speak."""
    waiting = noted("let_wait")
    async with serving() as service, service.session() as peer:
        await peer.sing("abc")
        await peer.tell("ping", id=1)
        while (await peer.hear())["type"] != "pong":  # all that was sent is there
            pass
        (visitor,) = (session._connection for session in service.server.sessions)  # noqa: SLF001
        assert isinstance(visitor, Visitor)
        frame = b"\x82\x88" + bytes(12)  # two samples under a mask of zeros
        for number, byte in enumerate(frame[:CRUMBS]):
            assert len(waiting) == 0
            visitor.data_received(bytes([byte]))
            assert len(waiting) == (number == CRUMBS - 1)
        visitor.data_received(frame[CRUMBS:])
        await peer.tell("finish")
        done = (await peer.hear_all())[-1]
        assert (done["type"], done["position"]) == ("done", len(sing("abc")) + 2)
    assert len(waiting) == 1


@in_a_loop
async def test_a_session_is_preferred_once_it_has_spoken() -> None:
    """Not before: whoever only connects, or says little, waits for its turn."""
    preferred = noted("prefer")
    block = np.zeros(BLOCK_SAMPLES, np.float32)
    blocks = math.floor(PROVED_SECONDS * 16_000 / BLOCK_SAMPLES)

    def lines() -> list[Line]:
        return [session.line for session in service.server.sessions if session.line]

    def taken_in() -> int:
        return sum(line.intake.position for line in lines())

    async def say(audio: NDArray[np.float32]) -> None:
        """Say something, and wait until it has been heard."""
        wanted = len(audio) + taken_in()
        await peer.say(audio)
        await until(lambda: taken_in() >= wanted)

    async with serving() as service, service.session() as peer, service.session() as other:
        for _ in range(blocks + 1):
            await say(block)
        assert preferred == []
        for sample in block[:-16]:  # what comes a sample at a time is nobody's speech
            await peer.say(sample[None])
        await until(lambda: sum(len(line.jobs) for line in lines()) == BLOCK_SAMPLES - 16)
        assert preferred == []
        await peer.say(block[-16:])
        await until(lambda: taken_in() == (blocks + 2) * BLOCK_SAMPLES)
        assert preferred
        for _ in range(blocks):
            await other.say(block)
        for one in (peer, other):
            await one.tell("finish")
            assert (await one.hear_all())[-1]["type"] == "done"
    assert len(set(preferred)) == 1


@in_a_loop
async def test_elsewhere_nothing_is_preferred() -> None:
    """A server can be run on any loop."""

    async def prefer() -> None:
        reader, writer = await asyncio.open_connection(*address)
        turns.prefer(writer.transport)
        writer.write(b"x")
        assert await reader.read() == b"x"
        writer.close()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        writer.close()

    listener = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = listener.sockets[0].getsockname()
    async with listener:
        await asyncio.to_thread(asyncio.run, prefer())
        await prefer()
