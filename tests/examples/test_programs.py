"""The example programs run, and do what their first lines say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import asr
from asr import audio
from asr.demo import RECORDING
from tests.tiny import sound, write_bundle
from tests.virtual_sound_card import sound_card

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model, whose words are nonsense."""
    return str(write_bundle(tmp_path_factory.mktemp("tiny"), "gru").path)


def run(name: str, *arguments: str, **variables: str) -> str:
    """What the example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_words_with_times(model):
    """A line a word, times within the recording."""
    expected = asr.load(model).transcribe(RECORDING)
    lines = run("words_with_times.py", str(RECORDING), model).splitlines()
    assert [line.split()[2] for line in lines] == [word.text for word in expected.words]
    assert all(float(line.split()[1]) <= expected.duration / 16000 for line in lines)


def test_words_as_they_come(model):
    """Lines that grow, then what is final."""
    text = run("words_as_they_come.py", str(RECORDING), model)
    expected = asr.load(model).transcribe(RECORDING)
    finals = re.findall(r"^final \d+: (.*)$", text, re.MULTILINE)
    assert finals == [segment.text for segment in expected.segments]
    assert len(re.findall(r"^ +\d+\.\d s  .*\[.*\]$", text, re.MULTILINE)) > 10


def test_stop_and_go_on(model):
    """The same words as in one piece."""
    text = run("stop_and_go_on.py", str(RECORDING), model)
    assert asr.load(model).transcribe(RECORDING).text in text
    assert text.endswith("the same as in one piece: True\n")


@pytest.mark.parametrize(
    "name",
    [
        "words_with_times.py",
        "words_as_they_come.py",
        "stop_and_go_on.py",
        "microphone_to_subtitles.py",
    ],
)
def test_what_is_not_there_is_one_line(name, model, tmp_path):
    """A recording, or a microphone."""
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    arguments = ["1" if "microphone" in name else "gone.wav", model]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{EXAMPLES.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.match(r"gone\.wav: no such file|.*PortAudio", done.stderr)
    assert done.stderr.count("\n") == 1


def test_microphone_to_subtitles(model):
    """Through a virtual sound card: numbered subtitles of what was played."""
    with tempfile.TemporaryDirectory() as folder, sound_card(Path(folder)) as card:
        card.hold_open()
        player = card.play(audio.to_s16le(sound(20.0, 3)))
        text = run("microphone_to_subtitles.py", "3", model, **card.environment)
        player.kill()
        player.wait()
    assert re.match(r"1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n\w+", text)
