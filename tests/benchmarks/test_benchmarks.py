"""Every benchmark runs, in miniature: a figure that cannot be measured again is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from asr.errors import DataError
from benchmarks import (
    alignment,
    company,
    emission_latency,
    examples,
    memory_and_start,
    realtime_factor,
    resume,
    setup,
    streaming_equals_offline,
    wer,
)
from benchmarks.figure import ROOT
from tests import tiny
from tests.server.redises import needs_redis
from training.units import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Main = Callable[[Sequence[str]], int]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three short recordings, and a tiny model that says many words."""
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", tiny.sound(1 + number, number), 16000)
        (folder / f"{number}.txt").write_text("an eye")
    model = tmp_path_factory.mktemp("tiny")
    return [str(folder), "--model", str(tiny.write_bundle(model).path)]


def cores_allowed() -> set[int]:
    """Where this process may run; empty where the system does not tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def rows(text: str) -> dict[str, dict[str, Any]]:
    """The figures on the last lines."""
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    last = text.splitlines()[-1]
    assert json.loads(last) == found[-1], "the figures are not last"
    return {row["figure"]: row for row in found}


def measured(
    main: Main, arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> dict[str, dict[str, Any]]:
    """Run a benchmark; its exit code must tell whether the targets were met."""
    code = main(arguments)
    found = rows(capsys.readouterr().out)
    assert code == int(any(row["met"] is False for row in found.values()))
    assert all(row["spread"][0] <= row["value"] <= row["spread"][1] for row in found.values())
    return found


def test_the_realtime_factor_is_measured(
    inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each run counts; afterwards the process may use all cores again."""
    cores = cores_allowed()
    both = measured(realtime_factor.main, [*inputs, "--runs", "2"], capsys)
    assert both["realtime_factor.processor"]["value"] > 0
    found = both["realtime_factor"]
    assert (found["runs"], found["target"]) == (2, "≤ 0.02")
    assert found["value"] > 0
    assert found["details"]["audio_seconds"] == 6
    assert cores_allowed() == cores


