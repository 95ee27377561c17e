"""`asr cut`: a manifest of long recordings in, one of short ones out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import soundfile

from asr import commands
from asr.manifest import read_utterances
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_manifest_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The pieces are read where the new manifest says that they are."""
    soundfile.write(tmp_path / "a.wav", tiny.sound(3, 0), 16000)
    row = {"audio": "a.wav", "text": "a be", "words": [["a", 0, 16000], ["be", 30000, 48000]]}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    out = tmp_path / "short.jsonl"
    arguments = ["cut", str(tmp_path / "m.jsonl"), str(out), "--seconds", "1.5"]
    assert commands.main(arguments) == 0
    assert "2 pieces of 1 row, 0.00 h" in capsys.readouterr().err
    utterances = read_utterances(out)
    assert [u.text for u in utterances] == ["a", "be"]
    assert sum(soundfile.info(u.path).frames for u in utterances) == 48000


def test_a_manifest_is_not_written_over_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its times took hours to find; another spelling of its name changes nothing."""
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "text": "a"}')
    again = tmp_path / ".." / tmp_path.name / "m.jsonl"
    assert commands.main(["cut", str(tmp_path / "m.jsonl"), str(again)]) == 2
    assert "would be overwritten" in capsys.readouterr().err


def test_a_bad_recording_is_named_once(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every command that reads a manifest; with its id where that is another name."""
    bad = {"audio": "gone.wav", "text": "an eye", "words": []}
    good = bad | {"audio": "a.wav", "words": [["an", 0, 16000], ["eye", 16000, 48000]]}
    soundfile.write(tmp_path / "a.wav", tiny.sound(3, 0), 16000)
    rows = [bad, bad | {"id": "u7"}, good]
    data, out = str(tmp_path / "m.jsonl"), str(tmp_path / "o.jsonl")
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for command in (
        ["align", data, out, "--model", model],
        ["cut", data, out],
        ["evaluate", data, "--model", model],
    ):
        assert commands.main(command) == 1
        told = capsys.readouterr().err
        assert told.count(f"{tmp_path / 'gone.wav'}: no such file") == 2
        assert told.count("gone.wav") == 2
        assert told.count("u7: ") == 1


def test_a_manifest_without_times_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, with the cure."""
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "text": "a"}')
    assert commands.main(["cut", str(tmp_path / "m.jsonl"), str(tmp_path / "o.jsonl")]) == 1
    assert "asr align finds the words' times" in capsys.readouterr().err
