"""Distortion of training speech: speed, rooms, noise, telephone, level, silence; and masks.

Every choice comes from a generator that the caller seeds per utterance and pass, so that a
resumed run distorts exactly as an uninterrupted one.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.errors import DataError
from asr.features import mel_edges
from training.generated import generated_music, generated_room

if TYPE_CHECKING:
    from training.recipe import Augmentation

RATE, TELEPHONE_RATE = 16000, 8000
VOICES = ("babble", "crowd", "music (with singing)")  # kinds of noise in which somebody speaks
OCTAVES = RATE / 2 / 2.0 ** np.arange(7, -1, -1)  # Hz, 62.5 to 8000
BAND_HZ = mel_edges()[1:-1]  # the middle of each band
HIGHEST = 4800  # Hz; above it a warp is taken back, so that 8 kHz stays where it is
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Distorted:
    """Samples after distortion, and where the original's sample s went: to `lead` + s / `speed`.

    Attributes:
        samples: float32 [n].
        speed: how much faster they are played.
        lead: samples of silence before them.
        wordless: noise has taken the place of the speech.
    """

    samples: Samples
    speed: float
    lead: int
    wordless: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """What all views of an utterance have in common: its course in time, and whether it is speech.

    Attributes:
        speed: how much faster it is played.
        lead: samples of silence before it.
        tail: samples of silence behind it.
        wordless: noise takes its place.
    """

    speed: float
    lead: int
    tail: int
    wordless: bool


class Augmenter:
    """Distorts samples as a recipe's `[augmentation]` says.

    Raises:
        DataError: the noise or room recordings cannot be read.
    """

    def __init__(self, settings: Augmentation) -> None:
        self.settings = settings
        self.noises, self.voiceless = _noises(Path(settings.noise)) if settings.noise else ([], [])
        if settings.wordless_probability and not self.voiceless:
            raise DataError(f"{settings.noise}: no noise without voices to teach silence with")
        self.rooms = _rooms(Path(settings.rooms)) if settings.rooms else []

    def course(self, rng: np.random.Generator) -> Course:
        """Draw what the views of an utterance are to have in common."""
        chosen = self.settings
        speed = float(rng.uniform(*chosen.speed))
        wordless = rng.random() < chosen.wordless_probability
        lead = tail = 0
        if rng.random() < chosen.silence_probability:
            lead, tail = (int(n) for n in rng.integers(0, int(chosen.silence * RATE) + 1, 2))
        return Course(speed if abs(speed - 1) > 1e-3 else 1.0, lead, tail, wordless)

    def __call__(
        self, samples: Samples, rng: np.random.Generator, course: Course | None = None
    ) -> Distorted:
        """Distort samples [n] at 16 kHz.

        Args:
            samples: of the utterance.
            rng: chooses how.
            course: of the views that this is one of; drawn if there is none.
        """
        chosen, course = self.settings, course or self.course(rng)
        if course.speed != 1:
            samples = soxr.resample(samples, RATE * course.speed, RATE, "LQ")
        if self.rooms and rng.random() < chosen.room_probability:
            samples = reverberate(samples, self._room(rng))
        if course.wordless:
            noise = self._noise(self.voiceless, len(samples), rng)
            noise = as_spoken(noise, samples) if rng.random() < 0.3 else begun(noise, rng)
            samples = alike(samples, noise)
        elif self.noises and rng.random() < chosen.noise_probability:
            noise = self._noise(self.noises, len(samples), rng)
            samples = _added(samples, noise, float(rng.uniform(*chosen.snr_db)))
        if chosen.equaliser_db:
            samples = equalised(samples, chosen.equaliser_db, rng)
        if rng.random() < chosen.telephone_probability:
            samples = telephone(samples, rng)
        gain = 10 ** (rng.uniform(*chosen.gain_db) / 20)
        samples = np.clip(samples * np.float32(gain), -1, 1)
        samples = np.pad(samples, (course.lead, course.tail)).astype(np.float32)
        return Distorted(samples, course.speed, course.lead, course.wordless)

    def _noise(self, recorded: list[Samples], length: int, rng: np.random.Generator) -> Samples:
        share = self.settings.generated_music
        if share and rng.random() < share:
            return generated_music(length, rng)
        return varied(recorded[rng.integers(len(recorded))], length, rng)

    def _room(self, rng: np.random.Generator) -> Samples:
        if rng.random() < self.settings.generated_rooms:
            return generated_room(rng)
        return self.rooms[rng.integers(len(self.rooms))]


def telephone(samples: Samples, rng: np.random.Generator) -> Samples:
    """As a telephone carries it: 8 kHz, without the lowest frequencies, half the time in μ-law.

    What is lost below lies at 0 to 350 Hz, above at 3 to 4 kHz. Nothing is moved in time.
    """
    narrow = soxr.resample(samples, RATE, TELEPHONE_RATE, "HQ")
    spectrum = np.fft.rfft(narrow)
    frequencies = np.fft.rfftfreq(len(narrow), 1 / TELEPHONE_RATE)
    outside = np.maximum(rng.uniform(0, 350) - frequencies, frequencies - rng.uniform(3e3, 4e3))
    gain = np.clip(1 - outside / 100, 0, 1)  # falls within 100 Hz
    narrow = np.fft.irfft(spectrum * gain, len(narrow)).astype(np.float32)
    if rng.random() < 0.5:  # 8 bits, logarithmic (ITU-T G.711)
        coded = np.rint(127 * np.log1p(255 * np.minimum(np.abs(narrow), 1)) / np.log(256))
        narrow = np.copysign(np.expm1(coded / 127 * np.log(256)) / 255, narrow).astype(np.float32)
    wide = soxr.resample(narrow, TELEPHONE_RATE, RATE, "HQ")[: len(samples)]
    return np.asarray(np.pad(wide, (0, len(samples) - len(wide))), np.float32)


def equalised(samples: Samples, most_db: float, rng: np.random.Generator) -> Samples:
    """As another microphone hears it: octaves louder or softer, as loud as before in all.

    Gains are drawn an octave apart and joined by lines over the logarithm of frequency. Nothing is
    moved in time.
    """
    gains = rng.uniform(-most_db, most_db, len(OCTAVES))
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE)
    curve = np.interp(np.log2(np.maximum(frequencies, OCTAVES[0])), np.log2(OCTAVES), gains)
    spectrum = np.fft.rfft(samples) * 10 ** (curve / 20)
    return alike(samples, np.fft.irfft(spectrum, len(samples)).astype(np.float32))


def reverberate(samples: Samples, response: Samples) -> Samples:
    """Samples heard through a room, as loud as before, the direct sound in its old place."""
    size = 1 << (len(samples) + len(response) - 1).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    wet = np.fft.irfft(spectrum, size)[: len(samples)]
    level = np.sqrt(np.mean(samples**2) / max(1e-12, float(np.mean(wet**2))))
    return np.asarray(wet * level, np.float32)


def from_direct_sound(response: Samples) -> Samples:
    """An impulse response from its strongest sample on, so that no speech is moved by it."""
    return response[int(np.abs(response).argmax()) :]


def add_noise(samples: Samples, noise: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Samples with a random stretch of noise (repeated when too short) at a given ratio in dB."""
    return _added(samples, stretch(noise, len(samples), rng), snr_db)


