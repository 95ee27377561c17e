"""Music out of recorded notes: the same for the same seed, in tune, and read by the recipes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from asr.errors import DataError
from tests.training.test_found_speech import mirror, packed, tone
from training import orchestra
from training.augment import Augmenter
from training.found_speech import Repository
from training.generated import RATE
from training.orchestra import Orchestra, notes_of
from training.recipe import Augmentation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = [f"{name}{octave}" for octave in (3, 4) for name in orchestra.PITCHES]


def frequency(number: int) -> float:
    """Of one of `NAMES`."""
    return float(220 * 2 ** (number / 12))


def sounding(number: int, seconds: float = 2.0) -> np.ndarray:
    """A note of `NAMES` behind a tenth of a second of silence."""
    samples = np.arange(int(seconds * RATE)) / RATE
    return np.concatenate((np.zeros(RATE // 10), np.sin(2 * np.pi * frequency(number) * samples)))


def make_notes(folder: Path, **more: bytes) -> Path:
    """A mirror of a cello's notes."""
    notes: dict[str, bytes | str] = {
        f"audio/cello/cello_{name}_15_forte_arco-normal.mp3": packed(sounding(n), kind="MP3")
        for n, name in enumerate(NAMES)
    }
    mirror(folder, "some/notes", notes | {"README.md": b"Notes.", **more})
    return folder / "some+notes" / "repo"


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of notes."""
    return make_notes(tmp_path_factory.mktemp("notes"))


@pytest.fixture
def players(notes: Path) -> Iterator[Orchestra]:
    """Who can play them."""
    with Repository(notes, "HEAD") as repository:
        yield Orchestra(repository)


def test_names_tell_pitch_length_and_style() -> None:
    """Only what is held counts: no phrases, no strokes, nothing that is plucked or struck."""
    named = "audio/double bass/double-bass_As1_very-long_piano_arco-normal.mp3"
    paths = [
        named,
        "audio/cello/cello_A2_phrase_forte_arco-normal.mp3",
        "audio/cello/cello_A2_025_forte_arco-normal.mp3",
        "audio/cello/cello_A2_1_forte_pizz-normal.mp3",
        "audio/percussion/percussion_agogo-bells__long_forte_struck.mp3",
        "README.md",
    ]
    assert notes_of(paths) == {"double bass": [orchestra.Note(22, named)]}


def test_the_same_seed_is_the_same_piece(players: Orchestra) -> None:
    """As loud as half of full scale, and as long as was asked for."""
    first, again, other = (players.piece(np.random.default_rng(seed), 10.0) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    for piece in (first, other):
        assert piece.shape == (10 * RATE,)
        assert piece.dtype == np.float32
        assert np.abs(piece).max() == pytest.approx(0.5)


def test_notes_sound_at_their_pitch(players: Orchestra) -> None:
    """Whatever is played are tones of a scale, a little out of tune at most."""
    for seed in range(5):
        piece = players.piece(np.random.default_rng(seed), 20.0)
        power = np.abs(np.fft.rfft(piece)) ** 2
        hertz = np.fft.rfftfreq(len(piece), 1 / RATE)
        semitones = 12 * np.log2(np.maximum(hertz, 1) / 220)
        near = np.abs(semitones - np.rint(semitones)) < 0.3
        assert power[near].sum() > 0.85 * power.sum()
        strong = {int(k) % 12 for k in np.rint(semitones[power > 0.02 * power.max()])}
        assert len(strong) <= 7


def test_an_empty_file_is_silent(tmp_path: Path) -> None:
    """One of the real ones is; another that cannot be read has its name told."""
    empty, broken = (f"audio/tuba/tuba_C4_1_forte_{style}.mp3" for style in ("normal", "vibrato"))
    folder = make_notes(tmp_path, **{empty: b"", broken: b"no sound"})
    with Repository(folder, "HEAD") as repository:
        players = Orchestra(repository)
        assert not players._recorded(empty).any()  # noqa: SLF001 - what a piece is made of
        with pytest.raises(DataError, match=r"tuba_C4_1_forte_vibrato\.mp3: cannot be read"):
            players._recorded(broken)  # noqa: SLF001


def test_training_reads_what_it_writes(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the noises of another manifest, wherever that lies."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    soundfile.write(other / "rain.wav", tone(1.0), RATE)
    row = {"audio": "rain.wav", "kind": "rain", "split": "train"}
    (other / "noise.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.setattr(orchestra, "SECONDS", 3.0)
    out = tmp_path / "music"
    command = [str(notes), str(out), "--pieces", "2", "--commit", "HEAD"]
    command += ["--beside", str(other / "noise.jsonl")]
    assert orchestra.main(command) == 0
    augmenter = Augmenter(Augmentation(noise=str(out / "noise.jsonl"), wordless_probability=0.5))
    assert [len(noise) for noise in augmenter.noises] == [RATE, 3 * RATE, 3 * RATE]
    assert len(augmenter.voiceless) == 3


def test_what_is_wrong_is_told(
    tmp_path: Path, notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No notes, no repository, no manifest: one line each, and nothing is written."""
    mirror(tmp_path, "no/notes", {"README.md": b"Nothing."})
    empty = tmp_path / "no+notes" / "repo"
    (tmp_path / "bad.jsonl").write_text("{}\n")
    for command, told in (
        ([empty, tmp_path / "out"], "no notes named as Philharmonia's are"),
        ([tmp_path, tmp_path / "out"], "no git repository"),
        ([notes, tmp_path / "out", "--beside", tmp_path / "bad.jsonl"], "no readable manifest"),
    ):
        assert orchestra.main([*map(str, command), "--commit", "HEAD"]) == 1
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out" / "noise.jsonl").exists()
