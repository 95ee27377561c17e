"""`asr align`: a manifest in, a manifest with times out, which the other commands read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import soundfile

from asr import commands
from asr.manifest import read_utterances
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three recordings in a folder of their own, one with a word that no unit writes."""
    (tmp_path / "in").mkdir()
    rows = []
    for number, text in enumerate(("AN EYE", "cats be far", "an xylophone")):
        soundfile.write(tmp_path / f"in/{number}.wav", tiny.sound(2, number), 16000)
        rows.append(json.dumps({"audio": f"{number}.wav", "text": text, "id": f"u{number}"}))
    path = tmp_path / "in/m.jsonl"
    path.write_text("\n".join(rows))
    return path


def test_a_manifest_comes_back_with_times(
    model: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Readable where it lies, with the words' times; what has none is named and no failure."""
    out = manifest.parent.parent / "aligned.jsonl"
    assert commands.main(["align", str(manifest), str(out), "--model", model]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2 of 3 rows aligned" in captured.err
    assert "u2: xylophone" in captured.err
    assert "1 word cannot be written: xylophone (1)" in captured.err
    utterances = read_utterances(out)
    assert all(utterance.path.exists() for utterance in utterances)
    assert [[word for word, _, _ in u.words] for u in utterances] == [
        ["AN", "EYE"],
        ["cats", "be", "far"],
        [],
    ]
    assert all(end <= 32_000 for u in utterances for _, _, end in u.words)


def test_what_was_aligned_is_measured(
    model: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The way of the figure: align, then evaluate; words that were heard have a latency."""
    said = manifest.parent / "said.jsonl"
    arguments = [str(manifest.parent / f"{number}.wav") for number in range(2)]
    assert commands.main(["transcribe", "--model", model, "--format", "json", *arguments]) == 0
    heard = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [{"audio": f"{n}.wav", "text": row["text"]} for n, row in enumerate(heard)]
    said.write_text("\n".join(map(json.dumps, rows)))
    out = manifest.parent / "aligned.jsonl"
    assert commands.main(["align", str(said), str(out), "--model", model, "--limit", "2"]) == 0
    capsys.readouterr()
    assert commands.main(["evaluate", str(out), "--model", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["wer"] == 0
    assert found["emission_ms"]["words"] == found["words"] > 3
    assert found["emission_ms"]["p50"] <= found["emission_ms"]["p95"]
    assert found["emission_first_ms"]["p50"] <= found["emission_ms"]["p50"]
    assert found["emission_ms"]["p50"] <= found["emission_stable_ms"]["p50"]
    assert commands.main(["evaluate", str(out), "--model", model]) == 0
    table = capsys.readouterr().out
    assert f"of {found['words']} words" in table
    assert f"  end to shown    {found['emission_first_ms']['p50']:9.2f}" in table
    assert f"  shown for good  {found['emission_ms']['p50']:9.2f}" in table


def test_a_recording_that_cannot_be_read_fails_the_command(
    model: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its row is kept without times, the others have them, and the exit code tells scripts."""
    (manifest.parent / "0.wav").write_text("no sound")
    out = manifest.parent / "aligned.jsonl"
    assert commands.main(["align", str(manifest), str(out), "--model", model]) == 1
    assert "0.wav" in capsys.readouterr().err
    assert ["words" in json.loads(line) for line in out.read_text().splitlines()] == [
        False,
        True,
        False,
    ]


def test_a_manifest_is_not_written_over_itself(
    model: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The times that it had would be lost, and with `--limit` all further rows."""
    before = manifest.read_bytes()
    arguments = ["align", str(manifest), str(manifest), "--limit", "1", "--model", model]
    assert commands.main(arguments) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert manifest.read_bytes() == before


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (["--head", "phones"], "no head 'phones'"),
        (["--lexicon", "none.txt"], "no head of phones"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    model: str, manifest: Path, capsys: pytest.CaptureFixture[str], extra: list[str], complaint: str
) -> None:
    """And nothing is written."""
    out = manifest.parent / "aligned.jsonl"
    assert commands.main(["align", str(manifest), str(out), "--model", model, *extra]) == 1
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.err.count("\n") == 1
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_named(
    model: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, before the work."""
    assert commands.main(["align", str(manifest), "/nowhere/at/all", "--model", model]) == 1
    assert "/nowhere/at/all: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--jobs", "0"], ["--limit", "x"], ["--precision", "int3"]])
def test_wrong_usage_is_exit_code_2(wrong: list[str]) -> None:
    """Told at once."""
    with pytest.raises(SystemExit) as left:
        commands.main(["align", "a", "b", *wrong])
    assert left.value.code == 2