def stretch(noise: Samples, length: int, rng: np.random.Generator) -> Samples:
    """A random stretch of noise, repeated when too short."""
    start = int(rng.integers(len(noise)))
    return np.take(noise, np.arange(start, start + length), mode="wrap")


def varied(noise: Samples, length: int, rng: np.random.Generator) -> Samples:
    """A random stretch of noise forwards or backwards, up to a quarter slower or faster.

    From few noises come many sounds.
    """
    step = rng.choice((-1, 1)) * rng.uniform(0.8, 1.25)
    places = rng.integers(len(noise)) + step * np.arange(length)
    found = np.interp(places, np.arange(len(noise)), noise, period=len(noise))
    return np.asarray(found, np.float32)


def begun(noise: Samples, rng: np.random.Generator) -> Samples:
    """Noise that was not there from the beginning, three times in four: it rises out of quiet.

    A stretch of a recording begins at once, speech never does. Whoever can tell noise by that
    does not listen to what comes then.
    """
    if rng.random() < 0.25:
        return noise
    quiet, rise = rng.uniform(0, 1) ** 2, np.exp(rng.uniform(np.log(0.005), np.log(0.6)))  # s
    lowest = 10 ** (-rng.uniform(30, 80) / 20)
    risen = np.clip((np.arange(len(noise)) / RATE - quiet) / rise, 0, 1)
    return np.asarray(noise * (lowest + (1 - lowest) * risen), np.float32)


