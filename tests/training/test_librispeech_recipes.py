"""The recipes for LibriSpeech, from a tree to a report, on a tree in miniature."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from asr import commands
from tests.training.miniature import ROOT, tones
from training import librispeech

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean")
SMALL = ["network.width=24", "network.front=12", "heads.pieces.size=64", "batches.seconds=8"]
FEW = ["batches.workers=1"]  # processes
SHORT = ["budget.hours=0", "budget.steps=3", "validation.every_minutes=0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every part that the recipes name: two readers, six utterances of made-up words each."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for part in PARTS:
        for speaker in (19, 26):
            folder = root / "LibriSpeech" / part / str(speaker) / "7"
            folder.mkdir(parents=True)
            lines = []
            for number in range(6):
                words = random.choice(list("abcdefghijklmnopqrst"), (3, 4))
                text = " ".join("".join(word) for word in words)
                name = f"{speaker}-7-{number:04d}"
                soundfile.write(folder / f"{name}.flac", tones(text, number), 16000)
                lines.append(f"{name} {text.upper()}\n")
            (folder / f"{speaker}-7.trans.txt").write_text("".join(lines))
    return root


def settings(root: Path, sources: int) -> list[str]:
    """What makes a recipe small, short, and train on the miniature tree."""
    places = [f"data.{number}.librispeech={root}" for number in range(sources)]
    chosen = [*SMALL, *FEW, *SHORT, *places, f"validation.librispeech={root}"]
    return [part for setting in chosen for part in ("--set", setting)]


@pytest.mark.parametrize(("name", "sources"), [("librispeech-100h", 1), ("librispeech-960h", 3)])
def test_a_recipe_goes_from_the_tree_to_the_report(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    sources: int,
) -> None:
    """The commands of `make recipe`, one after the other; what is there is not fetched again."""
    config, run, model = ROOT / "configs" / f"{name}.toml", tmp_path / "run", tmp_path / "model"
    train = ["train", str(config), "--download", "--run", str(run), *settings(root, sources)]
    assert commands.main(train) == 0
    told = capsys.readouterr().err
    assert told.count("12 utterances") == sources + 1
    assert commands.main(["export", str(run / "best.pt"), str(model)]) == 0
    assert librispeech.main([str(root), "dev-clean"]) == 0
    evaluate = ["evaluate", str(root / "LibriSpeech"), "--split", "dev-clean", "--json"]
    capsys.readouterr()
    assert commands.main([*evaluate, "--model", str(model)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["words"], report["split"]) == (36, "dev-clean")


def test_only_parts_of_librispeech_can_be_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error must not start a download."""
    with pytest.raises(SystemExit):
        librispeech.main([str(tmp_path), "dev-dirty"])
    assert "dev-dirty" in capsys.readouterr().err
