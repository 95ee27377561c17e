"""`asr mic`: from a virtual sound card to words, until Ctrl-C or until the device is gone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import asr
from asr import audio, commands
from tests.tiny import sound
from tests.virtual_sound_card import SoundCard, sound_card, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def asleep() -> Iterator[SoundCard]:
    """A sound card that nobody uses yet."""
    with tempfile.TemporaryDirectory() as folder, sound_card(Path(folder)) as made:
        yield made


@pytest.fixture
def card(asleep: SoundCard) -> SoundCard:
    """A sound card that is awake."""
    asleep.hold_open()
    return asleep


class Listening:
    """A running `asr mic`.

    Attributes:
        process: it.
        out: file of its standard output.
        err: file of its standard error.
    """

    def __init__(self, card: SoundCard, folder: Path, *arguments: str) -> None:
        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "asr", "mic", *arguments],
                cwd=ROOT,
                env={**os.environ, **card.environment},
                stdout=out,
                stderr=err,
            )

    def said(self) -> str:
        """What it has written on standard error."""
        return self.err.read_text("utf-8")

    def heard(self) -> str:
        """What it has written on standard output."""
        return self.out.read_text("utf-8")


@contextmanager
def listening(card: SoundCard, folder: Path, *arguments: str) -> Iterator[Listening]:
    """An `asr mic` that has said that it listens; ended afterwards, come what may."""
    mic = Listening(card, folder, *arguments)
    try:
        assert until(lambda: "listening" in mic.said() or mic.process.poll() is not None)
        assert mic.process.poll() is None, mic.said()
        yield mic
    finally:
        mic.process.kill()
        mic.process.wait()


def test_what_is_played_is_what_is_transcribed(card, model, tmp_path):
    """Ctrl-C ends it; the last words come, and the audio kept has those very words in it."""
    kept = tmp_path / "kept.raw"
    speech = audio.to_s16le(sound(4.0, 3))
    with listening(card, tmp_path, "--model", model, "--raw", str(kept)) as mic:
        assert card.play(speech).wait(20) == 0
        assert until(lambda: speech in kept.read_bytes() or mic.process.poll() is not None)
        mic.process.send_signal(signal.SIGINT)
        assert mic.process.wait(20) == 0
    recorded = audio.from_s16le(kept.read_bytes())
    assert speech in kept.read_bytes()
    expected = asr.load(model).transcribe(recorded)
    assert len(expected.words) > 3
    assert mic.heard() == "".join(f"{segment.text}\n" for segment in expected.segments)
    assert re.search(r"asr transcribe --raw 16000 \S+kept.raw\n$", mic.said())
    assert "lost" not in mic.said()


@pytest.fixture
def server(model: str, tmp_path: Path) -> Iterator[str]:
    """Address of a running `asr serve`."""
    log = tmp_path / "server"
    arguments = ["serve", "--port", "0", "--model", model]
    with log.open("wb") as err:
        process = subprocess.Popen([sys.executable, "-m", "asr", *arguments], cwd=ROOT, stderr=err)
    try:
        assert until(lambda: b"listening on " in log.read_bytes() or process.poll() is not None)
        found = re.search(r"listening on (\S+)", log.read_text())
        assert found, log.read_text()
        yield found[1]
    finally:
        process.terminate()
        process.wait()


def test_a_server_hears_what_the_microphone_hears(card, server, model, tmp_path):
    """The same words as with the model here, and Ctrl-C brings the last ones from there, too."""
    kept = tmp_path / "kept.raw"
    speech = audio.to_s16le(sound(4.0, 3))
    with listening(card, tmp_path, "--url", server, "--raw", str(kept)) as mic:
        assert card.play(speech).wait(20) == 0
        assert until(lambda: speech in kept.read_bytes() or mic.process.poll() is not None)
        mic.process.send_signal(signal.SIGINT)
        assert mic.process.wait(20) == 0
    expected = asr.load(model).transcribe(audio.from_s16le(kept.read_bytes()))
    assert mic.heard() == "".join(f"{segment.text}\n" for segment in expected.segments)


def test_a_device_that_disappears_leaves_the_words_until_then(card, model, tmp_path):
    """One clear line and exit code 1; the text is not lost."""
    kept = tmp_path / "kept.raw"
    with listening(card, tmp_path, "--model", model, "--raw", str(kept)) as mic:
        card.play(audio.to_s16le(sound(3.0, 3)))
        assert until(lambda: bool(mic.heard()))
        card.kill()
        assert mic.process.wait(20) == 1
    expected = asr.load(model).transcribe(audio.from_s16le(kept.read_bytes()))
    assert mic.heard().split() == [word.text for word in expected.words]
    *before, last = mic.said().splitlines()
    assert re.fullmatch(r"asr: microphone 'default' disappeared .* --list", last)
    assert [line.split()[0] for line in before] == [
        "opening",
        "listening;",
    ]  # not PortAudio's notes


@pytest.mark.usefixtures("asleep")
def test_the_list_is_data(capsys):
    """On standard output, the chosen one marked."""
    assert commands.main(["mic", "--list"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^\* +\d+ default \(\d+ channels?, \d+ Hz\)$", out, re.MULTILINE)
    assert err == ""


@pytest.mark.usefixtures("asleep")
def test_a_device_that_is_not_there_is_one_line(model, capsys):
    """Before a model is loaded or a file written."""
    assert commands.main(["mic", "--device", "webcam", "--model", model]) == 1
    assert capsys.readouterr().err.startswith("asr: microphone 'webcam': no such device; there are")


@pytest.mark.usefixtures("asleep")
def test_a_file_that_cannot_be_written_is_one_line(model, capsys, tmp_path):
    """Said before the first word is spoken in vain."""
    assert commands.main(["mic", "--raw", str(tmp_path), "--model", model]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_ends_it_with_one_line(card, model, tmp_path):
    """Exit code 1 and the reason, instead of audio that is silently not kept."""
    mic = Listening(card, tmp_path, "--model", model, "--raw", "/dev/full")
    try:
        assert mic.process.wait(30) == 1
    finally:
        mic.process.kill()
    assert mic.said().splitlines()[-1].startswith("asr: /dev/full: cannot be written (No space")
