"""`asr transcribe --url` against `asr serve`, as processes of their own, as people use them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import soundfile

from tests.server.command import PATIENCE, ROOT, serve
from tests.server.tones import RATE, sing

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("partials", [True, False])
def test_who_stops_reading_gets_no_noise(tmp_path: Path, *, partials: bool) -> None:
    """`| head -1`: its line, then nothing on standard error, and the exit code of a failed job."""
    path = tmp_path / "song.wav"
    soundfile.write(path, sing("a b c d " * 5), RATE)
    wanted = ["--partials"] if partials else []
    with serve() as command:
        arguments = [sys.executable, "-m", "asr", "transcribe", str(path), "--url", command.url]
        with subprocess.Popen(
            [*arguments, *wanted],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "a\n"
            process.stdout.close()
            noise = [line for line in process.stderr if not line.endswith("]\n")]
            assert noise == []
            assert process.wait(PATIENCE) == 1
