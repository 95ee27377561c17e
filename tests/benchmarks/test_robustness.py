"""The figures of robustness are of the same recordings, and each can be measured again."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from asr.errors import DataError
from asr.manifest import Utterance
from benchmarks import robustness
from tests import tiny

if TYPE_CHECKING:
    from collections.abc import Sequence

BADLY = ["telephone", "noise-20", "noise-10", "noise-5", "reverberant", "half", "double"]
BADLY += ["overdriven", "after-silence", "end-to-end"]
EMPTY = ["silence", "noise", "voices", "music"]


def write_sounds(folder: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """A manifest of noises: name (which begins with the split) and kind."""
    lines = []
    for number, (name, kind) in enumerate(rows):
        sound = tiny.sound(0.3, number) if kind != "rir" else np.array([0, 0.9, 0, 0.4], np.float32)
        soundfile.write(folder / f"{name}.wav", sound, 16000)
        row = {"audio": f"{name}.wav", "kind": kind, "split": name.split("-")[0]}
        lines.append(f"{json.dumps(row)}\n")
    (folder / "noise.jsonl").write_text("".join(lines))
    return folder / "noise.jsonl"


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three short recordings of two speakers, noises, and a tiny model that says many words."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = []
    for number, speaker in enumerate("aba"):
        soundfile.write(folder / f"{number}.wav", tiny.sound(0.7, number), 16000)
        rows.append({"audio": f"{number}.wav", "text": "an eye", "speaker": speaker})
    (folder / "set.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    sounds = [("validation-1", "rain"), ("validation-2", "babble"), ("train-1", "rain")]
    noise = write_sounds(folder, [*sounds, ("validation-3", "rir"), ("train-2", "rir")])
    model = tiny.write_bundle(tmp_path_factory.mktemp("tiny")).path
    return [str(folder / "set.jsonl"), "--model", str(model), "--noise", str(noise)]


def measured(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The rows by the condition's name; the exit code must tell whether the targets were met."""
    code = robustness.main(arguments)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    rows = {row["figure"].split(".")[1]: row for row in map(json.loads, lines)}
    assert code == int(any(row["met"] is False for row in rows.values()))
    return rows


def test_every_condition_is_measured_on_the_same_words(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The headline stands beside its degradations, and words from nothing are counted."""
    rows = measured([*arguments, "--minutes", "0.01"], capsys)
    assert list(rows) == ["as-recorded", *BADLY, *EMPTY]
    heard = [rows[name] for name in ("as-recorded", *BADLY)]
    assert {row["details"]["words"] for row in heard} == {6}
    assert {row["unit"] for row in heard} == {"fraction"}
    assert len({row["figure"] for row in rows.values()}) == len(rows)
    assert (rows["silence"]["value"], rows["silence"]["target"]) == (0, "≤ 0 words/h")
    assert [rows[name]["target"] for name in EMPTY[1:]] == ["≤ 20 words/h", None, "≤ 20 words/h"]
    noise = rows["noise"]
    hours = noise["details"]["audio_seconds"] / 3600
    assert noise["value"] == pytest.approx(noise["details"]["words"] / hours)
    said = " ".join(noise["details"]["heard"].values()).split()
    assert len(said) == noise["details"]["words"]


def test_silence_before_speech_changes_no_word(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """By the law of silence; so these two figures can only differ where it is broken."""
    wanted = ["--only", "as-recorded", "--only", "after-silence"]
    rows = measured([*arguments, *wanted], capsys)
    assert rows["as-recorded"]["value"] == rows["after-silence"]["value"]
    seconds = [row["details"]["audio_seconds"] for row in rows.values()]
    assert seconds == pytest.approx([2.1, 2.1 + 90])


def test_what_is_chosen_depends_on_the_recording_and_the_seed_alone(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A figure on fewer recordings, or in more processes, is about the same sounds."""
    wanted = ["--only", "noise-5", "--only", "music", "--minutes", "0.01"]
    one, same = (measured([*arguments, *wanted], capsys) for _ in range(2))
    assert [row["value"] for row in one.values()] == [row["value"] for row in same.values()]
    draws = [robustness.generator(*key).random() for key in ((0, "a"), (0, "b"), (1, "a"))]
    assert robustness.generator(0, "a").random() == draws[0]
    assert len(set(draws)) == 3


def test_every_way_of_hearing_travels_to_other_processes(arguments: list[str]) -> None:
    """`--jobs` pickles them for each recording: so they hold names of files, and no sound."""
    sounds = robustness.read_sounds(Path(arguments[-1]))
    recordings = [Utterance("a", Path("a.wav"), "an eye", "a")]
    for condition in robustness.badly_heard(recordings, sounds, 0):
        assert len(pickle.dumps(condition.hear)) < 2000


def test_only_the_validation_part_is_heard(arguments: list[str]) -> None:
    """Noises that a model was trained with would flatter it."""
    sounds = robustness.read_sounds(Path(arguments[-1]))
    names = {kind: [path.name for path in paths] for kind, paths in sounds.items()}
    assert names == {
        "rain": ["validation-1.wav"],
        "babble": ["validation-2.wav"],
        "rir": ["validation-3.wav"],
    }


def test_a_speakers_recordings_are_joined_in_order(arguments: list[str]) -> None:
    """With nothing in between, under all of their words."""
    paths = [Path(arguments[0]).with_name(f"{n}.wav") for n in range(3)]
    recordings = [
        Utterance(str(n), path, text, speaker)
        for n, (path, text, speaker) in enumerate(zip(paths, "xyz", "aba", strict=True))
    ]
    long, parts = robustness.end_to_end(recordings)
    assert [(u.speaker, u.text) for u in long] == [("a", "x z"), ("b", "y")]
    joined = robustness.hear_together(parts, long[0])
    apart = [soundfile.read(paths[n], dtype="float32")[0] for n in (0, 2)]
    assert np.array_equal(joined, np.concatenate(apart))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("validation-1", "rain")], "needs noises and rooms"),
        ([("validation-1", "rir"), ("validation-2", "babble")], "needs noises and rooms"),
        ([("train-1", "rain"), ("train-2", "rir")], "split `validation`"),
    ],
)
def test_a_manifest_without_noises_or_rooms_is_refused(
    tmp_path: Path, rows: list[tuple[str, str]], reason: str
) -> None:
    """A condition that is left out in silence would look like one that was met."""
    with pytest.raises(DataError, match=reason):
        robustness.read_sounds(write_sounds(tmp_path, rows))


def test_what_cannot_be_measured_is_told(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown condition, a manifest that is none, a recording that is lost."""
    with pytest.raises(DataError, match="--only loud: none of as-recorded, telephone"):
        robustness.main([*arguments, "--only", "loud"])
    (tmp_path / "noise.jsonl").write_text('{"kind": "rain"}')
    with pytest.raises(DataError, match="no readable manifest"):
        robustness.read_sounds(tmp_path / "noise.jsonl")
    lost = tmp_path / "lost.jsonl"
    rows = [{"audio": arguments[0].replace("set.jsonl", "0.wav"), "text": "an eye"}]
    rows.append({"audio": "lost.wav", "text": "an eye"})
    lost.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert robustness.main([str(lost), *arguments[1:], "--only", "half"]) == 1
    assert "lost.wav" in capsys.readouterr().err
