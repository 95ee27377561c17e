"""How near two forms of the same network come to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asr.acoustic import BLOCK_FRAMES
from training.model import BANDS

if TYPE_CHECKING:
    from asr.acoustic import AcousticModel, Array


@dataclass(frozen=True, slots=True)
class Agreement:
    """Differences between the log-probabilities of two models.

    Attributes:
        largest: largest difference.
        rms: root mean square of the differences.
        choices: share of the frames in which the most likely unit of some head is another one.
    """

    largest: float
    rms: float
    choices: float


def random_features(blocks: int = 50, streams: int = 4) -> Array:
    """Normalised features of no speech at all, always the same ones.

    Args:
        blocks: B, of 80 ms each.
        streams: N.

    Returns:
        float32 [B, N, 8, 80].
    """
    shape = blocks, streams, BLOCK_FRAMES, BANDS
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def compare(model: AcousticModel, truth: AcousticModel, features: Array) -> Agreement:
    """How far two models of the same network are apart, with states carried along.

    Args:
        model: the one in question.
        truth: the other.
        features: normalised, of B blocks in a row of N streams, float32 [B, N, 8, 80].
    """
    expected, heard = _log_probs(truth, features), _log_probs(model, features)
    differences = np.concatenate([(heard[head] - expected[head]).ravel() for head in truth.heads])
    other = [heard[head].argmax(-1) != expected[head].argmax(-1) for head in truth.heads]
    return Agreement(
        float(np.abs(differences).max()),
        float(np.sqrt(np.mean(np.square(differences)))),
        float(np.any(other, axis=0).mean()),
    )


def _log_probs(model: AcousticModel, features: Array) -> dict[str, Array]:
    """All blocks of features [B, N, 8, 80] in a row: log-probabilities [B, N, 2, V] by head."""
    states = [model.initial()] * features.shape[1]
    steps = []
    for block in features:
        log_probs, states = model.step(block, states)
        steps.append(log_probs)
    return {head: np.stack([step[head] for step in steps]) for head in model.heads}
