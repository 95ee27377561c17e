"""The benchmark of the search measures what the recogniser does."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

import asr
from asr import ConfigError, metrics
from benchmarks import beam_search, calibration
from tests.asr.test_language import write
from tests.tiny import sound, write_bundle

if TYPE_CHECKING:
    from pathlib import Path


def test_it_measures_what_the_recogniser_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tuning on other words than those that are said would be in vain."""
    (tmp_path / "model").mkdir()
    write(tmp_path / "model")
    soundfile.write(tmp_path / "a.wav", sound(6.0, 1), 16000, subtype="FLOAT")
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"id": "a", "audio": "a.wav", "text": "W1 W2 W3 W4", "speaker": "s"})
    )
    arguments = [str(tmp_path / "a.jsonl"), "--model", str(tmp_path / "model")]
    beam_search.main(
        [*arguments, "--sweep", "beam=2,40", "--sweep", "lm_weight=0.5", "--calibrate"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("beam 2, lm_weight 0.5: WER ")
    assert lines[1].startswith("beam 40, lm_weight 0.5: WER ")
    assert any(line.startswith("--decoding calibration=") for line in lines)
    figures = {row["figure"]: row for row in map(json.loads, lines[-3:])}
    said = asr.load(tmp_path / "model").transcribe(tmp_path / "a.wav").text
    wanted = metrics.count_errors("W1 W2 W3 W4", said).wer
    assert figures["beam_search.wer"]["value"] == pytest.approx(wanted)
    assert 0 < figures["beam_search.time"]["value"] < 1
    assert f"{figures['beam_search.calibration']['value']:.3f} as it is" in "\n".join(lines)


def test_partials_are_calibrated_where_the_times_of_words_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word counts as right only near where it is said: not if that is ten seconds away."""
    (tmp_path / "model").mkdir()
    write(tmp_path / "model")
    soundfile.write(tmp_path / "a.wav", sound(6.0, 1), 16000, subtype="FLOAT")
    heard = asr.load(tmp_path / "model").transcribe(tmp_path / "a.wav").words
    shares = []
    for moved in (0, 160_000):
        words = [(word.text, word.start + moved, word.end + moved) for word in heard]
        row = {"id": "a", "audio": "a.wav", "text": " ".join(word.text for word in heard)}
        (tmp_path / "a.jsonl").write_text(json.dumps({**row, "speaker": "s", "words": words}))
        data = [str(tmp_path / "a.jsonl"), "--model", str(tmp_path / "model")]
        beam_search.main([*data, "--calibrate"])
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith("--decoding calibration_tentative=") for line in lines)
        figure = json.loads(lines[-1])
        assert figure["figure"] == "beam_search.calibration_tentative"
        assert 0 <= figure["value"] <= 1
        (told,) = [line for line in lines if line.startswith("tentative words: ")]
        shares.append(float(re.search(r"([\d.]+)% right", told)[1]))  # type: ignore[index]
    assert shares[0] > 0
    assert shares[1] == 0


def test_the_calibration_finds_what_made_the_truth() -> None:
    """Weights that did not fit would make numbers of confidence, but no confidence."""
    random = np.random.default_rng(0)
    known = np.column_stack([np.ones(20_000), random.standard_normal((20_000, 2))])
    chance = 1 / (1 + np.exp(-known @ [0.5, 2.0, -1.0]))
    truth = (random.random(20_000) < chance).astype(float)
    assert calibration.logistic_regression(known, truth) == pytest.approx([0.5, 2, -1], abs=0.1)
    assert calibration.calibration_error(chance, truth) < 0.01
    assert calibration.calibration_error(np.ones(20_000), truth) == pytest.approx(1 - truth.mean())


@pytest.mark.parametrize("sweep", ["beams=2", "beam=wide", "head=x", "beam"])
def test_a_sweep_over_nothing_is_refused(tmp_path: Path, sweep: str) -> None:
    """A slip must not measure the same thing twice."""
    write(tmp_path)
    with pytest.raises(ConfigError, match="--sweep"):
        beam_search.main(["--model", str(tmp_path), "--sweep", sweep])


def test_a_bundle_without_a_language_is_named(tmp_path: Path) -> None:
    """There is nothing to measure."""
    write_bundle(tmp_path)
    with pytest.raises(ConfigError, match="no language to search"):
        beam_search.main(["--model", str(tmp_path)])
