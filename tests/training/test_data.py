"""Bad data is counted by kind and named, good data is read exactly, and caches never lie."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ConfigError, DataError
from tests.training.miniature import ROOT, tones, write_manifest
from training.audio_store import AudioStore, decode, shared_array
from training.data import Rule, Utterance, load, manifest_rows, needed_frames, row_text
from training.units import characters

if TYPE_CHECKING:
    from pathlib import Path

RULE = Rule(shortest=1600, longest=320_000, fastest=1.1, bad_share=0.5)
HEADS = {"characters": characters()}


def rows_of(path: Path, *more: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a manifest, and some more with `audio` relative to it."""
    return manifest_rows(path, {}) + [row | {"audio": path.parent / row["audio"]} for row in more]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Eight good recordings."""
    return write_manifest(tmp_path, "train")


def test_good_rows_become_utterances(manifest: Path) -> None:
    """Name, length, text and targets are those of the manifest."""
    utterances, faults = load(rows_of(manifest), HEADS, RULE, "here")
    assert faults.lines() == []
    assert [u.name for u in utterances[:2]] == ["train-0", "train-1"]
    assert utterances[0].samples == len(tones("a cat"))
    spelled = "".join(HEADS["characters"].units[n] for n in utterances[0].targets["characters"])
    assert spelled == "a▁cat"


FAULTS: dict[str, dict[str, Any]] = {
    "missing file": {"audio": "train/gone.wav", "samples": 8000},
    "a rate other than 16000 Hz": {"audio": "slow.wav"},
    "unreadable audio": {"audio": "text.wav"},
    "empty text": {"audio": "train/0.wav", "text": "  "},
    "text that no head can write": {"audio": "train/0.wav", "text": "naïve 7"},
    "transcript longer than the frames allow": {"audio": "train/0.wav", "text": "aa " * 40},
    "longer than batches.longest": {"audio": "train/0.wav", "samples": 400_000},
    "shorter than batches.shortest": {"audio": "train/0.wav", "samples": 100},
    "a length that is no number of samples": {"audio": "train/0.wav", "samples": "many"},
    "phone times that do not fit the phones": {
        "audio": "train/0.wav",
        "phones": "a",
        "frames": [1],
    },
    "phone times that make no sense": {"audio": "train/0.wav", "frames": [1, 1, 1]},
    "phone times that lie beyond the end": {
        "audio": "train/0.wav",
        "phone_times": [["A", 0, 100_000]],
    },
}


@pytest.mark.parametrize(("kind", "row"), FAULTS.items(), ids=FAULTS)
def test_each_kind_of_bad_row_is_counted_and_named(
    manifest: Path, kind: str, row: dict[str, Any]
) -> None:
    """The others are used; the line says how many, and which."""
    soundfile.write(manifest.parent / "slow.wav", np.zeros(8000), 8000)
    (manifest.parent / "text.wav").write_text("this is no audio")
    rows = rows_of(manifest, {"id": "bad-one", "text": "a cat"} | row)
    utterances, faults = load(rows, HEADS, RULE, "here")
    assert len(utterances) == 8
    assert faults.counts == {kind: 1}
    assert faults.lines()[0].startswith(f"1 × {kind} (such as bad-one")


@pytest.mark.parametrize("text", [None, 7, ["a"]])
def test_text_that_is_no_string_is_no_text(text: object) -> None:
    """`"text": null` must not teach the word "none"."""
    assert row_text({"text": text}) == ""


def test_aligned_phones_are_labels_like_synthetic_ones(manifest: Path) -> None:
    """What `asr align` found in real speech teaches as a synthesiser's own times do."""
    times = [["AH", 320, 2000], ["K", 2000, 4000]]
    row = {"id": "more", "audio": "train/0.wav", "text": "a cat", "phone_times": times}
    exact = row | {"id": "both", "phones": "t", "frames": [2, 4, 1]}
    utterances, faults = load(rows_of(manifest, row, exact), HEADS, RULE, "here")
    assert faults.lines() == []
    assert utterances[0].phones == ()
    assert utterances[-2].phones == (("AH", 320, 2000), ("K", 2000, 4000))
    assert utterances[-1].phones == (("T", 800, 2400),)


@pytest.mark.parametrize("times", [3, [["AH", 1]], [["AH", 9, 5]], [["A", 0, 9], ["B", 8, 12]]])
def test_phone_times_of_another_form_are_a_fault(manifest: Path, times: object) -> None:
    """Never half of the labels, never a guess."""
    row = {"id": "bad", "audio": "train/0.wav", "text": "a cat", "phone_times": times}
    _, faults = load(rows_of(manifest, row), HEADS, RULE, "here")
    assert faults.counts == {"phone times that make no sense": 1}


