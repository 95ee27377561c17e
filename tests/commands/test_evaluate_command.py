"""`asr evaluate` is what figures are quoted from: scripts and people read the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import soundfile

from asr import commands
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model that says many words."""
    return str(tiny.write_bundle(tmp_path_factory.mktemp("tiny")).path)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three recordings of two speakers."""
    rows = []
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", tiny.sound(2 + number, number), 16000)
        row = {"id": f"u{number}", "audio": f"{number}.wav", "text": "AN EYE, and cats"}
        rows.append(json.dumps(row | {"speaker": str(number % 2)}))
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(rows))
    return path


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """What `asr evaluate --json` prints."""
    assert commands.main(["evaluate", "--json", *arguments]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    found = json.loads(printed)
    assert isinstance(found, dict)
    return found


def test_json_has_every_promised_key(
    bundle: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts of others stop when a name disappears."""
    found = figures(capsys, str(manifest), "--model", bundle)
    promised = "wer cer substitutions deletions insertions words utterances audio_seconds rtf model"
    assert set(promised.split()) <= set(found)
    assert (found["model"], found["utterances"], found["words"]) == ("tiny-lstm", 3, 12)
    chunk_ms = found["chunk_ms"]
    assert isinstance(chunk_ms, dict)
    assert {"p50", "p95", "p99"} <= set(chunk_ms)
    errors = [found[name] for name in ("substitutions", "deletions", "insertions")]
    assert found["wer"] == sum(map(int, map(str, errors))) / 12


@pytest.mark.parametrize("chunk", ["7", "random", "whole"])
def test_chunks_change_no_error(
    bundle: str, manifest: Path, capsys: pytest.CaptureFixture[str], chunk: str
) -> None:
    """The law of chunking, seen from the command line with a real network."""
    names = ("wer", "cer", "substitutions", "deletions", "insertions", "audio_seconds")
    usual = figures(capsys, str(manifest), "--model", bundle)
    other = figures(capsys, str(manifest), "--model", bundle, "--chunk-ms", chunk, "--seed", "3")
    assert [usual[name] for name in names] == [other[name] for name in names]
    assert other["chunk"] == (int(chunk) if chunk.isdecimal() else chunk)


def test_details_tell_every_recording(
    bundle: str, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks why a rate is what it is reads the words; they add up to the whole."""
    details = tmp_path / "details.jsonl"
    arguments = [str(manifest), "--model", bundle, "--jobs", "2", "--details", str(details)]
    found = figures(capsys, *arguments)
    rows = [json.loads(line) for line in details.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["u0", "u1", "u2"]
    assert {row["reference"] for row in rows} == {"an eye and cats"}
    assert sum(row["substitutions"] for row in rows) == found["substitutions"]
    assert all(row["hypothesis"].split() == [word[0] for word in row["words"]] for row in rows)
    assert any(row["words"] for row in rows)


def test_a_bad_file_fails_the_command_and_leaves_the_figures(
    bundle: str, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code tells scripts; the line tells people which file; the others are measured."""
    (tmp_path / "1.wav").write_text("no sound")
    details = tmp_path / "details.jsonl"
    arguments = ["--json", "--model", bundle, "--details", str(details)]
    assert commands.main(["evaluate", str(manifest), *arguments]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["failed"] == 1
    assert json.loads(captured.out)["utterances"] == 2
    assert [line for line in captured.err.splitlines() if line.startswith("asr: u1: ")]
    assert "error" in json.loads(details.read_text().splitlines()[-1])


def test_the_table_shows_the_same_figures(
    bundle: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates in percent for people; progress stays out of the data."""
    found = figures(capsys, str(manifest), "--model", bundle, "--limit", "2")
    assert commands.main(["evaluate", str(manifest), "--model", bundle, "--limit", "2"]) == 0
    captured = capsys.readouterr()
    wer = found["wer"]
    assert isinstance(wer, float)
    assert f"WER               {100 * wer:.2f} %" in captured.out
    assert "8 words" in captured.out
    assert "2 of 2 recordings" in captured.err
    assert "recordings, WER" not in captured.out


def test_recordings_without_words_have_a_table_too(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate that does not exist is said to be none."""
    soundfile.write(tmp_path / "a.wav", tiny.sound(0, 0), 16000)
    (tmp_path / "a.txt").write_text("")
    assert commands.main(["evaluate", str(tmp_path), "--model", bundle]) == 0
    out = capsys.readouterr().out
    assert "WER               none" in out
    assert "chunk compute        none" in out


@pytest.mark.parametrize(
    "wrong",
    [
        ["--chunk-ms", "0"],
        ["--chunk-ms", "often"],
        ["--jobs", "0"],
        ["--limit", "-1"],
        ["--seed", "-1"],
        ["--precision", "int3"],
    ],
)
def test_wrong_usage_is_exit_code_2(wrong: list[str], manifest: Path) -> None:
    """Told at once, before anything is loaded."""
    with pytest.raises(SystemExit) as left:
        commands.main(["evaluate", str(manifest), *wrong])
    assert left.value.code == 2


@pytest.mark.parametrize("extra", [[], ["--details", "/nowhere/at/all"]])
def test_nothing_to_read_or_write_is_one_line(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    """And nothing on standard output that a script could take for figures."""
    data = tmp_path / "none.jsonl"
    if extra:
        data.write_text('{"audio": "a.wav", "text": ""}')
    assert commands.main(["evaluate", str(data), "--model", bundle, *extra]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("asr: ")
    assert captured.err.count("\n") == 1
