"""CTC-CRF: the partition sums what it says it sums, and its gradient is its derivative."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812 - PyTorch's custom

from tests.training.miniature import recipe
from training.assembly import make_trainer
from training.crf import UnitTrigram, log_partition
from training.losses import ctc, ctc_crf
from training.preparation import prepare
from training.processes import Processes

if TYPE_CHECKING:
    from pathlib import Path

UNITS = 3  # the blank and two more


def trigram(seed: int = 0) -> UnitTrigram:
    """A trigram of a few sequences over units 1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    sequences = [
        torch.randint(1, UNITS, (length,), generator=generator).tolist() for length in (1, 3, 4, 2)
    ]
    return UnitTrigram(sequences, UNITS)


def random_log_probs(rows: int, frames: int, seed: int) -> torch.Tensor:
    """Log-probabilities [rows, frames, 3]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, frames, UNITS, generator=generator).log_softmax(-1)


def collapsed(path: tuple[int, ...]) -> list[int]:
    """Units of a path without repeats and blanks."""
    return [unit for unit, _ in itertools.groupby(path) if unit]


@settings(max_examples=25)
@given(frames=st.integers(1, 5), seed=st.integers(0, 1000))
def test_the_partition_is_the_weighted_sum_over_every_path(frames: int, seed: int) -> None:
    """Enumerated: each path's probability times that of the units it spells."""
    log_probs, weights = random_log_probs(1, frames, seed), trigram(seed)
    total = 0.0
    for path in itertools.product(range(UNITS), repeat=frames):
        heard = sum(float(log_probs[0, t, unit]) for t, unit in enumerate(path))
        total += math.exp(heard + weights.log_probability(collapsed(path)))
    found = log_partition(log_probs, torch.tensor([frames]), weights)
    assert float(found) == pytest.approx(math.log(total), abs=1e-4)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_the_gradient_is_the_derivative(seed: int) -> None:
    """Against differences of the value itself, on rows of unequal length."""
    log_probs, frames = random_log_probs(2, 4, seed), torch.tensor([4, 2])
    weights, step = trigram(seed), 1e-2
    leaf = log_probs.clone().requires_grad_()
    log_partition(leaf, frames, weights).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    for place in itertools.product(range(2), range(4), range(UNITS)):
        more, less = log_probs.clone(), log_probs.clone()
        more[place] += step
        less[place] -= step
        difference = log_partition(more, frames, weights) - log_partition(less, frames, weights)
        assert float(leaf.grad[place]) == pytest.approx(
            float(difference.sum()) / (2 * step), abs=2e-3
        )


def test_the_loss_of_a_sequence_is_never_below_its_own_weight() -> None:
    """Z contains every path of every target, so -log of a target's share cannot be negative."""
    log_probs, weights = random_log_probs(1, 6, 3), trigram(3)
    log_z = float(log_partition(log_probs, torch.tensor([6]), weights))
    shares = []
    for length in range(5):
        for target in itertools.product(range(1, UNITS), repeat=length):
            loss = F.ctc_loss(
                log_probs.transpose(0, 1),
                torch.tensor(target, dtype=torch.long)[None],
                torch.tensor([6]),
                torch.tensor([length]),
                reduction="sum",
            )
            shares.append(math.exp(weights.log_probability(target) - float(loss) - log_z))
    assert all(0 <= share <= 1 for share in shares)
    assert sum(shares) <= 1 + 1e-4


def test_a_trigram_without_text_takes_all_units_for_equal() -> None:
    """Smoothing alone decides, and every history's probabilities sum to one."""
    equal = UnitTrigram([], UNITS).next
    assert torch.allclose(equal, torch.full_like(equal, 1 / UNITS))
    assert torch.allclose(trigram().next.sum(-1), torch.ones(UNITS, UNITS))


def test_rows_without_a_target_are_in_neither_part_of_the_loss() -> None:
    """A head that cannot write a text must learn nothing from it, not even what it is not."""
    logits = torch.randn(2, 4, UNITS, generator=torch.Generator().manual_seed(1))
    frames, target, weights = torch.tensor([4, 3]), torch.tensor([1, 2]), trigram()
    alone = ctc_crf(logits[:1], frames[:1], [target], weights)
    assert torch.allclose(ctc_crf(logits, frames, [target, None], weights), alone)
    log_z = log_partition(logits[:1].log_softmax(-1), frames[:1], weights)
    assert torch.allclose(alone, ctc(logits[:1], frames[:1], [target]) + log_z[0] / 2)
    assert float(ctc_crf(logits, frames, [None, None], weights)) == 0


def test_a_recipe_can_ask_for_it_and_it_falls(tmp_path: Path) -> None:
    """The trigram comes from the transcripts, and training goes downhill."""
    wanted = recipe(tmp_path, "heads.characters.crf=1.0", "heads.characters.ctc=0.1")
    trainer = make_trainer(wanted, prepare(wanted, {}), Processes(), None, print)
    losses = [trainer.step().losses["characters.crf"] for _ in range(25)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
