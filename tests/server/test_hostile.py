"""Clients that do everything wrong, each beside one that does all right and must not notice."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from server.limits import Limits
from tests.server.sockets import Peer, Service, fields_heard, fields_of, in_a_loop, serving, until
from tests.server.tones import ToneNetwork, alone, recognizer, sing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server.session import Session

SONG = "ab c"


@contextlib.asynccontextmanager
async def beside_a_good_client(service: Service) -> AsyncIterator[None]:
    """A session that is open before and after whatever happens, and hears exactly its words."""
    samples = sing(SONG)
    half = len(samples) // 2
    async with service.session() as good:
        await good.say(samples[:half])
        yield
        await good.say(samples[half:])
        await good.tell("finish")
        heard = await good.hear_all()
    assert fields_heard(heard) == fields_of(alone(samples))
    assert (heard[-1]["type"], good.close_code) == ("done", 1000)


@pytest.mark.parametrize(
    ("message", "code", "close_code"),
    [
        (bytes(1281), "bad_payload", 1007),
        ("hello", "bad_message", 1007),
        ('{"type":"launch"}', "unknown_type", 1003),
        ('{"type":"start","version":1}', "out_of_order", 1008),
        ('{"type":"configure","options":{"endpoint_ms":1}}', "bad_message", 1007),
    ],
)
@in_a_loop
async def test_a_broken_message_ends_its_own_session_behind_its_finals(
    message: bytes | str, code: str, close_code: int
) -> None:
    """What was accepted before is recognised and said; then the error, then the close."""
    async with serving() as service, beside_a_good_client(service):
        async with service.session() as bad:
            await bad.sing("ab")
            await bad.connection.send(message)
            heard = await bad.hear_all()
        assert fields_heard(heard) == fields_of(alone(sing("ab")))
        error = heard[-1]
        assert (error["type"], error["code"], error["fatal"]) == ("error", code, True)
        assert "\n" not in error["message"]
        assert bad.close_code == close_code


@pytest.mark.parametrize(
    ("first", "code", "close_code"),
    [
        (bytes(1280), "out_of_order", 1008),
        (b"RIFF\x24\0\0\0WAVEfmt ", "out_of_order", 1008),
        ('{"type":"finish"}', "out_of_order", 1008),
        ('{"type":"start","version":3}', "bad_version", 1008),
        (
            '{"type":"start","version":1,"resume":{"token":"T","position":1}}',
            "resume_unknown",
            1008,
        ),
        (
            '{"type":"start","version":1,"format":{"encoding":"s16le","sample_rate":1}}',
            "bad_format",
            1003,
        ),
        (
            '{"type":"start","version":1,"format":{"encoding":"s16le","sample_rate":8000,"channels":9}}',
            "bad_format",
            1003,
        ),
    ],
)
@in_a_loop
async def test_a_session_that_begins_wrongly_never_begins(
    first: bytes | str, code: str, close_code: int
) -> None:
    """Wrong rate, wrong channels, audio of unknown format: refused at once, with the reason."""
    async with serving() as service, beside_a_good_client(service):
        async with service.connect() as connection:
            await connection.send(first)
            (error,) = await Peer(connection).hear_all()
        assert (error["type"], error["code"]) == ("error", code)
        assert connection.close_code == close_code


@in_a_loop
async def test_a_client_that_floods_after_its_error_still_learns_of_it() -> None:
    """The server throws away what follows, so that its error and its close can arrive."""
    async with serving() as service, beside_a_good_client(service):
        async with service.session() as bad:
            await bad.connection.send(bytes(5))
            with contextlib.suppress(ConnectionClosed):
                for _ in range(400):
                    await bad.connection.send(bytes(40_000))
            heard = await bad.hear_all()
        assert heard[-1]["code"] == "bad_payload"
        assert bad.close_code == 1007


@in_a_loop
async def test_a_message_beyond_the_limit_is_closed_with_1009() -> None:
    """Whole or in fragments; no more than the limit is ever kept."""
    async with (
        serving(limits=Limits(message_bytes=100_000)) as service,
        beside_a_good_client(service),
    ):
        for message in (bytes(100_004), "x" * 100_001, [bytes(40_000)] * 3):
            async with service.session() as bad:
                with contextlib.suppress(ConnectionClosed):
                    await bad.connection.send(message)
                await bad.hear_all()
                assert bad.close_code == 1009


@in_a_loop
async def test_text_that_is_not_unicode_is_closed_with_1007() -> None:
    """As the websocket standard has it."""
    async with serving() as service, beside_a_good_client(service), service.session() as bad:
        await bad.connection.send(b"\xff\xfe", text=True)
        await bad.hear_all()
        assert bad.close_code == 1007


@in_a_loop
async def test_nothing_is_left_of_a_session_that_is_over() -> None:
    """Sessions come and go for months: each, however it ended, must leave no memory behind."""
    async with serving() as service:
        left: list[weakref.ref[object]] = []
        for number in range(6):
            async with service.session() as peer:
                left += [weakref.ref(session) for session in service.server.sessions]
                left += [weakref.ref(session.line) for session in service.server.sessions]
                await peer.sing("a")
                if number % 3 == 0:
                    await peer.tell("finish")
                elif number % 3 == 1:
                    await peer.tell("nonsense")
                else:
                    peer.connection.transport.abort()
                await peer.hear_all()
            await empty(service, 0)
        await service.recognise("a")  # another round of everything that could still hold one
        gc.collect()
    assert len(left) == 12
    assert [reference() for reference in left] == [None] * 12


@in_a_loop
async def test_a_client_that_vanishes_frees_its_place() -> None:
    """Cut off in mid-message, without a close: the session is gone and the others go on."""
    async with serving(limits=Limits(sessions=2)) as service, beside_a_good_client(service):
        for _ in range(3):
            async with service.session() as bad:
                await bad.sing("ab")
                bad.connection.transport.abort()
            await empty(service, 1)


async def empty(service: Service, sessions: int) -> None:
    """Wait until the server holds no more than so many sessions."""
    server = service.server
    await until(lambda: max(len(server.sessions), len(server.reception.places)) <= sessions)


@in_a_loop
async def test_not_a_number_is_silence_and_is_counted() -> None:
    """NaN and infinities of a broken sound card do not spoil what follows."""
    samples = sing(SONG)
    broken = samples.copy()
    broken[[100, 5000]] = np.nan
    broken[[7000, 7001, 7002]] = [np.inf, -np.inf, 3e38]
    repaired = broken.copy()
    repaired[[100, 5000, 7000, 7001, 7002]] = 0
    async with serving() as service, beside_a_good_client(service), service.session() as peer:
        await peer.say(broken)
        await peer.tell("finish")
        heard = await peer.hear_all()
    assert heard[-1]["repaired"] == 5
    assert fields_heard(heard) == fields_of(alone(repaired))


@in_a_loop
async def test_too_much_audio_is_held_back_told_of_and_kept() -> None:
    """Beyond the bound the socket is not read; not one sample is dropped."""
    network = ToneNetwork()
    limits = Limits(queue_bytes=40_000, message_bytes=20_000)
    song = "abcd" * 10
    async with serving(recognizer(network), limits) as service, service.session() as peer:
        network.gate.clear()
        sender = asyncio.create_task(peer.sing(song))
        slow = await peer.hear_until("slow_down")
        (session,) = service.server.sessions
        assert 500 < slow["backlog_ms"] < 700  # 40 kB of f32le at 16 kHz are 625 ms
        assert backlog(session) <= 40_000 + 20_000
        network.gate.set()
        await sender
        await peer.tell("finish")
        heard = await peer.hear_all()
    assert fields_heard(heard) == fields_of(alone(sing(song)))
    assert heard[-1]["position"] == len(sing(song))


def backlog(session: Session) -> int:
    """Bytes that wait in a session's line."""
    assert session.line is not None
    return session.line.backlog_bytes


