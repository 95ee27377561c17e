"""Several processes behind one port: one dies and is replaced, all of them end in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect

from tests.server.command import PATIENCE, ROOT, Command, serve
from tests.server.sockets import Peer, fields_heard, fields_of, http_get, in_a_loop
from tests.server.tones import alone, sing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SONG = "ab c"
WORKERS = ("--workers", "2", "--log-format", "json")


def events(command: Command, message: str) -> list[dict[str, Any]]:
    """What it logged under that message so far."""
    said = [json.loads(line) for line in command.said]
    return [event for event in said if event["message"] == message]


@contextlib.asynccontextmanager
async def on_each_worker(command: Command) -> AsyncIterator[dict[int, Peer]]:
    """A session that has begun on every worker, by process id."""
    async with contextlib.AsyncExitStack() as stack:
        peers: dict[int, Peer] = {}
        while len(peers) < 2:
            peer = Peer(await stack.enter_async_context(connect(command.url, compression=None)))
            await asyncio.to_thread(command.read_until, "session opened")
            peers[events(command, "session opened")[-1]["process"]] = peer
            await peer.start()
        yield peers


async def figure(command: Command, name: str) -> float:
    """What `/metrics` tells."""
    body = (await http_get(command.port, "/metrics"))[2]
    return float(next(line for line in body.splitlines() if line.startswith(f"{name} ")).split()[1])


async def said_all(peer: Peer) -> list[dict[str, Any]]:
    """Sing, and wait until all is recognised: what was heard by then."""
    await peer.sing(SONG)
    await peer.tell("ping")
    heard = []
    while (message := await peer.hear())["type"] != "pong":
        heard.append(message)
    return heard


def test_a_worker_that_dies_is_replaced_and_takes_nobody_along() -> None:
    """Its own sessions are cut off; the others' words are as ever, and figures go on."""
    with serve(*WORKERS) as command:

        @in_a_loop
        async def talk() -> None:
            async with on_each_worker(command) as peers:
                assert await figure(command, "asr_workers_ready") == 2
                opened = len(events(command, "session opened"))
                while await figure(command, "asr_sessions_opened_total") < opened:
                    pass  # a session counts when its first answer has left
                (doomed, unlucky), (_, lucky) = peers.items()
                os.kill(doomed, signal.SIGKILL)
                assert await unlucky.hear_all() == []
                assert unlucky.close_code in {1006, None}
                await asyncio.to_thread(command.read_until, "worker died")
                await lucky.sing(SONG)
                await lucky.tell("finish")
                assert fields_heard(await lucky.hear_all()) == fields_of(alone(sing(SONG)))
            while await figure(command, "asr_workers_ready") < 2:
                pass
            assert await figure(command, "asr_worker_restarts_total") == 1
            assert await figure(command, "asr_sessions_opened_total") == opened
            async with on_each_worker(command) as peers:
                assert doomed not in peers

        talk()
        command.process.terminate()
        assert command.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_all_workers_finish_their_sessions_when_told_or_left_alone(number: signal.Signals) -> None:
    """One signal to the supervisor is enough; and if it is killed itself, its workers drain."""
    with serve(*WORKERS, "--drain-seconds", "0", "--resume-seconds", "1") as command:

        @in_a_loop
        async def talk() -> None:
            async with on_each_worker(command) as peers:
                heard = {process: await said_all(peer) for process, peer in peers.items()}
                command.process.send_signal(number)
                for process, peer in peers.items():
                    heard[process] += await peer.hear_all()
                    assert fields_heard(heard[process]) == fields_of(alone(sing(SONG)))
                    assert peer.close_code == 1001

        talk()
        assert command.end()[0] == (0 if number == signal.SIGTERM else -number)


def test_a_second_signal_ends_all_workers_at_once() -> None:
    """None is left behind."""
    with serve(*WORKERS, "--drain-seconds", "600") as command:

        @in_a_loop
        async def talk() -> None:
            async with on_each_worker(command) as peers:
                command.process.terminate()
                await asyncio.to_thread(command.read_until, "draining")
                command.process.terminate()
                for peer in peers.values():
                    await peer.hear_all()
                    assert peer.close_code in {1006, None}

        talk()
        assert command.end()[0] == -signal.SIGTERM


SUPERVISE = """
import contextlib, os, signal, sys
from server.logs import configure
from server.metrics import Board
from server.workers import Supervisor

when = sys.argv[1]
waits, opens = os.pipe()
fork = os.fork

class Unlucky(Supervisor):
    "The second worker reports and dies just when the death of the first is looked at."
    burying = opened = False
    def _bury(self):
        self.burying = True
        super()._bury()
        self.burying = False
    def _on_reports(self):
        super()._on_reports()
        if when == "at once" and self.burying and not self.opened:
            self.opened = True
            os.write(opens, bytes(99))
            for child in list(self._workers):
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)

def fork_and_end():
    child = fork()
    if not child:
        os.kill(os.getpid(), signal.SIGTERM)
    return child

def work(number, ready, lifeline):
    if when == "at once" and number == 1:
        os.read(waits, 1)
    if when in {"late", "at once"}:
        ready()
    return 3

if when == "told":
    os.fork = fork_and_end
configure("human")
sys.exit(Unlucky(2, work, Board(2), lambda: None, 5.0).run())
"""


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("early", "a worker cannot start"),
        ("told", "a worker cannot start"),  # ended before it had handlers of its own
        ("late", "died within a minute"),
        ("at once", "died within a minute"),
    ],
)
def test_workers_that_keep_dying_are_given_up(when: str, expected: str) -> None:
    """No machine is kept busy by something that cannot work; the exit code tells."""
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISE, when],
        cwd=ROOT,
        timeout=PATIENCE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{expected}; giving up" in done.stderr
    assert done.returncode == 1
    assert done.stderr.count("worker died; it is replaced") <= 4