def test_too_much_bad_data_stops_before_training(manifest: Path) -> None:
    """More than `bad_share`: something is wrong with the whole set, and all of it is told."""
    bad = [FAULTS["missing file"] | {"text": "a", "id": f"m{k}"} for k in range(9)]
    with pytest.raises(DataError, match=r"here: 9 of 17 .* 9 × missing file \(such as m0, m1,"):
        load(rows_of(manifest, *bad), HEADS, RULE, "here")
    with pytest.raises(DataError, match=r"here: 0 of 0 .* it is empty"):
        load([], HEADS, RULE, "here")


def test_what_is_left_out_by_choice_is_no_fault(manifest: Path) -> None:
    """`shortest` and `longest` may leave out most of a source."""
    long = [FAULTS["longer than batches.longest"] | {"text": "a"}] * 50
    assert len(load(rows_of(manifest, *long), HEADS, RULE, "here")[0]) == 8
    told = r"here: 50 of 50 utterances cannot be used: 50 × longer than batches\.longest"
    with pytest.raises(DataError, match=told):
        load(rows_of(manifest, *long)[-50:], HEADS, RULE, "here")


def test_a_bound_on_hours_takes_the_first_rows(manifest: Path) -> None:
    """`limit_hours`, also where the manifest does not say how long recordings are."""
    rows = [{k: v for k, v in row.items() if k != "samples"} for row in rows_of(manifest)]
    total = sum(len(tones(text)) for text in ("a cat", "be a bee"))
    rule = Rule(1600, 320_000, 1.1, 0.5, most=total)
    assert [u.text for u in load(rows, HEADS, rule, "here")[0]] == ["a cat", "be a bee"]


def test_validation_keeps_words_that_cannot_be_written(manifest: Path) -> None:
    """Leaving them out would make the word-error rate look better than it is."""
    rule = Rule(1, 1 << 62, 1.0, 0.5, any_text=True)
    row = {"audio": "train/0.wav", "text": "naïve", "samples": 1000}
    assert load(rows_of(manifest, row), HEADS, rule, "here")[0][-1].text == "naïve"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"\xff", "not UTF-8"),
        (b"\n", "m.jsonl: holds no rows"),
        (b'{"audio": "a"}\n\n{"audio": ', "m.jsonl:3: no JSON object: Expecting value"),
        (b"[1]\n", "m.jsonl:1: no JSON object, but"),
        (b'{"audio": 3}\n', "m.jsonl:1: needs the key `audio`"),
    ],
)
def test_a_bad_manifest_is_named_by_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    """A manifest that is broken anywhere is not used at all."""
    path = tmp_path / "m.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        manifest_rows(path, {})


def test_rows_are_dropped_by_their_values(tmp_path: Path) -> None:
    """By values that exist: a key that no row has is a slip of the pen."""
    path = write_manifest(tmp_path, "a", ("a cat",), source="mp3")
    assert manifest_rows(path, {"source": ["mp3"]}) == []
    assert len(manifest_rows(path, {"source": ["flac"]})) == 1
    with pytest.raises(DataError, match="no row has the key 'sorce'"):
        manifest_rows(path, {"sorce": ["mp3"]})


@given(st.lists(st.integers(1, 3), max_size=8).map(lambda units: np.array(units, np.int64)))
def test_equal_neighbours_need_a_blank_between(target: np.ndarray) -> None:
    """As many frames as units, and one more for each pair of equal ones."""
    units = target.tolist()
    assert needed_frames(target) == len(units) + sum(a == b for a, b in itertools.pairwise(units))


def utterance(path: Path, samples: int, name: str = "one") -> Utterance:
    """An utterance of which only the audio matters."""
    return Utterance(name, path, samples, "a", {})


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(900), 16000, "900 samples, 1000 announced"),
        (np.zeros(1000), 8000, "8000 Hz, but 16000 Hz is needed"),
        (np.full(1000, np.nan), 16000, "samples that are not finite"),
        (np.full(1000, np.inf), 16000, "samples that are not finite"),
    ],
)
def test_audio_that_is_not_as_announced_is_refused(
    tmp_path: Path, samples: np.ndarray, rate: int, message: str
) -> None:
    """It must never reach the network: one NaN would end in every weight."""
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    for store in (AudioStore([utterance(tmp_path / "a.wav", 1000)], None, "x"),):
        with pytest.raises(DataError, match=f"one: .*{message}"):
            store.read(0)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """An archive that was not fetched whole."""
    soundfile.write(tmp_path / "a.flac", tones("a cat"), 16000)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="one: "):
        decode(utterance(tmp_path / "a.flac", len(tones("a cat"))))


def recordings(folder: Path, levels: list[float]) -> list[Utterance]:
    """Recordings of one length that differ in level alone."""
    folder.mkdir(exist_ok=True)
    made = []
    for number, level in enumerate(levels):
        path = folder / f"{level}.wav"
        soundfile.write(path, np.full(1000, level, np.float32), 16000)
        made.append(utterance(path, 1000, f"{number}-{level}"))
    return made


