"""The example client does what its first lines say."""

from __future__ import annotations

import asyncio
import sys
import wave
from pathlib import Path

import pytest
import soundfile

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


@pytest.mark.parametrize("kind", ["float.wav", "talk.aiff", "empty.wav", "gone.wav"])
@in_a_loop
async def test_the_example_tells_in_one_line_what_it_cannot_read(kind: str, tmp_path: Path) -> None:
    """The module wave reads little, and says it in many ways."""
    path = tmp_path / kind
    if kind == "empty.wav":
        path.touch()
    elif kind != "gone.wav":
        soundfile.write(path, sing("ab"), RATE, "FLOAT" if kind == "float.wav" else None)
    code, out, err = await run(str(path), "ws://127.0.0.1:1")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"{path} to ws://127.0.0.1:1: ")


@in_a_loop
async def test_the_example_tells_in_one_line_that_nobody_is_there(tmp_path: Path) -> None:
    """No server, or another path of one."""
    recording = write(tmp_path / "speech.wav")
    async with serving() as service:
        refused = await run(recording, f"ws://127.0.0.1:{service.port}/nowhere")
    for code, out, err in (refused, await run(recording, service.url)):
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"{recording} to ws://127.0.0.1:")
