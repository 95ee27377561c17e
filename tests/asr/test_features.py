"""What the network hears: the numbers of the field's own log-mel, with bits that never vary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr import features
from asr.errors import AudioError
from training.torchaudio_cpu import torchaudio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asr.acoustic import Array


def noise(seed: int, samples: int, scale: float = 0.1) -> Array:
    """White noise, float32 [samples]."""
    return (np.random.default_rng(seed).standard_normal(samples) * scale).astype(np.float32)


def oracle(samples: Array) -> NDArray[np.float64]:
    """Log-mel energies in float64, frame by frame, from the definition."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    padded = np.pad(samples, (240, 0)).astype(np.float64)
    frames = np.stack([padded[160 * i : 160 * i + 400] for i in range(len(samples) // 160)])
    power = np.abs(np.fft.rfft(frames * window, 512)) ** 2
    energies: NDArray[np.float64] = np.log(
        np.maximum(power @ features.mel_filters().astype(np.float64), 1e-6)
    )
    return energies


@given(count=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_a_block_has_the_same_bits_in_any_company(count: int, seed: int) -> None:
    """The server makes the features of many streams in one call; none may notice."""
    blocks = noise(seed, count * 1520).reshape(count, 1520)
    alone = np.stack([features.log_mel_block(block) for block in blocks])
    assert np.array_equal(features.log_mel_blocks(blocks), alone)


@given(samples=st.integers(0, 30000), look_ahead=st.integers(0, 8), seed=st.integers(0, 2**31))
def test_a_whole_utterance_is_its_blocks_one_after_another(
    samples: int, look_ahead: int, seed: int
) -> None:
    """Training sees the frames of recognition, to the bit and to the last frame."""
    sound = noise(seed, samples)
    whole = features.log_mel(sound, look_ahead)
    frames = features.output_frames(samples)
    assert whole.shape == (4 * (frames + look_ahead) if samples else 0, 80)
    padded = np.pad(sound, (240, 20000))
    for block in range(len(whole) // 8):
        alone = features.log_mel_block(padded[1280 * block : 1280 * block + 1520])
        assert np.array_equal(whole[8 * block : 8 * block + 8], alone)


def test_features_equal_torchaudio_where_float32_can_tell() -> None:
    """Ours are the field's log-mel: 25 ms of 400 samples in a 512-point transform, not centred.

    torchaudio puts the window in the middle of 512 samples, hence 56 more on each side, and before
    them the zeros that the first windows look back to. Bins far below their frame's peak are
    rounding noise in float32, in torchaudio more than here.
    """
    sound = noise(1, 32000) + np.sin(np.arange(32000) * 0.05).astype(np.float32)
    import torch  # with the training extra only

    mel = torchaudio.transforms.MelSpectrogram(16000, 512, 400, 160, n_mels=80, center=False)
    padded = np.pad(sound, (240 + 56, 56))
    theirs = mel(torch.from_numpy(padded)).clamp_min(1e-6).log().numpy().T
    ours = features.log_mel(sound)[: len(theirs)]
    near = theirs > theirs.max(1, keepdims=True) - np.log(1e5)  # within 50 dB
    assert near.mean() > 0.5
    assert np.abs(ours - theirs)[near].max() < 1e-4
    peak = theirs.max(1, keepdims=True)
    assert np.abs(np.exp(ours - peak) - np.exp(theirs - peak))[~near].max() < 1e-5


def test_features_equal_the_definition_in_float64() -> None:
    """An oracle that owes nothing to any library's float32."""
    sound = noise(2, 16000) * np.linspace(0, 1, 16000, dtype=np.float32)
    expected = oracle(sound)
    assert np.abs(features.log_mel(sound)[: len(expected)] - expected).max() < 2e-4


def test_every_band_hears_something() -> None:
    """A triangle narrower than a bin would be a dead input."""
    filters = features.mel_filters()
    assert filters.shape == (257, 80)
    assert (filters.max(0) > 0).all()
    assert filters.min() >= 0


def test_digital_silence_is_the_floor() -> None:
    """No minus infinity reaches the network."""
    assert (features.log_mel(np.zeros(16000, np.float32)) == np.float32(np.log(1e-6))).all()


def test_normalisation_makes_mean_zero_and_deviation_one() -> None:
    """The network was trained on such numbers."""
    raw = features.log_mel(noise(3, 16000))
    done = features.Normalisation(raw.mean(0), raw.std(0))(raw)
    assert done.dtype == np.float32
    assert np.abs(done.mean(0)).max() < 1e-4
    assert np.abs(done.std(0) - 1).max() < 1e-4


@given(samples=st.integers(0, 10**9))
def test_output_frames_is_the_ceiling_of_samples_over_640(samples: int) -> None:
    """The closed formula that the times rest on."""
    frames = features.output_frames(samples)
    assert 640 * (frames - 1) < samples <= 640 * frames


@pytest.mark.parametrize(
    "bad", [np.zeros(10), np.zeros((2, 10), np.float32), np.zeros(10, np.int16), [0.0]]
)
def test_other_samples_than_float32_mono_are_refused(bad: Any) -> None:
    """Guessing a scale or a channel order would give wrong words without a word."""
    with pytest.raises(AudioError, match=r"float32|NumPy"):
        features.log_mel(bad)


def test_a_block_of_another_length_is_a_bug() -> None:
    """Only the recogniser makes blocks, so this is no user's mistake."""
    with pytest.raises(ValueError, match="1520"):
        features.log_mel_block(np.zeros(1519, np.float32))
