"""Training sees the very features that recognition sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.features import Normalisation, log_mel, output_frames
from training.features import LogMel, neutral, statistics

MEAN = np.linspace(-9, -2, 80).astype(np.float32)
DEVIATION = np.linspace(1, 4, 80).astype(np.float32)


def noise(samples: int, seed: int, level: float) -> np.ndarray:
    """Something to make features of, float32 [n]."""
    made = level * np.random.default_rng(seed).standard_normal(samples)
    return made.astype(np.float32)


@given(st.integers(1, 6000), st.integers(0, 9), st.floats(0, 0.5), st.integers(0, 8))
@settings(max_examples=40)
def test_torch_and_numpy_agree(samples: int, seed: int, level: float, look_ahead: int) -> None:
    """Any length and level, silence and look-ahead included."""
    audio = noise(samples, seed, level)
    expected = Normalisation(MEAN, DEVIATION)(log_mel(audio, look_ahead))
    frames = 4 * (output_frames(samples) + look_ahead)
    found = LogMel(MEAN, DEVIATION)(torch.from_numpy(audio)[None], frames)[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


def test_padding_in_a_batch_changes_nothing() -> None:
    """A short utterance beside a long one has the features it has alone."""
    short, long = noise(5000, 1, 0.1), noise(9000, 2, 0.1)
    batch = np.zeros((2, 9000), np.float32)
    batch[0, :5000], batch[1] = short, long
    together = neutral()(torch.from_numpy(batch), 60)[0]
    alone = neutral()(torch.from_numpy(short)[None], 60)[0]
    np.testing.assert_allclose(together.numpy(), alone.numpy(), atol=1e-5)


def test_statistics_are_those_of_the_features() -> None:
    """Sums over utterances give mean and deviation of all frames."""
    audio = noise(16000, 3, 0.1)
    count, total, squares = statistics(torch.from_numpy(audio), neutral())
    features = log_mel(audio)[:100]
    assert count == 100
    assert (total / count).numpy() == pytest.approx(features.mean(0), abs=1e-3)
    spread = (squares / count - (total / count) ** 2).sqrt()
    assert spread.numpy() == pytest.approx(features.std(0), abs=1e-3)
