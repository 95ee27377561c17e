"""How far a run is, and the learning rate there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.recipe import Budget, Optimiser


def share_done(budget: Budget, steps: int, minutes: float, hours: float) -> float:
    """Share of the budget that is used up, ≥ 0; from 1 on the run is over."""
    if budget.steps:
        return steps / budget.steps
    if budget.minutes:
        return minutes / budget.minutes
    return hours / budget.hours


def learning_rate(settings: Optimiser, step: int, done: float) -> float:
    """Rate of a step: linear warm-up, a plateau, then half a cosine to the end.

    Args:
        settings: of the optimiser.
        step: steps made before, ≥ 0.
        done: share of the budget used, 0 … 1.
    """
    warm = min(1.0, (step + 1) / max(1, settings.warmup))
    falling = min(1.0, max(0.0, (done - (1 - settings.decay)) / max(1e-9, settings.decay)))
    cosine = (1 + math.cos(math.pi * falling)) / 2
    return settings.rate * warm * (settings.final + (1 - settings.final) * cosine)
