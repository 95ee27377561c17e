"""What is measured must be what was named: no recording lost, none with another's words."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError
from asr.manifest import Utterance, read_utterances
from training.data import manifest_rows

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def write(path: Path, text: str) -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def librispeech(root: Path) -> Path:
    """Two splits, with the audio of three utterances."""
    for split, chapter, lines in (
        ("dev-clean", "84/121", ["84-121-0000 GO ON", "84-121-0001 AND THEN"]),
        ("test-clean", "61/70", ["61-70-0000 IT'S HERE"]),
    ):
        folder = root / "LibriSpeech" / split / chapter
        write(folder / f"{chapter.replace('/', '-')}.trans.txt", "\n".join(lines) + "\n")
        for line in lines:
            write(folder / f"{line.split()[0]}.flac", "")
    return root


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_a_manifest_gives_back_what_was_written(rows: list[tuple[str, str]]) -> None:
    """Any text and any speaker, in order, whatever characters they hold."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "m.jsonl")
        written = [
            {"id": f"u{i}", "audio": f"a/{i}.wav", "text": text, "speaker": speaker, "more": [1]}
            for i, (text, speaker) in enumerate(rows)
        ]
        path.write_text(
            "\n".join(json.dumps(row, ensure_ascii=False) for row in written), encoding="utf-8"
        )
        assert read_utterances(path) == [
            Utterance(f"u{i}", Path(folder, f"a/{i}.wav"), text, speaker)
            for i, (text, speaker) in enumerate(rows)
        ]


def test_a_manifest_needs_no_id_and_no_speaker(tmp_path: Path) -> None:
    """The least that names a recording and its text; numbers serve as names, too."""
    path = write(
        tmp_path / "m.jsonl",
        '{"audio": "a.wav", "text": ""}\n\n'
        '{"id": 7, "audio": "b.wav", "text": "b", "speaker": 3}\n',
    )
    assert read_utterances(path) == [
        Utterance("a.wav", tmp_path / "a.wav", "", ""),
        Utterance("7", tmp_path / "b.wav", "b", "3"),
    ]


def test_a_mark_of_byte_order_is_no_part_of_a_manifest(tmp_path: Path) -> None:
    """Windows writes one in front of UTF-8."""
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio": "a.wav", "text": ""}\n', "utf-8-sig")
    assert [u.id for u in read_utterances(path)] == ["a.wav"]
    assert manifest_rows(path, {})[0]["audio"] == tmp_path / "a.wav"


def test_a_split_of_a_manifest_leaves_the_others_out(tmp_path: Path) -> None:
    """A validation figure must not contain training speech."""
    rows = [
        {"audio": f"{i}.wav", "text": "", "split": split}
        for i, split in enumerate(["dev", "train"])
    ]
    path = write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows)))
    assert [u.id for u in read_utterances(path, "dev")] == ["0.wav"]
    with pytest.raises(DataError, match=r"m\.jsonl: no row has the split test"):
        read_utterances(path, "test")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("not json", "m.jsonl:2: no JSON object"),
        ("[1]", "m.jsonl:2: no JSON object"),
        ('{"text": "a"}', "m.jsonl:2: needs the key `audio`"),
        ('{"audio": "a.wav"}', "m.jsonl:2: needs the key `text`"),
        ('{"audio": "a.wav", "text": null}', "m.jsonl:2: needs the key `text`"),
        ('{"audio": "a.wav", "text": "", "speaker": true}', "m.jsonl:2: `speaker` must be"),
        ('{"audio": "x.wav", "text": ""}', "two recordings have the id x.wav"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, complaint: str) -> None:
    """A row passed over in silence would make the figure that of another set."""
    path = write(tmp_path / "m.jsonl", '{"audio": "x.wav", "text": ""}\n' + line)
    with pytest.raises(DataError) as raised:
        read_utterances(path)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_manifest_may_know_when_each_word_was_said(tmp_path: Path) -> None:
    """What `asr align` writes; latency is counted from there."""
    row = {"audio": "a.wav", "text": "a b", "words": [["a", 0, 700], ["b", 700, 900]]}
    path = write(tmp_path / "m.jsonl", json.dumps(row) + '\n{"audio": "b.wav", "text": "c"}')
    first, second = read_utterances(path)
    assert first.words == (("a", 0, 700), ("b", 700, 900))
    assert second.words == ()


