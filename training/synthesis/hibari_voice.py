"""The voice of hibari-tts (Apache-2.0): one speaker, very fast, phones' times unknown.

Speakers differ by pitch alone: what is spoken is resampled, which moves pitch, formants and rate
together, as a larger or smaller head would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr
from hibari import Hibari

from training.synthesis.voices import SAMPLE_RATE, Speech, Unspeakable

if TYPE_CHECKING:
    from training.synthesis.voices import Manner


class HibariVoice:
    """See `training.synthesis.voices.Voice`."""

    def __init__(self) -> None:
        self._hibari = Hibari()

    def speak(self, text: str, manner: Manner) -> Speech:
        """Speak a text, at another pitch for each manner."""
        spoken = self._hibari(text, speed=manner.rate, seed=manner.seed)
        if not len(spoken):
            raise Unspeakable("text without a sound")
        rate = self._hibari.sample_rate * manner.pitch
        return Speech(np.asarray(soxr.resample(spoken, rate, SAMPLE_RATE), np.float32))
