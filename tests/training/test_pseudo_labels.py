"""Words by a model as a manifest: what is believed, what is left out, and what is no transcript."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError
from asr.manifest import read_manifest
from asr.transcript import Final, Transcript, Word
from asr.writers import json_line
from training.pseudo_labels import FEWEST_WORDS, labelled, main

if TYPE_CHECKING:
    from pathlib import Path

CONFIDENCE = st.floats(0, 1).map(lambda value: round(value, 4))


def hear(folder: Path, name: str, *confidences: float, seconds: float = 2.0) -> None:
    """A transcript as `asr transcribe` writes it, of as many words as there are confidences."""
    words = tuple(
        Word("word", 1000 * n, 1000 * (n + 1), confidence)
        for n, confidence in enumerate(confidences)
    )
    finals = (Final(0, words, "finish", 16000),) if words else ()
    line = json_line(Transcript(finals, 16000, round(16000 * seconds)), str(folder / f"{name}.wav"))
    path = folder / "heard" / "deep" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line, "utf-8")


@given(st.lists(st.lists(CONFIDENCE, max_size=8), min_size=1, max_size=5), CONFIDENCE)
def test_all_that_is_believed_is_there_and_all_else_is_counted(
    tmp_path_factory: pytest.TempPathFactory, heard: list[list[float]], least: float
) -> None:
    """A recording is in the manifest, or among the reasons; in the manifest by its mean alone."""
    folder = tmp_path_factory.mktemp("heard")
    for n, confidences in enumerate(heard):
        hear(folder, f"r{n}", *confidences)
    found = labelled(folder / "heard", least)
    wanted = [
        f"r{n}" for n, c in enumerate(heard) if len(c) >= FEWEST_WORDS and sum(c) / len(c) >= least
    ]
    assert [row["id"] for row in found.rows] == wanted
    assert len(found.rows) + found.left_out.total() == len(heard)
    assert found.seconds == 2.0 * len(wanted)


def test_the_manifest_leads_from_its_own_folder_to_the_recordings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training reads it wherever it is started."""
    hear(tmp_path, "good", 0.9, 0.9, 0.9)
    hear(tmp_path, "poor", 0.9, 0.5, 0.9)
    hear(tmp_path, "mumbled", 0.9, 0.9, 0.9, seconds=60)
    hear(tmp_path, "quiet")
    (tmp_path / "data").mkdir()
    out = tmp_path / "data" / "words.jsonl"
    assert main([str(tmp_path / "heard"), str(out), "--confidence", "0.8"]) == 0
    (utterance,) = read_manifest(out)
    assert utterance.path.resolve() == tmp_path / "good.wav"
    assert utterance.text == "word word word"
    assert json.loads(out.read_text())["confidence"] == 0.9
    told = capsys.readouterr().out
    assert told.startswith(f"{out}: 1 recording, 0.00 h\n")
    assert told.count("left out: 1 ×") == 3


@pytest.mark.parametrize("content", ["", "[]", '{"segments": 1}', '{"segments": []}', "\udcff"])
def test_what_is_no_transcript_is_named(tmp_path: Path, content: str) -> None:
    """Another tool's JSON must not become a manifest of silence."""
    hear(tmp_path, "good", 0.9, 0.9, 0.9)
    (tmp_path / "heard" / "bad.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"bad\.json: no transcript of asr transcribe"):
        labelled(tmp_path / "heard", 0.5)


def test_nothing_to_believe_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no manifest is written."""
    out = tmp_path / "words.jsonl"
    assert main([str(tmp_path), str(out)]) == 1
    assert "no transcript (*.json) in it" in capsys.readouterr().err
    hear(tmp_path, "poor", 0.1, 0.1, 0.1)
    assert main([str(tmp_path / "heard"), str(out)]) == 1
    assert "lower --confidence" in capsys.readouterr().err
    assert not out.exists()
