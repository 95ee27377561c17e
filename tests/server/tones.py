"""A recogniser of tones: the real one, over a network that anyone can follow.

A tone of `FREQUENCIES[letter]` is the word `letter`. So tests know what must come out, while
everything but the network is what is shipped. The network can be stopped (`gate`) and fails where
it hears `POISON`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from asr.decoding.greedy import GreedyDecoder
from asr.features import Normalisation
from asr.recognizer import Recognizer

if TYPE_CHECKING:
    from asr.acoustic import AcousticState, Array
    from asr.transcript import Event, Final, Transcript

RATE = 16_000
FREQUENCIES = {"a": 300.0, "b": 600.0, "c": 1200.0, "d": 2200.0}
POISON = "!"
_TONES = {**FREQUENCIES, POISON: 3300.0}
LOOK_AHEAD = 2
VOCABULARY = 1 + len(_TONES)
_LOUD = 0.0  # log-energy of a band above which a frame is a tone
_DEADLY = 6.0  # and of the poison, which noise never reaches


def _band(frequency: float) -> int:
    """The mel band in whose middle the frequency lies."""
    mel = 2595 * np.log10(1 + frequency / 700)
    top = 2595 * np.log10(1 + 8000 / 700)
    return round(float(mel / top * 81)) - 1


class ToneNetwork:
    """Says for every output frame which tone is loud; L frames late, by way of its state.

    Attributes:
        gate: while it is cleared, `step` waits.
        stepping: set while `step` waits at the gate or works.
        company: how many streams each step had.
    """

    look_ahead = LOOK_AHEAD
    heads = {"tones": VOCABULARY}  # noqa: RUF012 - as the protocol has it

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.stepping = threading.Event()
        self.company: list[int] = []

    def initial(self) -> AcousticState:
        """The L frames before the beginning: blank."""
        return (_rows(np.full(LOOK_AHEAD, -1)),)

    def step(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        """One block of N streams."""
        self.stepping.set()
        assert self.gate.wait(30), "the test never opened the gate"
        self.company.append(len(states))
        bands = [_band(frequency) for frequency in _TONES.values()]
        energy = features.reshape(len(states), 2, 4, -1).max(2)[..., bands]  # [N, 2, tones]
        tone = np.where(energy.max(-1) > _LOUD, energy.argmax(-1), -1)
        if ((tone == len(FREQUENCIES)) & (energy[..., -1] > _DEADLY)).any():
            raise ArithmeticError("poison")
        late = [np.concatenate((s[0], _rows(t))) for s, t in zip(states, tone, strict=True)]
        return {"tones": np.stack([rows[:2] for rows in late])}, [(rows[2:],) for rows in late]


def _rows(tone: np.ndarray) -> Array:
    rows = np.full((len(tone), VOCABULARY), -5.0, np.float32)
    rows[np.arange(len(tone)), tone + 1] = -0.125
    return rows


def recognizer(network: ToneNetwork | None = None) -> Recognizer:
    """A recogniser whose words are the letters of `FREQUENCIES`."""
    units = ["<blank>", *(f"▁{letter}" for letter in _TONES)]
    plain = Normalisation(np.zeros(80, np.float32), np.ones(80, np.float32))
    decoder = GreedyDecoder(units, "tones")
    return Recognizer(network or ToneNetwork(), decoder, plain, bundle_id="70e5", name="tones")


def sing(song: str, rate: int = RATE) -> Array:
    """Samples float32 [n]: a letter is 160 ms of tone and 80 ms of hiss, a space 1.16 s of hiss."""
    noise = np.random.default_rng(len(song))
    pieces = []
    for letter in song:
        tone = np.arange(int(0.16 * rate)) / rate * 2 * np.pi * _TONES.get(letter, 0.0)
        pieces.append(0.5 * np.sin(tone))
        pieces.append(np.zeros(int((1.0 if letter == " " else 0.08) * rate)))
    samples = np.concatenate(pieces) if pieces else np.zeros(0)
    return (samples + 1e-4 * noise.standard_normal(len(samples))).astype(np.float32)


def alone(samples: Array) -> tuple[Final, ...]:
    """What the recogniser says to samples at 16 kHz when nobody else is there."""
    transcript: Transcript = recognizer().transcribe(samples)
    return transcript.segments


def events_alone(samples: Array) -> list[Event]:
    """All events, partials too, of samples at 16 kHz."""
    stream = recognizer().stream()
    return [*stream.feed(samples), *stream.finish()]