def test_cached_audio_is_the_audio(tmp_path: Path) -> None:
    """To 16 bits, and without the file once it has been read."""
    utterances = recordings(tmp_path / "audio", [0.25, 0.5])
    store = AudioStore(utterances, tmp_path / "cache", "x")
    first = store.read(1)
    assert np.abs(first - 0.5).max() <= 1 / 65534
    again = AudioStore(utterances, tmp_path / "cache", "x")
    utterances[1].path.unlink()
    assert np.array_equal(again.read(1), first)


def test_a_changed_manifest_gets_a_cache_of_its_own(tmp_path: Path) -> None:
    """Another order, or other recordings of the same lengths, must not hear the old audio."""
    levels = [0.25, 0.5, 0.75]
    cache = tmp_path / "cache"
    for order in (levels, levels[::-1], [0.25, 0.125, 0.75]):
        store = AudioStore(recordings(tmp_path / "audio", order), cache, "x")
        heard = [float(store.read(number)[0]) for number in range(3)]
        assert heard == pytest.approx(order, abs=1e-4)


def test_a_damaged_cache_is_filled_again(tmp_path: Path) -> None:
    """A crash may have left samples that never reached the disk."""
    utterances = recordings(tmp_path / "audio", [0.25, 0.5])
    AudioStore(utterances, tmp_path / "cache", "x").read(1)
    (samples,) = (tmp_path / "cache").glob("*.i16")
    samples.write_bytes(bytes(samples.stat().st_size))
    assert AudioStore(utterances, tmp_path / "cache", "x").read(1)[0] == pytest.approx(
        0.5, abs=1e-4
    )


def test_files_of_other_caches_are_left_alone(tmp_path: Path) -> None:
    """A folder filled by an older version is harmless."""
    (tmp_path / "x.i16").write_bytes(b"old")
    AudioStore(recordings(tmp_path / "audio", [0.5]), tmp_path, "x").read(0)
    assert (tmp_path / "x.i16").read_bytes() == b"old"


def test_a_folder_that_cannot_hold_a_cache_is_named(tmp_path: Path) -> None:
    """Before training, not after an hour."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: cannot keep decoded audio here"):
        AudioStore(recordings(tmp_path / "audio", [0.5]), tmp_path / "file", "x")


def test_who_comes_second_keeps_what_the_first_has_written(tmp_path: Path) -> None:
    """Two processes make the same cache at once: nobody may cut the other's file."""
    first = shared_array(tmp_path / "a", np.int16, 5000)
    first[:] = 7
    assert (shared_array(tmp_path / "a", np.int16, 5000) == 7).all()
    with pytest.raises(DataError, match="10000 bytes where 20 belong; delete it"):
        shared_array(tmp_path / "a", np.int16, 10)


RACE = """
import sys
from pathlib import Path
import numpy as np
from training.audio_store import shared_array
folder, who = Path(sys.argv[1]), int(sys.argv[2])
(folder / f"ready{who}").touch()
while not (folder / f"ready{1 - who}").exists():
    pass
for number in range(200):
    array = shared_array(folder / f"{number}", np.int16, 2000)
    array[who::2] = number + 1
"""


def test_two_processes_may_make_a_cache_at_the_same_time(tmp_path: Path) -> None:
    """As torchrun's do: both write their half of 200 new files, and all of it is there."""
    both = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), str(who)], cwd=ROOT)
        for who in (0, 1)
    ]
    assert [process.wait(60) for process in both] == [0, 0]
    for number in range(200):
        assert (np.fromfile(tmp_path / str(number), np.int16) == number + 1).all()


def test_librispeech_is_read_in_the_same_form(tmp_path: Path) -> None:
    """Upper case becomes lower case, lengths are read from the files."""
    from training.data import librispeech_rows

    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "19" / "198"
    chapter.mkdir(parents=True)
    soundfile.write(chapter / "19-198-0000.flac", tones("a cat"), 16000)
    (chapter / "19-198.trans.txt").write_text("19-198-0000 A CAT\n19-198-0001 GONE\n")
    utterances, faults = load(librispeech_rows(tmp_path, "dev-clean"), HEADS, RULE, "here")
    assert [(u.name, u.text) for u in utterances] == [("19-198-0000", "a cat")]
    assert utterances[0].samples == len(tones("a cat"))
    assert faults.counts == {"missing file": 1}
    with pytest.raises(ConfigError, match="'dev' is no split of LibriSpeech"):
        list(librispeech_rows(tmp_path, "dev"))


def test_a_manifest_may_hold_any_line_separator_of_unicode(tmp_path: Path) -> None:
    r"""JSON allows U+2028 inside a string; only \\n ends a row."""
    path = tmp_path / "m.jsonl"
    row = {"audio": "a.wav", "text": "a\u2028b"}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert row_text(manifest_rows(path, {})[0]) == "a b"
