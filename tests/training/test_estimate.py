"""An estimate that is arithmetic can be held against what PyTorch counts."""

from __future__ import annotations

import re

import pytest
import torch

from tests.training.miniature import ROOT
from training import estimate
from training.estimate import Hardware
from training.losses import ctc
from training.model import AcousticNetwork, HeadConfig, NetworkConfig
from training.recipe import read_recipe

HOURS = ROOT / "configs" / "librispeech-100h.toml"
FRAMES = 50


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_operations_are_two_for_each_use_of_a_weight(cell: str) -> None:
    """The first convolution is used twice in an output frame, what reads a head every other."""
    heads = {"a": HeadConfig(30, 3), "b": HeadConfig(9, 2), "c": HeadConfig(13, 3, "a", 10)}
    config = NetworkConfig(cell, 24, 3, 2, 12, 0.0, heads)
    weights = {n: p.numel() for n, p in AcousticNetwork(config).named_parameters() if p.ndim > 1}
    every_other = weights["readers.c.weight_ih_l0"] + weights["readers.c.weight_hh_l0"]
    used = (
        sum(weights.values())
        + weights["conv1.weight"]
        - (every_other + weights["heads.c.weight"]) / 2
    )
    assert estimate.forward_operations(config) == 2 * used


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_activations_are_what_pytorch_keeps(cell: str) -> None:
    """Counted while it computes in bfloat16; such a sum comes no nearer than half or twice."""
    config = NetworkConfig(cell, 64, 3, 4, 64, 0.1, {"pieces": HeadConfig(65, 3)})
    network = AcousticNetwork(config).train()
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    features = torch.randn(4, 4 * FRAMES, 80)
    targets: list[torch.Tensor | None] = [torch.randint(1, 65, (20,))] * 4
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(features)["pieces"]
        ctc(logits, torch.full((4,), FRAMES - 4), targets)
    counted = sum(size for place, size in kept.items() if place not in weights)
    told = 4 * FRAMES * estimate.activations(config)
    assert 0.5 < told / counted < 2


def test_a_run_takes_the_sum_of_its_parts_and_more_gpus_share_the_steps() -> None:
    """But not the waiting within a step."""
    recipe = read_recipe(HOURS, ["batches.workers=0"])
    one, four = (estimate.estimate(recipe, Hardware(), gpus) for gpus in (1, 4))
    assert one.hours == one.arithmetic + one.waiting + one.preparation
    assert four.steps == pytest.approx(one.steps / 4, abs=1)
    assert four.hours == pytest.approx(one.hours / 4, rel=1e-3)
    assert four.gigabytes == one.gigabytes
    slow = estimate.estimate(recipe, Hardware(prepared=500.0), 1)
    assert slow.preparation == pytest.approx(2 * one.preparation)
    assert one.preparation == pytest.approx(recipe.budget.hours / 1000, rel=1e-3)


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_workers_prepare_beside_the_gpu(workers: int) -> None:
    """The slower of the two decides."""
    recipe = read_recipe(HOURS, [f"batches.workers={workers}"])
    found = estimate.estimate(recipe, Hardware(), 1)
    assert found.preparation == pytest.approx(recipe.budget.hours / 1000 / workers, rel=1e-3)
    assert found.hours == max(found.arithmetic + found.waiting, found.preparation)


def test_parameters_are_the_networks_own() -> None:
    """With one output more than the recipe has pieces: the blank."""
    config = estimate.shape(read_recipe(HOURS))
    assert {name: head.units for name, head in config.heads.items()} == {"pieces": 257}
    assert estimate.estimate(read_recipe(HOURS), Hardware(), 1).parameters < 25e6


def test_a_budget_of_minutes_needs_no_estimate() -> None:
    """It is one."""
    recipe = read_recipe(HOURS, ["budget.hours=0", "budget.minutes=9"])
    with pytest.raises(ValueError, match="in minutes"):
        estimate.estimate(recipe, Hardware(), 1)


def test_the_document_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe that was changed has other needs."""
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    (told,) = re.findall(
        r"<!-- estimate: begin .*-->\n(.*?)<!-- estimate: end -->", text, re.DOTALL
    )
    (command,) = re.findall(r"^    python -m training\.estimate (.+)$", text, re.MULTILINE)
    assert estimate.main([str(ROOT / name) for name in command.split()]) == 0
    assert told == capsys.readouterr().out
