"""What befalls speech on its way to a recogniser, and sounds that are no speech.

Each is a function of samples, float32 [n] at 16 kHz, and keeps their number unless it says
otherwise. Those that choose something take a generator that the caller seeds.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from asr import resampling
from asr.measure import SAMPLE_RATE, read_samples
from training.augment import add_noise, from_direct_sound, reverberate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from asr.audio import Samples

NARROW_RATE = SAMPLE_RATE // 2
TELEPHONE_BAND = (300.0, 3400.0)  # Hz: ITU-T G.712
SKIRT = 100.0  # Hz outside the band in which the filter falls to nothing


def telephone(samples: Samples) -> Samples:
    """As a telephone line carries it: 300 to 3400 Hz, 8 kHz, μ-law (ITU-T G.711)."""
    narrow = np.ascontiguousarray(band_limited(samples, *TELEPHONE_BAND)[::2])
    return resampling.resample(mu_law(narrow), NARROW_RATE)[: len(samples)]


def band_limited(samples: Samples, low: float, high: float) -> Samples:
    """Only the frequencies from `low` to `high` (Hz), without any delay.

    The gain is 1 between them and falls as a raised cosine to 0 at 100 Hz outside.
    """
    if not samples.size:
        return samples
    spectrum = np.fft.rfft(samples)
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    outside = np.maximum(low - frequencies, frequencies - high)
    gain = 0.5 + 0.5 * np.cos(np.pi * np.clip(outside / SKIRT, 0, 1))
    return np.asarray(np.fft.irfft(spectrum * gain, len(samples)), np.float32)


def mu_law(samples: Samples) -> Samples:
    """Samples in 8 bits and back, by libsndfile's G.711; what is beyond full scale is cut off."""
    coded = io.BytesIO()
    kind = {"samplerate": NARROW_RATE, "format": "RAW", "subtype": "ULAW"}
    soundfile.write(coded, np.clip(samples, -1, 1), **kind)
    coded.seek(0)
    decoded, _ = soundfile.read(coded, dtype="float32", channels=1, **kind)
    return np.asarray(decoded, np.float32)


def noisy(
    samples: Samples, rng: np.random.Generator, noises: Sequence[Path], snr_db: float
) -> Samples:
    """With one of the noises, from a random place in it, so many dB below the speech.

    Powers are means over the whole recording. Nothing is cut off, even beyond full scale.
    """
    return add_noise(samples, sound(noises[int(rng.integers(len(noises)))]), snr_db, rng)


def reverberant(samples: Samples, rng: np.random.Generator, rooms: Sequence[Path]) -> Samples:
    """As heard in one of the rooms (impulse responses), as loud as before and in its old place."""
    return reverberate(samples, from_direct_sound(sound(rooms[int(rng.integers(len(rooms)))])))


def louder(samples: Samples, factor: float) -> Samples:
    """So many times as loud; what is beyond full scale is cut off."""
    return np.asarray(np.clip(samples * np.float32(factor), -1, 1), np.float32)


def overdriven(samples: Samples, share: float) -> Samples:
    """So loud that this share of the samples is cut off at full scale; silence stays silence."""
    level = float(np.quantile(np.abs(samples), 1 - share)) if samples.size else 0.0
    return louder(samples, 1 / level) if level else samples


def after_silence(samples: Samples, seconds: float) -> Samples:
    """With digital silence before it: float32 [16000 seconds + n]."""
    return np.pad(samples, (round(seconds * SAMPLE_RATE), 0))


@cache
def sound(path: Path) -> Samples:
    """A noise or an impulse response, read once in a process."""
    return read_samples(path)


def silence(seconds: float) -> Samples:
    """Digital silence."""
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


TUNING = 220.0  # Hz, the lowest root is up to a fifth away from it
CHORDS = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))  # semitones: I, vi, IV, V


def music(seconds: float, rng: np.random.Generator) -> Samples:
    """Music of a plucked or blown instrument: chords and arpeggios over I-vi-IV-V, float32 [n].

    Key, tempo, timbre and touch change every four bars; the peak is half of full scale.
    """
    total = round(seconds * SAMPLE_RATE)
    played = np.zeros(total, np.float32)
    position = 0
    while position < total:
        root = TUNING * 2 ** (rng.integers(-7, 8) / 12)
        beat = round(60 / rng.uniform(60, 150) * SAMPLE_RATE)
        timbre = rng.uniform(0.2, 1.0, 6) / np.arange(1, 7)
        decay, attack = rng.uniform(0.5, 8.0), rng.uniform(0.003, 0.05)
        for chord in CHORDS:
            arpeggio = rng.random() < 0.6
            for count in range(4):
                heard = (chord[count % 3],) if arpeggio else chord
                for semitones in (*heard, chord[0] - 12):
                    pitch = root * 2 ** (semitones / 12)
                    part = played[position : position + 2 * beat]
                    part += tone(pitch, len(part), timbre, decay, attack)
                position += beat
    peak = float(np.abs(played).max(initial=0.0))
    return played / np.float32(2 * peak) if peak else played


def tone(
    pitch: float, length: int, timbre: Iterable[float], decay: float, attack: float
) -> Samples:
    """One tone of an instrument, float32 [length].

    Args:
        pitch: Hz.
        length: samples.
        timbre: amplitudes of the harmonics, from the first on; those above 8 kHz are left out.
        decay: nepers a second.
        attack: seconds until it is heard in full.
    """
    t = np.arange(length) / SAMPLE_RATE
    audible = [(k, a) for k, a in enumerate(timbre, 1) if k * pitch < SAMPLE_RATE / 2]
    wave = sum((a * np.sin(2 * np.pi * k * pitch * t) for k, a in audible), np.zeros(length))
    release = np.minimum(1, np.arange(length)[::-1] / (0.02 * SAMPLE_RATE))
    envelope = np.exp(-decay * t) * np.minimum(1, t / attack) * release
    return np.asarray(wave * envelope, np.float32)