def as_spoken(noise: Samples, speech: Samples) -> Samples:
    """Noise that swells and fades as speech does, over some 50 ms."""
    size = RATE // 20
    power = np.cumsum(np.pad(speech.astype(np.float64) ** 2, (size, size)))
    loud = np.sqrt(np.maximum(0, power[2 * size :] - power[: -2 * size]))
    return np.asarray(noise * loud, np.float32)


def alike(samples: Samples, noise: Samples) -> Samples:
    """Noise made as loud as some samples."""
    power, noise_power = float(np.mean(samples**2)), max(1e-12, float(np.mean(noise**2)))
    return np.asarray(noise * np.sqrt(power / noise_power), np.float32)


def _added(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    return np.asarray(samples + alike(samples, noise) * 10 ** (-snr_db / 20), np.float32)


def warp(features: Tensor, most: float, rng: np.random.Generator) -> None:
    """Features [F, 80] in place as of a longer or shorter vocal tract (Jaitly and Hinton 2013).

    What a band holds moves to the bands whose frequencies are some factor within 1 ± `most` as
    high, up to `HIGHEST`; from there on the line bends towards 8 kHz.
    """
    factor = 1 + float(rng.uniform(-most, most))
    bend = HIGHEST * min(1.0, factor)  # the frequency that comes from bend / factor
    heard = np.interp(BAND_HZ, (0, bend, RATE / 2), (0, bend / factor, RATE / 2))
    places = torch.from_numpy(np.interp(heard, BAND_HZ, np.arange(len(BAND_HZ))))
    below = places.long().clamp(max=len(BAND_HZ) - 2)
    share = (places - below).to(features.dtype)
    features.copy_(features[:, below] * (1 - share) + features[:, below + 1] * share)


def mask(features: Tensor, frames: int, settings: Augmentation, rng: np.random.Generator) -> None:
    """SpecAugment masks on normalised features [F, 80], in place, over the first `frames` frames.

    Masked places get 0, the mean (Park et al. 2019, section 2; without time warping).
    """
    bands = features.shape[1]
    for _ in range(settings.frequency_masks):
        width = int(rng.integers(settings.frequency_mask_bands + 1))
        start = int(rng.integers(bands - width + 1))
        features[:, start : start + width] = 0
    for _ in range(int(frames / 100 * settings.time_masks + rng.random())):
        width = int(rng.integers(int(settings.time_mask_seconds * 100) + 1))
        start = int(rng.integers(max(1, frames - width)))
        features[start : start + width] = 0


def _noises(manifest: Path) -> tuple[list[Samples], list[Samples]]:
    """Training noises of a manifest, and those of them without voices.

    Rows of another `split` than `train`, or of the `kind` `rir`, are left out.
    """
    try:
        lines = manifest.read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        chosen = [row for row in rows if row.get("split") == "train" and row.get("kind") != "rir"]
        paths = [manifest.parent / row["audio"] for row in chosen]
        voiceless = [not str(row.get("kind")).startswith(VOICES) for row in chosen]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{manifest}: no readable manifest of noise: {error}") from error
    noises = [_read(path) for path in paths]
    if not noises:
        raise DataError(f"{manifest}: no row has the split `train`")
    return noises, list(itertools.compress(noises, voiceless))


def _rooms(folder: Path) -> list[Samples]:
    """Impulse responses, each from its direct sound on."""
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".flac", ".wav"))
    if not paths:
        raise DataError(f"{folder}: no impulse responses (.flac or .wav) here")
    return [from_direct_sound(_read(path)) for path in paths]


def _read(path: Path) -> Samples:
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not np.isfinite(samples).all() or not samples[:, 0].any():
        raise DataError(f"{path}: silent, empty or with samples that are not finite")
    return np.asarray(soxr.resample(samples[:, 0], rate, RATE), np.float32)
