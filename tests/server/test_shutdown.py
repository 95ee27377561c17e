"""The end of a server: nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from server.limits import Limits
from tests.server.sockets import Peer, fields_heard, fields_of, in_a_loop, serving, until
from tests.server.tones import ToneNetwork, alone, recognizer, sing

ROOT = Path(__file__).parents[2]
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
async def test_sessions_that_have_not_begun_are_closed_too() -> None:
    """Nothing was accepted, so nothing is to be said."""
    async with serving() as service, service.connect() as connection:
        stopping = asyncio.create_task(service.server.stop())
        assert await Peer(connection).hear_all() == []
        assert connection.close_code == 1001
        await stopping


@in_a_loop
async def test_a_session_that_cannot_finish_does_not_hold_up_the_end() -> None:
    """After `drain_seconds` it is cut off."""
    network = ToneNetwork()
    limits = Limits(drain_seconds=0.2)
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


COMMAND = """
import sys
import asr
from asr.commands import serve
from tests.server.tones import recognizer
import argparse
asr.load = lambda *args, **kwargs: recognizer()
parser = argparse.ArgumentParser()
serve.add_arguments(parser)
sys.exit(serve.run(parser.parse_args(sys.argv[1:])))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_in_order(number: signal.Signals) -> None:
    """`asr serve` says where it listens, finishes its session, and exits with 0."""
    command = [sys.executable, "-c", COMMAND, "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("listening on ws://127.0.0.1:")

        @in_a_loop
        async def talk() -> None:
            from websockets.asyncio.client import connect

            async with connect(line.split()[-1]) as connection:
                peer = Peer(connection)
                await peer.start()
                await peer.sing(SONG)
                await peer.tell("ping")
                await peer.hear_until("pong")
                process.send_signal(number)
                heard = await peer.hear_all()
                assert heard[-1]["position"] == len(sing(SONG))
                assert peer.close_code == 1001

        talk()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_a_public_address_is_warned_about() -> None:
    """No key, no encryption: whoever opens the port to the world is told so."""
    command = [sys.executable, "-c", COMMAND, "--port", "0", "--host", "0.0.0.0"]  # noqa: S104
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("warning: 0.0.0.0 can be reached from outside")
        assert process.stderr.readline().startswith("listening on ws://0.0.0.0:")
        process.terminate()
        assert process.wait(30) == 0
