"""One model of several: a weighted mean, and only of models that fit together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ConfigError
from tests.training.small_networks import small_network
from tests.training.test_start import checkpoint_of
from training import average
from training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


def moved(by: float) -> Checkpoint:
    """A small network whose every weight lies so much beside the others'."""
    checkpoint = checkpoint_of(small_network())
    weights = {name: torch.full_like(value, by) for name, value in checkpoint.weights.items()}
    return replace(checkpoint, weights=weights, recipe={"name": f"by {by:g}"})


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Checkpoints whose weights are all 1, and all 5."""
    folder = tmp_path_factory.mktemp("average")
    for name, by in (("one", 1.0), ("five", 5.0)):
        write_checkpoint(folder / f"{name}.pt", moved(by))
    return folder / "one.pt", folder / "five.pt"


@given(st.floats(0.01, 100), st.floats(0.01, 100))
@settings(max_examples=30)
def test_every_weight_is_the_mean_by_shares(
    two: tuple[Path, Path], first: float, second: float
) -> None:
    """Whatever the shares sum to; the last model says what recipe it was."""
    made = average.average([(two[0], first), (two[1], second)])
    expected = (first + 5 * second) / (first + second)
    for value in made.weights.values():
        assert torch.allclose(value, torch.full_like(value, expected), rtol=1e-5)
    assert made.recipe == {"name": "by 5"}
    assert not made.live


def test_the_command_writes_a_checkpoint(two: tuple[Path, Path], tmp_path: Path) -> None:
    """To be exported like any other."""
    out = tmp_path / "mean.pt"
    assert average.main([str(out), f"{two[0]}=0.5", f"{two[1]}=0.5"]) == 0
    assert all(bool((value == 3).all()) for value in read_checkpoint(out).weights.values())


@pytest.mark.parametrize("part", ["best.pt", "=1", "best.pt=0", "best.pt=nan", "best.pt=much"])
def test_a_model_without_a_share_is_wrong_usage(part: str) -> None:
    """A share that was forgotten must not mean one."""
    with pytest.raises(SystemExit) as left:
        average.main(["out.pt", part])
    assert left.value.code == 2


def test_models_that_do_not_fit_together_are_named(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights of other units or features would add up to nothing."""
    checkpoint = moved(1.0)
    other = tmp_path / "other.pt"
    units = {name: [*values[:-1], "▁new"] for name, values in checkpoint.units.items()}
    for changed, message in (
        (replace(checkpoint, units=units), "other units"),
        (replace(checkpoint, mean=[3.0] * 80), "scaled in another way"),
        (replace(checkpoint, weights={"a": torch.zeros(1)}), "another network"),
    ):
        write_checkpoint(other, changed)
        with pytest.raises(ConfigError, match=message):
            average.average([(other, 1.0), (two[0], 1.0)])
    assert average.main([str(tmp_path / "out.pt"), f"{other}=1", f"{two[0]}=1"]) == 1
    assert "other.pt: another network" in capsys.readouterr().err
