"""A voice whose phones are letters: a tone for each, of a length that is known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.synthesis.voices import Manner, Speech, Unspeakable
from training.synthetic import ARPABET, FRAME

START, PHONE, GAP, END = 8, 3, 1, 6  # lengths in frames
ALPHABET = {"c": "k", "j": "ʤ", "q": "k", "x": "k", "y": "j", "e": "ɛ", "o": "O", "A": "A"}


@dataclass
class FakeVoice:
    """Speaks letters; with `times` it tells the phones'."""

    times: bool = True

    def speak(self, text: str, manner: Manner) -> Speech:
        """See `training.synthesis.voices.Voice`; it cannot say `unspeakable`."""
        if "unspeakable" in text:
            raise Unspeakable("a word that it cannot say")
        letters = [
            c if c == " " else ALPHABET.get(c, c) for c in text.lower() if c.isalpha() | (c == " ")
        ]
        assert all(letter in ARPABET for letter in letters if letter != " ")
        length = max(1, round(PHONE / manner.rate))
        inner = [GAP if letter == " " else length for letter in letters]
        frames = (START, *inner, END)
        levels = [0.0, *(0.0 if letter == " " else 0.5 for letter in letters), 0.0]
        envelope = np.repeat(levels, np.array(frames) * FRAME)
        tone = np.cos(0.1 * manner.pitch * np.arange(len(envelope)))
        samples = np.asarray(envelope * tone, np.float32)
        return Speech(samples, "".join(letters), frames) if self.times else Speech(samples)


def load() -> FakeVoice:
    """For `parallel.each`, in any process."""
    return FakeVoice()


def load_without_times() -> FakeVoice:
    """As voices are that do not tell."""
    return FakeVoice(times=False)


def refuse() -> FakeVoice:
    """To show that nothing is loaded where nothing is left to do."""
    raise AssertionError("a voice was loaded")
