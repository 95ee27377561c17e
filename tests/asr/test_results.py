"""A folder of transcripts never lies about what is done, whenever the program was killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import Error
from asr.recordings import Recording
from asr.results import Results

MADE_BY = {"model": "a" * 64, "option phrases": ("x", "y")}
ALL = [Recording(f"{n}.wav", f"{n}.wav", target, (n, 7)) for n, target in enumerate("ab")]
ALL += [Recording("c.wav", "c.wav", "sub/c", (2, 7))]


def results(folder: Path, **made_by: object) -> Results:
    """Where they go."""
    return Results(folder, "json", MADE_BY | made_by)


def write(here: Results, *recordings: Recording) -> None:
    """Transcripts of these."""
    with here.alone(), here.writer() as writer:
        for recording in recordings:
            writer.write(recording, f"{recording.target}ü\n")


@settings(max_examples=25)  # every transcript is forced to the disk
@given(cut=st.integers(0, 300), keep=st.sets(st.sampled_from(range(3))))
def test_whatever_is_left_after_a_kill_the_rest_is_done_and_no_more(
    cut: int, keep: set[int]
) -> None:
    """A ledger cut off anywhere, transcripts lost: the second run leaves all of them whole."""
    with TemporaryDirectory() as folder:
        here = results(Path(folder))
        write(here, *ALL)
        whole = here.ledger.read_bytes()
        first = whole.index(b"\n") + 1  # written by renaming: there or not
        left = whole[: max(first, cut)]
        here.ledger.write_bytes(left)
        for number, recording in enumerate(ALL):
            if number not in keep:
                here.path(recording).unlink()
        told = left.count(b"\n") - 1
        missing = here.missing(ALL)
        assert missing == [r for n, r in enumerate(ALL) if n >= told or n not in keep]
        write(here, *missing)
        assert here.missing(ALL) == []
        assert [here.path(r).read_text("utf-8") for r in ALL] == ["aü\n", "bü\n", "sub/cü\n"]
        assert sorted(p.name for p in Path(folder).iterdir()) == [
            ".asr-json.jsonl",
            ".asr-json.lock",
            "a.json",
            "b.json",
            "sub",
        ]


def test_a_recording_that_changed_is_not_done(tmp_path: Path) -> None:
    """Nor is one that is not there, or was standard input."""
    here = results(tmp_path)
    write(here, *ALL)
    changed = Recording("0.wav", "0.wav", "a", (0, 8))
    gone = Recording("1.wav", "1.wav", "b", None)
    assert here.missing([changed, gone, ALL[2]]) == [changed, gone]
    write(here, changed)
    assert here.missing([changed]) == []


@pytest.mark.parametrize("made_by", [{"model": "b" * 64}, {"option phrases": ()}, {"new": 1}])
def test_results_of_another_job_are_not_mixed_with(made_by, tmp_path):
    """Half of the transcripts by one model and half by another are worth nothing."""
    write(results(tmp_path), ALL[0])
    other = results(tmp_path, **made_by)
    with pytest.raises(Error, match=f"were made with {next(iter(made_by))} .*--overwrite"):
        other.missing(ALL)
    assert other.missing(ALL, overwrite=True) == ALL
    write(other, ALL[1])
    assert other.missing(ALL) == [ALL[0], ALL[2]]  # what the other one made counts no more


def test_each_format_has_its_own_account(tmp_path: Path) -> None:
    """Subtitles and tables of the same recordings may share a folder."""
    write(results(tmp_path), *ALL)
    assert Results(tmp_path, "srt", {}).missing(ALL) == ALL


def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    """Notes beside the recording, say, with the name that its transcript would have."""
    here = results(tmp_path)
    here.path(ALL[1]).write_text("notes")
    with pytest.raises(Error, match="does not say who made it"):
        here.missing(ALL)
    assert here.missing(ALL, overwrite=True) == ALL


@pytest.mark.parametrize("data", [b"", b"{}\n", b"[]\n", b"\xff\n", b'{"made_by": {}}\n["a"]\n'])
def test_a_damaged_ledger_is_named(data, tmp_path):
    """And is not taken for an empty one, which would start a week of work anew."""
    here = results(tmp_path)
    here.ledger.write_bytes(data)
    with pytest.raises(Error, match="damaged"):
        here.missing(ALL)


def test_a_full_disk_leaves_no_half_transcript(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there stays, and the error names the file."""
    here = results(tmp_path)
    write(here, ALL[0])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Error, match=r"a\.json: cannot be written \(No space left"):
        write(here, ALL[0])
    assert here.path(ALL[0]).read_text("utf-8") == "aü\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_two_jobs_do_not_work_on_one_folder(tmp_path: Path) -> None:
    """One forgotten in another terminal, say; each format is a job of its own."""
    here = results(tmp_path)
    with here.alone():
        with pytest.raises(Error, match="another job is writing json transcripts"):
            write(results(tmp_path), ALL[0])
        write(Results(tmp_path, "srt", {}), ALL[0])
    write(results(tmp_path), ALL[0])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file lies in its place."""
    (tmp_path / "out").touch()
    with pytest.raises(Error, match="out: is a file"), results(tmp_path / "out").alone():
        pass
