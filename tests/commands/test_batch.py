"""`asr transcribe --output DIR`: what is done stays done, and nothing is done twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from asr import commands
from tests.tiny import sound


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """A folder of four recordings, one of them no audio."""
    folder = tmp_path / "talks"
    (folder / "b").mkdir(parents=True)
    for number, name in enumerate(("a.wav", "b/a.wav", "c.wav")):
        soundfile.write(folder / name, sound(2.0, number), 16000)
    (folder / "damaged.wav").write_bytes(b"nothing" * 100)
    return folder


def transcribe(*arguments: object) -> int:
    """The command's exit code."""
    return commands.main(["transcribe", *map(str, arguments)])


def written(folder: Path) -> dict[str, bytes]:
    """All transcripts of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.json"))
    }


def test_processes_write_what_one_writes(talks, model, tmp_path, capsys):
    """To the byte; what cannot be read is named and counted, and the others go on."""
    outputs = []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        arguments = ("--output", folder, "--format", "json", "--model", model, "--jobs", jobs)
        assert transcribe(talks, talks / "gone.wav", *arguments) == 1
        outputs.append(written(folder))
        err = capsys.readouterr().err
        assert re.search(r"damaged\.wav: not audio", err)
        assert re.search(r"gone\.wav: no such file", err)
        last = err.splitlines()[-1]
        assert re.fullmatch(
            r"asr: 5 recordings: 3 written \(6 s of audio at .* real time\), 2 failed", last
        )
    assert outputs[0] == outputs[1]
    assert list(outputs[0]) == ["a.json", "b/a.json", "c.json"]
    assert all(b'"words"' in content for content in outputs[0].values())


def test_a_second_call_does_what_is_missing(talks, model, tmp_path, capsys):
    """Deleted, changed and failed ones; the others are not touched."""
    folder = tmp_path / "out"
    arguments = (talks, "--output", folder, "--format", "json", "--model", model)
    assert transcribe(*arguments) == 1
    before = written(folder)
    kept = (folder / "c.json").stat().st_ino
    (folder / "a.json").unlink()
    soundfile.write(talks / "damaged.wav", sound(1.0, 9), 16000)
    soundfile.write(talks / "b/a.wav", sound(3.0, 8), 16000)
    capsys.readouterr()
    assert transcribe(*arguments) == 0
    assert "4 recordings: 3 written" in (err := capsys.readouterr().err)
    assert "1 already there" in err
    after = written(folder)
    assert (folder / "c.json").stat().st_ino == kept
    assert list(after) == ["a.json", "b/a.json", "c.json", "damaged.json"]
    assert after["a.json"] == before["a.json"]
    assert after["b/a.json"] != before["b/a.json"]
    assert transcribe(*arguments) == 0
    assert "0 written (0 s" in capsys.readouterr().err


def test_recordings_that_differ_by_their_extension_keep_it(talks, model, tmp_path, capsys):
    """A folder may hold a talk in two formats; the next call finds both again."""
    (talks / "damaged.wav").unlink()
    for name in ("c.flac", "c.wav.ogg"):
        soundfile.write(talks / name, sound(1.0, 7), 16000)
    arguments = (talks, "--output", tmp_path / "out", "--format", "json", "--model", model)
    assert transcribe(*arguments) == 0
    there = ["a.json", "b/a.json", "c.flac.json", "c.wav.json", "c.wav.ogg.json"]
    assert list(written(tmp_path / "out")) == there
    capsys.readouterr()
    assert transcribe(*arguments) == 0
    assert "5 already there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "told"),
    [("b/a.wav", "give the folder they lie in"), ("a.wav", "is given twice; name it once")],
)
def test_recordings_of_one_name_are_refused_with_a_cure(other, told, talks, capsys, tmp_path):
    """Before one's words are written over the other's."""
    assert transcribe(talks / "a.wav", talks / other, "--output", tmp_path / "out") == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
@pytest.mark.parametrize("form", ["json", "tsv"])
def test_a_name_that_is_no_utf8_is_done_like_any_other(form, model, tmp_path, capsys):
    """It must not end a job of a million recordings; and it is known again."""
    (tmp_path / "talks").mkdir()
    soundfile.write(tmp_path / "first.wav", sound(1.0, 1), 16000)
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / "first.wav").rename(tmp_path / "talks" / f"{name}.wav")
    arguments = (tmp_path / "talks", "--format", form, "--output", tmp_path / "out")
    assert transcribe(*arguments, "--model", model) == 0
    assert (tmp_path / "out" / f"{name}.{form}").is_file()
    capsys.readouterr()
    assert transcribe(*arguments, "--model", model) == 0
    assert "1 already there" in capsys.readouterr().err


def test_one_recording_is_told_as_one(talks, model, tmp_path, capsys):
    """Figures are read by people."""
    assert transcribe(talks / "gone.wav", "--output", tmp_path / "out", "--model", model) == 1
    assert "asr: 1 recording: 0 written" in capsys.readouterr().err


def test_silence_is_done_too(model, tmp_path, capsys):
    """Its transcript is an empty file, and no reason to listen again."""
    soundfile.write(tmp_path / "silence.wav", [0.0] * 160, 16000)
    arguments = (tmp_path / "silence.wav", "--output", tmp_path / "out", "--model", model)
    assert transcribe(*arguments) == 0
    assert (tmp_path / "out" / "silence.txt").read_bytes() == b""
    assert transcribe(*arguments) == 0
    assert "1 already there" in capsys.readouterr().err


def test_another_wish_is_another_job(talks, model, tmp_path, capsys):
    """Told before anything is written; `--overwrite` means it."""
    arguments = (talks / "a.wav", "--output", tmp_path / "out", "--model", model)
    assert transcribe(*arguments) == 0
    assert transcribe(*arguments, "--endpoint-ms", 480) == 1
    assert "were made with option endpoint_ms 800, this job has 480" in capsys.readouterr().err
    assert transcribe(*arguments, "--endpoint-ms", 480, "--overwrite") == 0


def test_a_list_names_what_is_to_be_done(talks, model, monkeypatch):
    """Relative to where one stands, in the tree that it names."""
    monkeypatch.chdir(talks.parent)
    Path("list").write_text("talks/b/a.wav\ntalks/a.wav\n")
    assert transcribe("--files-from", "list", "--output", "out", "--model", model) == 0
    assert sorted(p.as_posix() for p in Path("out").rglob("*.txt")) == [
        "out/talks/a.txt",
        "out/talks/b/a.txt",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_list_names_files_by_their_bytes(talks, model, tmp_path, monkeypatch, capfdbinary):
    """`find talks -name …` writes such a list; every format tells the name as a file's."""
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9.wav")
    (talks / "a.wav").rename(name)
    Path("list").write_bytes(b"caf\xe9.wav\ntalks/c.wav\n")
    told = {"text": b"caf\xe9.wav: ", "tsv": b"\ncaf\xe9.wav\t", "ctm": b"caf\xe9.wav 1 "}
    for form, expected in told.items():
        code = "import sys; from asr.commands import main; sys.exit(main(sys.argv[1:]))"
        arguments = ["transcribe", "--files-from", "list", "--format", form, "--model", model]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True)
        assert expected in capfdbinary.readouterr().out
    assert transcribe("--files-from", "list", "--format", "json", "--model", model) == 0
    assert json.loads(capfdbinary.readouterr().out.splitlines()[0])["file"] == name


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.wav", "--jobs", "2"],
        ["a.wav", "--cluster", "tcp://localhost:1"],
        ["a.wav", "--overwrite"],
        ["a.wav", "--output", "out", "--partials"],
        ["a.wav", "--output", "out", "--jobs", "2", "--url", "ws://localhost:1"],
        ["a.wav", "--output", "out", "--jobs", "2", "--cluster", "tcp://localhost:1"],
        ["a.wav", "--output", "out", "--cluster", "tcp://localhost:1", "--model", "a.pt"],
        ["-", "--output", "out", "--jobs", "2", "--raw", "16000"],
        ["a.wav", "--output", "out", "--tls-ca", "ca.pem"],
    ],
)
def test_arguments_that_contradict_each_other_are_usage(arguments, capsys, monkeypatch):
    """Told before anything is loaded or written."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert transcribe(*arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