@in_a_loop
async def test_one_sample_at_a_time_is_bounded_too() -> None:
    """Each little message is counted at what it costs, and the words are the same."""
    network = ToneNetwork()
    limits = Limits(queue_bytes=40_000)
    song = "ab"
    async with serving(recognizer(network), limits) as service, service.session() as peer:
        network.gate.clear()
        sender = asyncio.create_task(peer.sing(song, 1))
        slow = await peer.hear_until("slow_down")
        assert slow["backlog_ms"] < 40
        network.gate.set()
        await sender
        await peer.tell("finish")
        assert fields_heard(await peer.hear_all()) == fields_of(alone(sing(song)))


def squeeze(transport: asyncio.BaseTransport, buffer: int) -> None:
    """Make the kernel hold little between a server and a client that does not read."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, 4096)


@in_a_loop
async def test_a_client_that_never_reads_is_given_up() -> None:
    """Its replies do not pile up: recognition waits, then the connection is cut."""
    limits = Limits(write_seconds=0.5, unread_messages=8)
    async with serving(limits=limits) as service, beside_a_good_client(service):
        async with service.connect(max_queue=1) as connection:
            bad = Peer(connection)
            await bad.start()
            squeeze(connection.transport, socket.SO_RCVBUF)
            for place in service.server.reception.places:
                squeeze(place.transport, socket.SO_SNDBUF)
            pings = json.dumps({"type": "ping", "id": "x" * 128})
            with contextlib.suppress(ConnectionClosed):
                while True:  # pongs fill the way back
                    for _ in range(100):
                        await connection.send(pings)
                    assert max(len(s.outbox) for s in service.server.sessions) <= 9
        await empty(service, 1)


@in_a_loop
async def test_a_client_that_reads_late_gets_everything() -> None:
    """Slow is not wrong: finals wait, partials may give way to newer ones, nothing is lost."""
    song = "ab c " * 3
    limits = Limits(unread_messages=4)
    async with serving(limits=limits) as service, service.connect(max_queue=1) as connection:
        peer = Peer(connection)
        await peer.start()
        squeeze(connection.transport, socket.SO_RCVBUF)
        await peer.sing(song)
        await peer.tell("finish")
        heard = await peer.hear_all()
    assert fields_heard(heard) == fields_of(alone(sing(song)))
    assert heard[-1]["type"] == "done"


@in_a_loop
async def test_a_client_that_never_starts_is_sent_away() -> None:
    """A place is for those who speak."""
    limits = Limits(start_seconds=0.2)
    async with serving(limits=limits) as service, service.connect() as connection:
        (error,) = await Peer(connection).hear_all()
    assert (error["code"], connection.close_code) == ("no_start", 1008)
    # Other protocols say the same, and have no `start`.
    assert error["message"] == (
        "nothing was sent within 0.2 s; send start, or what else the protocol begins with"
    )


@in_a_loop
async def test_a_silent_client_that_is_there_stays() -> None:
    """Nobody must talk: a muted microphone answers pings, and that is enough."""
    async with serving(limits=Limits(silent_seconds=0.05)) as service, service.session() as peer:
        (session,) = service.server.sessions
        first = session.watch.last_message
        await until(lambda: session.watch.last_message > first + 0.3)  # several pings and pongs
        await peer.sing(SONG)
        await peer.tell("finish")
        assert fields_heard(await peer.hear_all()) == fields_of(alone(sing(SONG)))


@in_a_loop
async def test_a_client_that_is_not_there_any_more_is_given_up() -> None:
    """A half-open connection (a laptop shut, a cable pulled) answers no ping."""
    limits = Limits(silent_seconds=0.1)
    async with (
        serving(limits=limits) as service,
        beside_a_good_client(service),
        service.session() as bad,
    ):
        bad.connection.transport.pause_reading()  # reads nothing, so answers nothing
        await empty(service, 1)
        bad.connection.transport.abort()


@in_a_loop
async def test_a_failure_of_recognition_is_its_own_sessions_alone() -> None:
    """The server's fault: error `internal`, close 1011; nobody else notices."""
    async with serving() as service, beside_a_good_client(service):
        async with service.session() as bad:
            await bad.sing("a!")
            await bad.tell("finish")
            heard = await bad.hear_all()
        assert heard[-1]["code"] == "internal"
        assert bad.close_code == 1011
