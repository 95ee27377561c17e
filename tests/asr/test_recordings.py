"""Recordings are found where they were named, and each has one place for its transcript."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import AudioError, DataError
from asr.recordings import Recording, find, listed, opened

PART = st.text(st.sampled_from("a.ü \u2028"), min_size=1, max_size=4).filter(str.strip)
PATH = st.tuples(st.sampled_from(["", "/", "../", "./"]), st.lists(PART, min_size=1, max_size=4))


@given(PATH)
def test_no_listed_path_leads_out_of_the_folder_of_results(path: tuple[str, list[str]]) -> None:
    """A list from a stranger must not write elsewhere."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "list"
        file.write_text(path[0] + "/".join(path[1]), "utf-8")
        try:
            (found,) = listed(file)
        except DataError as error:
            assert "names no file" in str(error)  # noqa: PT017 - such as / and ..
            return
    target = PurePosixPath(found.target)
    assert target.name
    assert not target.is_absolute()
    assert ".." not in target.parts


def test_a_folder_keeps_its_tree(tmp_path: Path) -> None:
    """Numbered recordings of many speakers do not fall on one another."""
    for name in ("b/1.wav", "a/1.FLAC", "a/1.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    found = list(find([str(tmp_path)]))
    assert [r.target for r in found] == ["a/1", "b/1"]
    assert [r.name for r in found] == [str(tmp_path / "a/1.FLAC"), str(tmp_path / "b/1.wav")]
    assert all(r.stamp is not None and r.stamp[0] == 2 for r in found)


def test_files_standard_input_and_manifests_go_together(tmp_path: Path) -> None:
    """In the order of the command line; a manifest without transcripts is what one has here."""
    rows = [{"audio": "x/1.wav"}, {"audio": "/far/2.wav", "text": "known"}]
    manifest = tmp_path / "all.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(find(["-", "some/talk.mp3", str(manifest)]))
    assert [(r.name, r.target) for r in found] == [
        ("-", "stdin"),
        ("some/talk.mp3", "talk"),
        (str(tmp_path / "x/1.wav"), "x/1"),
        ("/far/2.wav", "far/2"),
    ]
    assert [r.stamp for r in found] == [None] * 4


@pytest.mark.parametrize("name", ["a\0.wav", "\ud800.wav", f"{'a' * 300}.wav"])
@pytest.mark.parametrize("raw", [None, 16000])
def test_a_name_that_no_file_can_have_is_one_that_cannot_be_read(
    name: str, raw: int | None
) -> None:
    """It is found like any other, so that the others are transcribed, and told when read."""
    (found,) = find([name])
    with pytest.raises(AudioError, match="cannot be read"):
        next(opened(found.path, raw)[1])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_list_names_a_path_on_each_line(encoding: str, tmp_path: Path) -> None:
    """As `find` writes it, empty lines apart; or an editor, with a mark of byte order."""
    file = tmp_path / "list"
    file.write_text("a/1.wav\r\n\n/b/1.wav\n with space.wav", encoding)
    assert [(r.name, r.target) for r in listed(file)] == [
        ("a/1.wav", "a/1"),
        ("/b/1.wav", "b/1"),
        (" with space.wav", " with space"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("list", b"\n", "names no recordings"),
        ("list", b"a.wav\0b.wav\0", "one a line: it has bytes of 0"),  # find -print0, or audio
        ("list", None, "cannot be read as a list"),
        ("all.jsonl", b"\n", "names no recordings"),
        ("all.jsonl", b'{"text": "a"}\n', "all.jsonl:1: needs the key `audio`"),
        ("all.jsonl", None, "cannot be read as a manifest"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(name, content, told, tmp_path):
    """Before anything is loaded."""
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=told):
        list(find([str(file)]) if name.endswith(".jsonl") else listed(file))


def test_an_empty_name_is_no_recording() -> None:
    """It comes of a variable that is not set, and is not the folder where one stands."""
    with pytest.raises(DataError, match="an empty name"):
        list(find([""]))


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    """A wrong folder is a mistake, not an empty job."""
    with pytest.raises(DataError, match="holds no recordings"):
        list(find([str(tmp_path)]))


def test_a_changed_file_has_another_stamp(tmp_path: Path) -> None:
    """So that its transcript is made again."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"1")
    before = Recording.of(str(path), "a").stamp
    path.write_bytes(b"12")
    assert Recording.of(str(path), "a").stamp != before
