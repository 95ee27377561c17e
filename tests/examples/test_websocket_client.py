"""The example client does what its first lines say."""

from __future__ import annotations

import asyncio
import sys
import wave
from pathlib import Path

from asr.audio import to_s16le
from tests.server.sockets import in_a_loop, serving
from tests.server.tones import RATE, sing

EXAMPLE = Path(__file__).parents[2] / "examples/websocket_client.py"


async def run(*arguments: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors of the example."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), *arguments, stdout=pipe, stderr=pipe
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def write(path: Path, channels: int = 1) -> str:
    """A short recording."""
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(channels)
        recording.setsampwidth(2)
        recording.setframerate(RATE)
        recording.writeframes(to_s16le(sing("ab")))
    return str(path)


@in_a_loop
async def test_the_example_prints_words_as_they_come(tmp_path: Path) -> None:
    """Partials with their stable and tentative parts, then the final."""
    async with serving() as service:
        code, out, err = await run(write(tmp_path / "speech.wav"), service.url)
    assert (code, err) == (0, "")
    *partials, final = out.splitlines()
    assert final == "a b"
    # On a busy machine a partial may give way to the next one.
    assert partials == [line for line in ("   [a]", "  a [b]") if line in partials]


@in_a_loop
async def test_the_example_refuses_what_it_cannot_send(tmp_path: Path) -> None:
    """With one line."""
    code, out, err = await run(write(tmp_path / "stereo.wav", 2), "ws://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err == f"{tmp_path}/stereo.wav: not 16-bit mono; convert it first\n"
