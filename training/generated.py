"""Sounds that are made up, since no collection of recordings holds enough of them: rooms, music.

Everything is chosen by the generator that is given, so the same one makes the same sound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16000
PERIOD = 2048  # entries of the table that holds one period of a tone
QUIETEST_DB = 20  # of an instrument against the loudest that can be

Samples = NDArray[np.float32]
Waves = NDArray[np.float64]


def generated_room(rng: np.random.Generator) -> Samples:
    """An impulse response of the statistical kind: a direct sound, then noise that dies away.

    The reverberation time (60 dB) is 0.15 to 1.2 s, the direct sound 6 dB weaker to 12 dB stronger
    than the rest, which begins 1 to 20 ms later and is duller than white (Polack 1988).
    """
    seconds, ratio_db, dullness = rng.uniform(0.15, 1.2), rng.uniform(-6, 12), rng.uniform(0, 0.9)
    length = int(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    tones = np.linspace(0, np.pi, len(spectrum))
    noise = np.fft.irfft(spectrum / np.abs(1 - dullness * np.exp(-1j * tones)), length)
    tail = noise * np.exp(-np.log(1e3) * np.arange(length) / length)
    tail *= 10 ** (-ratio_db / 20) / np.sqrt(np.sum(tail**2))
    return np.concatenate(([1.0], np.zeros(rng.integers(16, 320)), tail)).astype(np.float32)


def generated_music(length: int, rng: np.random.Generator) -> Samples:
    """One to five instruments, each with its own timbre, pitch, tempo and touch, float32 [length].

    They play tones that hold, swell or die away, slide and tremble, or they strike a drum; many
    have a body that resounds, as strings and horns do, and vowels. It is no good music, but whoever
    took it for speech would take music for speech.
    """
    instruments = int(rng.integers(1, 6))
    played = np.sum([_instrument(length, rng) for _ in range(instruments)], axis=0)
    return np.asarray(played, np.float32)


def _instrument(length: int, rng: np.random.Generator) -> Waves:
    """A sequence of tones, or of strokes if it is a drum: one in six is."""
    tempo = np.exp(rng.uniform(np.log(0.08), np.log(3)))  # seconds a tone
    lasts = np.rint(
        tempo * rng.choice((0.5, 1, 1, 1, 2), 2 + int(2 * length / tempo / RATE)) * RATE
    )
    begins = np.concatenate(([0], np.cumsum(lasts))).astype(int) - int(rng.integers(lasts[0]))
    places = np.arange(length)
    number = np.searchsorted(begins, places, side="right") - 1  # of the tone heard at each sample
    seconds = (places - begins[number]) / RATE  # since it began
    touch = np.where(rng.random(len(begins)) < 0.2, 0, rng.uniform(0.5, 1, len(begins)))
    if rng.random() < 1 / 6:
        wave, fading = rng.standard_normal(length), rng.uniform(5, 60)
    else:
        wave, fading = (
            _tones(number, len(begins), seconds, rng),
            rng.choice((0, rng.uniform(0, 12))),
        )
    envelope = touch[number] * np.exp(-fading * seconds)
    envelope *= np.minimum(1, seconds / np.exp(rng.uniform(np.log(0.002), np.log(0.2))))
    played = 10 ** (-rng.uniform(0, QUIETEST_DB) / 20) * envelope * wave
    return _resounding(played, rng) if rng.random() < 0.6 else played


def _resounding(wave: Waves, rng: np.random.Generator) -> Waves:
    """A wave as a body gives it off, as loud as before: some resonances stay where they are."""
    if not wave.any():
        return wave
    frequencies = np.fft.rfftfreq(len(wave), 1 / RATE)
    gain = np.full(len(frequencies), 10 ** (-rng.uniform(10, 40) / 20))
    for _ in range(int(rng.integers(2, 9))):
        centre = np.exp(rng.uniform(np.log(150), np.log(6000)))  # Hz
        width = centre * rng.uniform(0.05, 0.4)
        gain += rng.uniform(0.2, 1) / (1 + ((frequencies - centre) / width) ** 2)
    body = np.fft.irfft(np.fft.rfft(wave) * gain, len(wave))
    return np.asarray(body * np.linalg.norm(wave) / max(1e-12, float(np.linalg.norm(body))))


def _tones(number: NDArray[np.intp], tones: int, seconds: Waves, rng: np.random.Generator) -> Waves:
    """Tones of one timbre without their envelopes.

    Args:
        number: of the tone at each sample.
        tones: that there are.
        seconds: since that tone began.
        rng: chooses timbre, pitches, how far each slides, and the vibrato.
    """
    lowest = np.exp(rng.uniform(np.log(50), np.log(1200)))  # Hz
    scale = rng.choice((5, 7, 12, 24))  # steps of an octave
    octaves = rng.integers(0, scale + 1, tones) / scale
    slide = rng.choice((0, rng.uniform(0, 1))) * rng.uniform(-1, 1, tones)  # octaves a second
    vibrato = rng.choice((0, rng.uniform(0, 0.06))) * np.sin(
        2 * np.pi * rng.uniform(3, 8) * np.arange(len(seconds)) / RATE
    )
    octave = np.clip(octaves[number] + slide[number] * seconds, -1, 2) + vibrato
    phase = np.cumsum(lowest * 2**octave) / RATE
    partials = np.arange(1, 1 + int(rng.integers(1, 17)))
    partials = partials[partials * lowest * 2 < RATE / 2]
    strengths = rng.uniform(0.1, 1, len(partials)) * partials ** -rng.uniform(0, 2)
    place = np.arange(PERIOD)[:, None] / PERIOD + rng.random(len(partials))
    period = np.sin(2 * np.pi * partials * place) @ strengths
    return np.asarray(period[(phase * PERIOD).astype(int) % PERIOD] / np.linalg.norm(strengths))
