"""Sessions that outlive the process which served them: real servers, a real Redis, real SIGKILL."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import pytest

from asr.client import transcribe
from asr.errors import ConfigError
from asr.transcript import Transcript
from server.limits import Limits
from server.resume import SECRET_VARIABLE, keep_in, read_secret
from tests.server import command
from tests.server.caller import Caller
from tests.server.redises import needs_redis, running_redis
from tests.server.sockets import fields_heard, fields_of, in_a_loop
from tests.server.tones import alone, sing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asr.resampling import Samples
    from tests.server.command import Command

SONG = "ab c  dd a bcd  a"
SECRET = {SECRET_VARIABLE: "s" * 32}


@needs_redis
def test_killed_servers_lose_no_word() -> None:
    """Two are killed in mid-word: one whose client goes elsewhere, one that is started again.

    In the second case `asr transcribe --url` comes back by itself.
    """
    samples, notices = sing(SONG), list[str]()
    with running_redis() as redis, contextlib.ExitStack() as servers:
        arguments = ["--store", redis.url]
        first = servers.enter_context(command.serve(*arguments, **SECRET))
        second = servers.enter_context(command.serve(*arguments, **SECRET))
        caller = Caller(SONG)
        kill_in_the_midst(first, caller, 31_000)
        end_with(second, caller)
        assert fields_heard(caller.finals) == fields_of(alone(samples))

        def chunks() -> Iterator[Samples]:
            for place in range(0, len(samples), 1600):
                if place == 32_000:
                    second.process.send_signal(signal.SIGKILL)
                    second.process.wait()
                    again = command.serve(*arguments, "--port", str(second.port), **SECRET)
                    servers.enter_context(again)
                yield samples[place : place + 1600]

        said, _ = transcribe(second.url, chunks(), 16_000, notice=notices.append)
    assert said == Transcript(alone(samples), 16_000, len(samples))
    assert len(notices) == 1


@in_a_loop
async def kill_in_the_midst(server: Command, caller: Caller, place: int) -> None:
    """Send up to a place, hear half of what is said, and kill the server."""
    async with caller.call(server.url) as peer:
        await caller.send(peer, place)
        await caller.hear_some(peer, "half heard")
        server.process.send_signal(signal.SIGKILL)
        await peer.hear_all()


@in_a_loop
async def end_with(server: Command, caller: Caller) -> None:
    """Say the rest."""
    async with caller.call(server.url) as peer:
        await caller.finish(peer)


def test_a_store_needs_a_secret_and_a_secret_a_store(tmp_path: Path) -> None:
    """What would not work is refused at once, with its cure."""
    with pytest.raises(ConfigError, match=r"--resume-secret FILE, or ASR_RESUME_SECRET; openssl"):
        read_secret(None, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        read_secret(tmp_path / "none", {})
    file = tmp_path / "secret"
    file.write_text("short\n")
    with pytest.raises(ConfigError, match="has 5 bytes"):
        keep_in("redis://127.0.0.1", read_secret(file, {}), Limits())
    assert read_secret(None, {SECRET_VARIABLE: " x "}) == b"x"