def test_the_preparation_of_examples_is_measured(
    inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the distortion of a recipe; every recording counts."""
    recipe = ["--recipe", str(ROOT / "configs/librispeech-100h.toml"), "--runs", "1"]
    found = measured(examples.main, [inputs[0], *recipe], capsys)["examples.speed"]
    assert found["value"] > 0
    assert (found["details"]["audio_seconds"], found["details"]["recordings"]) == (6, 3)


def test_streaming_is_compared_with_offline(
    inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The law of chunking holds for a real network, and there were words to compare."""
    found = measured(streaming_equals_offline.main, inputs, capsys)
    words = found["streaming_equals_offline.words"]
    assert (words["value"], found["streaming_equals_offline.times"]["value"]) == (0, 0)
    assert words["details"]["words"] > 5
    assert words["details"]["chunks"] > 10


def test_company_is_compared_with_being_alone(
    inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Recordings are repeated until there are as many as streams."""
    found = measured(company.main, [*inputs, "--streams", "7", "--runs", "1"], capsys)
    assert (found["company.words"]["value"], found["company.times"]["value"]) == (0, 0)
    assert found["company.words"]["details"]["recordings"] == 7
    assert found["company.words"]["details"]["words"] > 10
    assert found["company.throughput"]["value"] > 0


@needs_redis
def test_sessions_that_are_cut_are_compared_with_uncut_ones(
    inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Sockets that break; what is counted is what was done."""
    found = measured(resume.main, [*inputs, "--points", "3"], capsys)
    assert (found["resume.words"]["value"], found["resume.times"]["value"]) == (0, 0)
    details = found["resume.words"]["details"]
    assert (details["sockets"], details["workers"], details["servers"]) == (3, 0, 0)
    assert details["words"] > 2
    assert details["seconds_until_it_goes_on"] > 0


def test_memory_and_start_are_measured(
    inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole process: more than Python alone needs, less than a minute."""
    found = measured(memory_and_start.main, [*inputs, "--runs", "1"], capsys)
    assert set(found) == {"memory", "first_word", "help"}
    assert 20 < found["memory"]["value"] < 2000
    assert 0 < found["first_word"]["value"] < 60
    assert 0 < found["help"]["value"] < 60


def test_a_command_that_fails_gives_no_figure() -> None:
    """The time of an error message would be an excellent start-up time."""
    with pytest.raises(RuntimeError, match="failed"):
        memory_and_start.run(["transcribe", "no-such-file.wav"])


def test_word_errors_are_recorded_with_their_set(inputs: list[str], tmp_path: Path) -> None:
    """Run as documented; the row says which texts, which model, which interval."""
    arguments = [*inputs, "--record", "--results", str(tmp_path), "--target", "9"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.wer", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (row,) = rows(done.stdout).values()
    assert json.loads((tmp_path / "wer.jsonl").read_text()) == row
    assert row["details"]["words"] == 6
    assert row["details"]["model"] == "tiny-lstm"
    assert len(row["details"]["data_sha256"]) == 12
    assert row["details"]["wer"] == row["value"]
    assert row["met"] is True


@pytest.fixture
def synthetic(tmp_path: Path) -> Path:
    """Two words in a second and a half, with a synthesiser's times; the last dies away."""
    sound = tiny.sound(1.5, 0)
    sound[14_000:] *= 1e-4
    soundfile.write(tmp_path / "a.wav", sound, 16000)
    times = {"phones": "ən I.", "frames": [0, 10, 10, 1, 38, 1, 0], "cut": 0}
    row = {"audio": "a.wav", "text": "an eye"} | times
    (tmp_path / "synthetic.jsonl").write_text(f"{json.dumps(row)}\n" * 2)
    return tmp_path / "synthetic.jsonl"


def test_the_aligner_is_held_against_true_times(
    inputs: list[str], synthetic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Starts and ends apart, ends before a pause apart, with their signed mean."""
    found = measured(alignment.main, [str(synthetic), *inputs[1:]], capsys)
    kinds = ("start", "end", "end_before_pause")
    assert set(found) == {f"alignment.{k}.{of}" for k in kinds for of in ("p50", "p90", "bias")}
    assert [found[f"alignment.{k}.p50"]["details"]["words"] for k in kinds] == [4, 2, 2]
    assert all(
        abs(found[f"alignment.{k}.bias"]["value"]) <= found[f"alignment.{k}.p90"]["value"] < 1500
        for k in kinds
    )
    plain = synthetic.with_name("plain.jsonl")
    plain.write_text('{"audio": "a.wav", "text": "an eye"}')
    with pytest.raises(DataError, match="no row has the synthesiser's `frames`"):
        alignment.main([str(plain), *inputs[1:]])


class FixedAligner:
    """Finds what it was told."""

    def __init__(self, told: dict[str, list[list[Any]]]) -> None:
        self.told = told
        self.units = Pieces(["<blank>", "AH", "N", "AY"])

    def times(self, samples: object, text: str) -> dict[str, list[list[Any]]]:
        """See `Aligner.times`."""
        del samples, text
        return self.told


def test_errors_of_times_are_signed(tmp_path: Path) -> None:
    """Late is positive; what the synthesiser reads in other words is left out and counted."""
    soundfile.write(tmp_path / "a.wav", np.ones(16_000, np.float32) / 2, 16000)
    times = {"phones": "ən I", "frames": [4, 4, 4, 1, 10, 9]}
    row = {"audio": tmp_path / "a.wav", "text": "an eye", **times}
    told: dict[str, list[list[Any]]] = {
        "words": [["an", 1440, 5120], ["eye", 5120, 9280]],
        "phone_times": [["AH", 1600, 3200], ["N", 3200, 4800], ["AY", 5200, 9200]],
    }
    errors = alignment.Errors()
    alignment.add(errors, FixedAligner(told), row)  # type: ignore[arg-type]
    assert errors.start == [-10, -5]
    assert errors.end == [20]
    assert errors.end_before_pause == [5]
    assert (errors.frames, errors.right) == (25, 25)
    told["phone_times"][1][2] = 4000  # the middle of a frame lies in 4000 … 4800
    alignment.add(errors, FixedAligner(told), row)  # type: ignore[arg-type]
    assert (errors.frames, errors.right) == (50, 49)
    alignment.add(errors, FixedAligner(told), row | {"text": "aneye"})  # type: ignore[arg-type]
    assert errors.left_out == 1


def test_a_sound_that_dies_away_ends_when_it_is_30_db_down() -> None:
    """A synthesiser's last phone lasts half a second of near silence."""
    samples = np.concatenate([np.ones(1600), np.full(800, 0.04), np.full(4000, 0.01)])
    samples = samples.astype(np.float32)
    assert alignment.audible_end(samples, 0, 6400) == 2400
    assert alignment.audible_end(samples, 1600, 6400) == 6400
    assert alignment.audible_end(samples, 100, 200) == 200


def test_emission_latency_is_measured_where_words_have_ends(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shown and stable, with the number of words; without known ends there is no figure."""
    recognizer = tiny.recognizer("lstm", "int8")
    words = tiny.words(tiny.listen(recognizer, tiny.sound(2, 1)))
    times = [[word.text, word.start, word.end] for word in words]
    row = {"audio": "a.wav", "text": " ".join(word.text for word in words), "words": times}
    soundfile.write(tmp_path / "a.wav", tiny.sound(2, 1), 16000, subtype="FLOAT")
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    found = measured(emission_latency.main, [str(tmp_path / "m.jsonl"), *inputs[1:]], capsys)
    shown = found["emission_latency.shown.p50"]
    assert shown["details"]["words"] == shown["details"]["words_of_known_end"] == len(words) > 3
    assert shown["target"] == "≤ 200 ms"
    assert shown["value"] <= found["emission_latency.shown.p90"]["value"] <= 2000
    assert shown["value"] <= found["emission_latency.stable.p50"]["value"]
    assert found["emission_latency.stable.p90"]["target"] is None
    for name in ("taken_back", "returned"):
        flicker = found[f"emission_latency.{name}"]
        assert flicker["value"] == flicker["details"]["flicker"][name] / len(words)
    with pytest.raises(DataError, match="asr align"):
        emission_latency.main(inputs)


def test_unreadable_recordings_fail_a_benchmark(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zero differences over the half that could be read is not the figure that was asked for."""
    shutil.copytree(inputs[0], tmp_path / "data")
    (tmp_path / "data/1.wav").write_text("no sound")
    arguments = [str(tmp_path / "data"), *inputs[1:]]
    for main in (wer.main, streaming_equals_offline.main):
        assert main(arguments) == 1
        assert "1.wav" in capsys.readouterr().err


@pytest.mark.skipif(
    not (shutil.which("git") and shutil.which("make")), reason="git and make are not installed"
)
def test_setting_up_is_measured_in_a_fresh_clone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what is committed counts; what make writes is weighed."""
    (tmp_path / "Makefile").write_text("demo:\n\thead -c 3000000 /dev/zero > environment\n")
    (tmp_path / "uncommitted").write_bytes(b"x" * 4_000_000)
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for arguments in (["init", "-q"], ["add", "Makefile"], [*identity, "commit", "-qm", "t"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    found = measured(setup.main, ["--source", str(tmp_path)], capsys)
    assert 3 <= found["setup.space"]["value"] < 4
    assert found["setup.time"]["met"] is True


def test_a_set_up_that_fails_gives_no_figure(tmp_path: Path) -> None:
    """A time until the first error is no time of set-up."""
    with pytest.raises(RuntimeError, match="clone"):
        setup.set_up(tmp_path)
