"""What a voice is: it speaks a text in a manner, and may know how long each phone lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from asr.audio import Samples

SAMPLE_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Manner:
    """How an utterance is spoken.

    Attributes:
        speaker: seed of who speaks; voices that can, sound another for each.
        rate: of speaking, 1 is the voice's own.
        pitch: higher or lower, and as much faster or slower, 1 is the voice's own; only for voices
            that do not know their phones' times.
        seed: of what else is left to chance.
    """

    speaker: int
    rate: float
    pitch: float
    seed: int


@dataclass(frozen=True, slots=True)
class Speech:
    """What a voice said.

    Attributes:
        samples: float32 [n], 16 kHz.
        phones: one character a token, in the alphabet of Kokoro-82M (`training.synthetic`); empty
            where the voice does not tell.
        frames: lengths in units of 400 samples: a start mark, the phones, an end mark.
    """

    samples: Samples
    phones: str = ""
    frames: tuple[int, ...] = ()


class Unspeakable(Exception):  # noqa: N818 - no error: a text that is passed over and counted
    """A text that this voice cannot speak, or spoke in a way that nobody does."""


class Voice(Protocol):
    """A synthesiser, loaded."""

    def speak(self, text: str, manner: Manner) -> Speech:
        """Speak a text.

        Raises:
            Unspeakable: it cannot.
        """
        ...
