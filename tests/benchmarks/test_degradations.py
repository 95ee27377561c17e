"""Each degradation does what its figure claims, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import degradations

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from asr.audio import Samples

RATE = 16_000
SEEDS = st.integers(0, 2**32 - 1)


def speech(length: int, seed: int) -> Samples:
    """Something with every frequency, within half of full scale."""
    random = np.random.default_rng(seed)
    return np.asarray(random.uniform(-0.5, 0.5, length), np.float32)


def sine(frequency: float, seconds: float = 0.5) -> Samples:
    """A tone at half of full scale."""
    t = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(0.5 * np.sin(2 * np.pi * frequency * t), np.float32)


def decibels(samples: NDArray[Any]) -> float:
    """Mean power."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20))


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of noise in a file."""
    path = tmp_path_factory.mktemp("noise") / "noise.wav"
    soundfile.write(path, speech(RATE, 7) / 3, RATE, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An impulse response with its direct sound at sample 20 and two echoes."""
    response = np.zeros(800, np.float32)
    response[[3, 20, 300, 700]] = 0.1, 0.9, 0.5, -0.3
    path = tmp_path_factory.mktemp("room") / "room.wav"
    soundfile.write(path, response, RATE, subtype="FLOAT")
    return path


@settings(max_examples=25)
@given(length=st.integers(0, 3000), seed=SEEDS)
def test_every_sample_stays_in_its_place(length: int, seed: int) -> None:
    """A recording that grew or shrank would be another recording."""
    samples = speech(length, seed)
    assert len(degradations.telephone(samples)) == length
    assert len(degradations.louder(samples, 2)) == length
    assert len(degradations.overdriven(samples, 0.01)) == length


@pytest.mark.parametrize("frequency", [300, 1000, 3400])
def test_a_telephone_carries_its_band(frequency: int) -> None:
    """At both edges and within, the level is the same to a tenth of a decibel."""
    tone = sine(frequency)
    middle = slice(1000, -1000)
    heard = degradations.telephone(tone)[middle]
    assert decibels(heard) == pytest.approx(decibels(tone[middle]), abs=0.1)


@pytest.mark.parametrize("frequency", [100, 3700, 5000, 7000])
def test_a_telephone_carries_nothing_else(frequency: int) -> None:
    """50 dB down is below what μ-law itself adds to speech."""
    tone = sine(frequency)
    assert decibels(degradations.telephone(tone)) < decibels(tone) - 50


def test_a_telephone_delays_nothing() -> None:
    """A shifted recording would have other word times, and other blocks."""
    samples = degradations.band_limited(speech(4000, 1), 300, 3400)
    heard = degradations.telephone(samples)
    products = [float(np.dot(samples[20:-20], np.roll(heard, k)[20:-20])) for k in range(-9, 10)]
    assert int(np.argmax(products)) == 9


def test_mu_law_has_the_errors_of_eight_bits() -> None:
    """The signal is about 38 dB above them at any level of speech: that is what it is for."""
    for level in (0.02, 0.1, 0.5):
        samples = 2 * level * speech(4000, 2)
        error = degradations.mu_law(samples) - samples
        assert 33 < decibels(samples) - decibels(error) < 42
    assert np.abs(degradations.mu_law(np.full(9, 3, np.float32))).max() <= 1


@settings(max_examples=25)
@given(length=st.integers(1, 40_000), snr_db=st.floats(-10, 40), seed=SEEDS)
def test_noise_has_the_ratio_that_was_asked_for(
    noise: Path, length: int, snr_db: float, seed: int
) -> None:
    """Within a tenth of a decibel, also where the noise is shorter than the speech."""
    samples = speech(length, seed)
    heard = degradations.noisy(samples, np.random.default_rng(seed), [noise], snr_db)
    added = heard.astype(np.float64) - samples
    assert decibels(samples) - decibels(added) == pytest.approx(snr_db, abs=0.1)
    assert len(heard) == length


@settings(max_examples=10)
@given(length=st.integers(1, 4000), seed=SEEDS)
def test_a_room_changes_neither_loudness_nor_length(room: Path, length: int, seed: int) -> None:
    """Loudness has figures of its own."""
    samples = speech(length, seed)
    heard = degradations.reverberant(samples, np.random.default_rng(seed), [room])
    assert len(heard) == length
    assert decibels(heard) == pytest.approx(decibels(samples), abs=0.01)


def test_a_room_adds_its_echoes_and_leaves_the_direct_sound_in_place(room: Path) -> None:
    """The response before its strongest sample is delay, not room."""
    click = np.zeros(1000, np.float32)
    click[100] = 0.5
    heard = degradations.reverberant(click, np.random.default_rng(0), [room])
    loud = np.flatnonzero(np.abs(heard) > 0.01)
    assert loud.tolist() == [100, 380, 780]
    assert heard[380] / heard[100] == pytest.approx(0.5 / 0.9, abs=1e-3)


@given(factor=st.floats(0.1, 10), seed=SEEDS)
def test_loudness_is_multiplied_exactly_up_to_full_scale(factor: float, seed: int) -> None:
    """And beyond it nothing lies."""
    samples = speech(200, seed)
    wanted = samples * np.float32(factor)
    heard = degradations.louder(samples, factor)
    inside = np.abs(wanted) <= 1
    assert np.array_equal(heard[inside], wanted[inside])
    assert np.array_equal(heard[~inside], np.sign(wanted[~inside]))


@given(share=st.floats(0.005, 0.5), seed=SEEDS)
def test_overdriving_cuts_off_the_share_that_was_asked_for(share: float, seed: int) -> None:
    """However loud the recording was."""
    samples = speech(4000, seed) / np.float32(100)
    cut = np.mean(np.abs(degradations.overdriven(samples, share)) == 1)
    assert cut == pytest.approx(share, abs=2e-3)
    assert not degradations.overdriven(np.zeros(9, np.float32), share).any()


def test_silence_is_digital_and_comes_before() -> None:
    """Not one bit of it is set, and the speech behind it is the same."""
    samples = speech(500, 3)
    heard = degradations.after_silence(samples, 0.25)
    assert not heard[:4000].any()
    assert np.array_equal(heard[4000:], samples)
    assert degradations.silence(0.25).tolist() == [0.0] * 4000


def test_music_is_made_of_the_tones_of_its_key() -> None:
    """Loud for as long as was asked, the same for the same seed, another for another."""
    one, same, other = (degradations.music(3.0, np.random.default_rng(s)) for s in (1, 1, 2))
    assert len(one) == len(other) == 48_000
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert float(np.abs(one).max()) == pytest.approx(0.5)
    assert all(decibels(part) > -60 for part in one[:44_000].reshape(11, 4000))


def test_a_tone_has_its_pitch_and_no_harmonic_beyond_the_band() -> None:
    """What would fold back into the band would be out of tune."""
    tone = degradations.tone(3000, RATE, [1, 1, 1, 1], 0.0, 1e-3)
    spectrum = np.abs(np.fft.rfft(tone))
    assert np.sort(np.argsort(spectrum)[-2:]).tolist() == [3000, 6000]
    assert spectrum[7000] < 0.01 * spectrum.max()  # where 9000 Hz would lie
