"""The end of a server: nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from server.limits import Limits
from tests.server.command import serve
from tests.server.sockets import Peer, fields_heard, fields_of, http_get, in_a_loop, serving, until
from tests.server.tones import ToneNetwork, alone, recognizer, sing

SONG = "ab c dd"


@in_a_loop
async def test_stopping_finishes_every_session_with_what_it_accepted() -> None:
    """Finals of all accepted audio, `done` with how far it went, close 1001."""
    async with serving() as service, service.session() as first, service.session() as second:
        for peer in (first, second):
            await peer.sing(SONG)
            await peer.tell("ping", id=1)
            heard = [await peer.hear()]
            while heard[-1]["type"] != "pong":
                heard.append(await peer.hear())
            peer.early = heard  # type: ignore[attr-defined]
        stopping = asyncio.create_task(service.server.stop())
        for peer in (first, second):
            heard = peer.early + await peer.hear_all()  # type: ignore[attr-defined]
            assert fields_heard(heard) == fields_of(alone(sing(SONG)))
            assert (heard[-1]["type"], heard[-1]["position"]) == ("done", len(sing(SONG)))
            assert peer.close_code == 1001
        await stopping


@in_a_loop
async def test_what_waits_when_the_server_stops_is_recognised_first() -> None:
    """A backlog is no excuse: `done.position` counts it, and its words are said."""
    network = ToneNetwork()
    async with serving(recognizer(network)) as service, service.session() as peer:
        network.gate.clear()
        await peer.sing(SONG)
        (session,) = service.server.sessions
        await until(lambda: session.line and session.line.backlog_ms >= 1000)
        stopping = asyncio.create_task(service.server.stop())
        await asyncio.sleep(0)
        network.gate.set()
        heard = await peer.hear_all()
        await stopping
    position = heard[-1]["position"]
    assert position >= 16_000
    assert fields_heard(heard) == fields_of(alone(sing(SONG)[:position]))


@in_a_loop
async def test_a_long_backlog_is_recognised_however_long_it_takes() -> None:
    """`finish_seconds` bounds how long nothing happens, and not the work that was accepted."""

    class Slow(ToneNetwork):
        def step(self, *args: Any) -> Any:
            time.sleep(0.05)
            return super().step(*args)

    async with (
        serving(recognizer(Slow()), Limits(finish_seconds=0.4)) as service,
        service.session() as peer,
    ):
        await peer.sing(SONG)
        (session,) = service.server.sessions
        await until(lambda: session.line and session.line.backlog_ms >= 1000)
        stopping = asyncio.create_task(service.server.stop())
        heard = await peer.hear_all()
        await stopping
    assert heard[-1]["type"] == "done"
    assert peer.close_code == 1001


@in_a_loop
async def test_sessions_that_have_not_begun_are_closed_too() -> None:
    """Nothing was accepted, so nothing is to be said."""
    async with serving() as service, service.connect() as connection:
        stopping = asyncio.create_task(service.server.stop())
        assert await Peer(connection).hear_all() == []
        assert connection.close_code == 1001
        await stopping


@in_a_loop
async def test_a_session_that_cannot_finish_does_not_hold_up_the_end() -> None:
    """After `finish_seconds` it is cut off."""
    network = ToneNetwork()
    limits = Limits(finish_seconds=0.2)
    async with serving(recognizer(network), limits) as service, service.session() as peer:
        network.gate.clear()
        await peer.sing("a")
        assert await asyncio.to_thread(network.stepping.wait, 30)
        stopping = asyncio.create_task(service.server.stop())
        assert (await peer.hear_all())[-1:] == []
        assert peer.close_code in {1006, None}
        network.gate.set()
        await stopping


@in_a_loop
async def test_nobody_is_let_in_while_the_server_stops() -> None:
    """The port is closed, or the answer is no."""
    network = ToneNetwork()
    async with serving(recognizer(network)) as service, service.session() as peer:
        network.gate.clear()
        await peer.sing("a")
        assert await asyncio.to_thread(network.stepping.wait, 30)
        stopping = asyncio.create_task(service.server.stop())
        await asyncio.sleep(0)
        with pytest.raises((OSError, InvalidStatus)):
            async with service.connect():
                pass
        network.gate.set()
        await peer.hear_all()
        await stopping


@in_a_loop
async def test_a_draining_server_lets_sessions_finish_by_themselves() -> None:
    """They are not hurried: what a client says during the drain is recognised as ever."""
    async with serving(limits=Limits(drain_seconds=60)) as service, service.session() as peer:
        await peer.sing("ab ")
        draining = asyncio.create_task(service.server.drain())
        await until(lambda: service.server.admission.draining)
        await peer.sing("c dd")
        await peer.tell("finish")
        heard = await peer.hear_all()
        assert fields_heard(heard) == fields_of(alone(np.concatenate((sing("ab "), sing("c dd")))))
        assert peer.close_code == 1000
        await draining  # as soon as nobody is there, long before the time is up


@in_a_loop
async def test_nobody_begins_a_session_during_the_drain() -> None:
    """503 before the upgrade; 1013 for who was let in and has not begun; balancers are told."""
    async with (
        serving(limits=Limits(drain_seconds=60)) as service,
        service.connect() as early,
        service.session() as peer,
    ):
        draining = asyncio.create_task(service.server.drain())
        (error,) = await Peer(early).hear_all()
        assert (error["code"], early.close_code) == ("unavailable", 1013)
        with pytest.raises(InvalidStatus) as caught:
            async with service.connect():
                pass
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["Retry-After"] == "5"
        assert (await http_get(service.port, "/readyz"))[0] == 503
        assert (await http_get(service.port, "/healthz"))[0] == 200
        await peer.tell("finish")
        await peer.hear_all()
        await draining


@in_a_loop
async def test_a_session_that_outlasts_the_drain_gets_its_last_words() -> None:
    """Not one accepted sample is lost: finals, `done`, 1001."""
    async with serving(limits=Limits(drain_seconds=0)) as service, service.session() as peer:
        await peer.sing(SONG)
        await peer.tell("ping")
        early = []
        while (message := await peer.hear())["type"] != "pong":
            early.append(message)
        await service.server.drain()
        stopping = asyncio.create_task(service.server.stop())
        heard = early + await peer.hear_all()
        await stopping
    assert fields_heard(heard) == fields_of(alone(sing(SONG)))
    assert (heard[-1]["type"], peer.close_code) == ("done", 1001)


@in_a_loop
async def test_a_connection_that_says_nothing_does_not_hold_up_the_end() -> None:
    """It could wait for `handshake_seconds`; nothing is lost with it."""
    async with serving() as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        await until(lambda: service.server.reception.handshakes)
        await asyncio.wait_for(service.server.stop(), 5)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_in_order(number: signal.Signals) -> None:
    """`asr serve` says where it listens, finishes its session, and exits with 0."""
    with serve("--drain-seconds", "0") as command:
        page = command.url.replace("ws", "http", 1).removesuffix("v1/stream")
        assert command.said == [f"listening on {command.url} (captions in a browser: {page})\n"]
        assert command.url.startswith("ws://127.0.0.1:")

        @in_a_loop
        async def talk() -> None:
            async with connect(command.url) as connection:
                peer = Peer(connection)
                await peer.start()
                await peer.sing(SONG)
                await peer.tell("ping")
                await peer.hear_until("pong")
                command.process.send_signal(number)
                heard = await peer.hear_all()
                assert heard[-1]["position"] == len(sing(SONG))
                assert peer.close_code == 1001

        talk()
        code, log = command.end()
        assert code == 0
        assert "draining sessions=1" in log
        assert not [line for line in log.splitlines() if line.startswith(("warning", "error"))]


def test_a_second_signal_ends_the_command_at_once() -> None:
    """Who is in a hurry need not wait for the sessions."""
    with serve("--drain-seconds", "600") as command:

        @in_a_loop
        async def talk() -> None:
            async with connect(command.url) as connection:
                peer = Peer(connection)
                await peer.start()
                command.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(command.read_until, "draining")
                command.process.send_signal(signal.SIGTERM)
                await peer.hear_all()
                assert peer.close_code in {1006, None}

        talk()
        assert command.end()[0] == -signal.SIGTERM


def test_a_public_address_is_warned_about() -> None:
    """No key, no encryption: whoever opens the port to the world is told so, in one line."""
    with serve("--host", "0.0.0.0") as command:  # noqa: S104
        warning, listening = command.said
        assert warning.startswith("warning: 0.0.0.0 can be reached from outside, without a key")
        assert listening.startswith("listening on ws://0.0.0.0:")
        command.process.terminate()
        assert command.end()[0] == 0
