"""Every benchmark runs, in miniature: a figure that cannot be measured again is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import soundfile

from benchmarks import (
    company,
    memory_and_start,
    realtime_factor,
    setup,
    streaming_equals_offline,
    wer,
)
from benchmarks.figure import ROOT
from tests import tiny

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