@pytest.mark.parametrize(
    "words",
    [
        7,
        "a b",
        {"a": [0, 7]},
        [["a", 0]],
        [["a", 0, 0.5]],
        [["a", -1, 5]],
        [["a", 5, 5]],
        [["", 0, 5]],
        [[1, 0, 5]],
        [["a", 0, 6], ["b", 5, 9]],
        [["a", 6, 9], ["b", 0, 5]],
    ],
    ids=str,
)
def test_word_times_that_make_no_sense_are_named(tmp_path: Path, words: object) -> None:
    """A latency counted from nonsense is a false figure."""
    row = {"audio": "a.wav", "text": "a b", "words": words}
    with pytest.raises(DataError, match=r"m\.jsonl:1: `words`"):
        read_utterances(write(tmp_path / "m.jsonl", json.dumps(row)))


def test_a_manifest_of_bytes_is_refused(tmp_path: Path) -> None:
    """A recording given in place of a manifest is the likeliest mistake."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as a manifest"):
        read_utterances(path)


def test_a_line_nested_without_end_is_named(tmp_path: Path) -> None:
    """Python's parser gives up on it with another error than on bad JSON."""
    path = write(tmp_path / "m.jsonl", "[" * 100_000)
    with pytest.raises(DataError, match=r"m\.jsonl:1: no JSON object"):
        read_utterances(path)


@pytest.mark.parametrize(
    "root", ["", "LibriSpeech", "LibriSpeech/dev-clean", "LibriSpeech/dev-clean/84"]
)
def test_librispeech_is_found_from_any_of_its_folders(tmp_path: Path, root: str) -> None:
    """People unpack it in many places."""
    found = read_utterances(librispeech(tmp_path) / root, "dev-clean")
    folder = tmp_path.resolve() / "LibriSpeech/dev-clean/84/121"
    assert found == [
        Utterance("84-121-0000", folder / "84-121-0000.flac", "GO ON", "84"),
        Utterance("84-121-0001", folder / "84-121-0001.flac", "AND THEN", "84"),
    ]


def test_a_single_split_needs_no_name(tmp_path: Path) -> None:
    """The folder already says which."""
    found = read_utterances(librispeech(tmp_path) / "LibriSpeech/test-clean")
    assert [(u.id, u.text) for u in found] == [("61-70-0000", "IT'S HERE")]


def test_several_splits_are_not_mixed(tmp_path: Path) -> None:
    """One figure over dev-clean and test-other would compare with nothing."""
    with pytest.raises(DataError, match="dev-clean, test-clean; choose one with --split"):
        read_utterances(librispeech(tmp_path))
    with pytest.raises(DataError, match="no split dev-other"):
        read_utterances(tmp_path, "dev-other")


def test_a_librispeech_recording_without_transcript_is_named(tmp_path: Path) -> None:
    """An archive unpacked by half gives half a test set."""
    write(librispeech(tmp_path) / "LibriSpeech/dev-clean/84/121/84-121-0002.flac", "")
    with pytest.raises(DataError, match="84-121-0002 has no transcript"):
        read_utterances(tmp_path, "dev-clean")


def test_a_folder_pairs_each_recording_with_its_text(tmp_path: Path) -> None:
    """Two folders may hold files of one name; other files do not matter."""
    for name in ("b.WAV", "a/b.opus", "a/notes.md", "lone.txt"):
        write(tmp_path / name, "")
    write(tmp_path / "b.txt", "one\n two \n")
    write(tmp_path / "a/b.txt", "three")
    assert read_utterances(tmp_path) == [
        Utterance("a/b", tmp_path / "a/b.opus", "three"),
        Utterance("b", tmp_path / "b.WAV", "one two"),
    ]


def test_a_recording_without_text_is_named(tmp_path: Path) -> None:
    """Left out in silence, it would be missing from the figure."""
    write(tmp_path / "a.wav", "")
    with pytest.raises(DataError, match=r"a\.wav has no transcript \(looked for .*a\.txt\)"):
        read_utterances(tmp_path)


def test_nothing_to_measure_is_an_error(tmp_path: Path) -> None:
    """A word error rate of no words would read as perfect."""
    with pytest.raises(DataError, match="no such file or folder"):
        read_utterances(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no recordings"):
        read_utterances(tmp_path)
    with pytest.raises(DataError, match="holds no recordings"):
        read_utterances(write(tmp_path / "empty.jsonl", "\n"))
    with pytest.raises(DataError, match="has no split dev-clean"):
        read_utterances(tmp_path, "dev-clean")
