"""How an utterance comes out of a room: rate and pitch of its speaker, level, silence around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import ConfigError
from training.synthesis.voices import SAMPLE_RATE, Manner, Unspeakable

if TYPE_CHECKING:
    from asr.audio import Samples
    from training.synthesis.script import Line

Range = tuple[float, float]
AUDIBLE = 0.01  # of the largest sample: where speech begins and ends
LARGEST = 0.98  # sample, of full scale
SPREAD = 0.07  # rates of one speaker's utterances about his own
PITCH_SPREAD = 0.02


@dataclass(frozen=True, slots=True)
class Variation:
    """What utterances are drawn from, uniformly: the lowest and the highest of each.

    Attributes:
        rate: of a speaker; an utterance is within 7 % of it.
        pitch: of a speaker; an utterance is within 2 % of it.
        level: RMS in dB below full scale.
        silence: seconds before the first sound, and behind the last.
    """

    rate: Range = (0.85, 1.2)
    pitch: Range = (0.82, 1.15)
    level: Range = (-32.0, -18.0)
    silence: Range = (0.05, 0.5)

    def __post_init__(self) -> None:
        limits = {
            "rate": (0.5, 2.0),
            "pitch": (0.5, 2.0),
            "level": (-80.0, -3.0),
            "silence": (0.0, 10.0),
        }
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ConfigError(
                    f"--{name} {low:g} {high:g}: give the lower first, both in {least:g} … {most:g}"
                )


def manner_of(line: Line, variation: Variation, seed: int) -> Manner:
    """How a line is spoken: a function of the seed, its speaker and its number."""
    speaker = np.random.default_rng((seed, 2, line.speaker))
    rate, pitch = speaker.uniform(*variation.rate), speaker.uniform(*variation.pitch)
    own = np.random.default_rng((seed, 3, line.number))
    return Manner(
        speaker=int(speaker.integers(2**31)),
        rate=rate * own.uniform(1 - SPREAD, 1 + SPREAD),
        pitch=pitch * own.uniform(1 - PITCH_SPREAD, 1 + PITCH_SPREAD),
        seed=int(own.integers(2**31)),
    )


def deliver(spoken: Samples, variation: Variation, rng: np.random.Generator) -> tuple[Samples, int]:
    """Speech at a level and with silence around it.

    Where the voice was silent for less, digital silence fills up; where it was for longer, it is
    cut.

    Args:
        spoken: float32 [n], 16 kHz.
        variation: what to draw from.
        rng: draws.

    Returns:
        Samples, float32 [m], none beyond 0.98 of full scale, and how many were cut off in front
        (negative: put before).

    Raises:
        Unspeakable: there is no sound in it.
    """
    largest = float(np.abs(spoken).max(initial=0.0))
    if not largest or not np.isfinite(spoken).all():
        raise Unspeakable("text without a sound")
    audible = np.flatnonzero(np.abs(spoken) >= AUDIBLE * largest)
    lead, tail = (int(SAMPLE_RATE * rng.uniform(*variation.silence)) for _ in range(2))
    cut, end = int(audible[0]) - lead, int(audible[-1]) + 1 + tail
    inside = spoken[max(0, cut) : end]
    samples = np.pad(inside, (max(0, -cut), max(0, end - len(spoken))))
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    gain = min(10 ** (rng.uniform(*variation.level) / 20) / rms, LARGEST / largest)
    return np.asarray(samples * np.float32(gain), np.float32), cut
