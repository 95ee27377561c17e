"""How audio is written on the wire, and what a decoder is that reads it: one a stream.

A decoder takes bytes as they come, cut anywhere, and gives float32 samples [n, C]. What it gives
depends on the bytes so far alone. It decodes no more than it is asked for, so that a few bytes
which stand for hours of silence cost nothing until their turn has come. Everything that it
remembers can be written down as plain values and gone on from elsewhere.

*Raw* encodings are samples and nothing else; the client says how they are to be read. *Containers*
say it themselves, in their first bytes.

Sizes: n samples per channel, C channels.
"""

from __future__ import annotations

from typing import Any, Final
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from asr.errors import ProtocolError

Samples = NDArray[np.float32]
Saved = dict[str, Any]  # of numbers, texts, bytes, None and lists of them; never written to

SAMPLE_BYTES: Final = {"s16le": 2, "f32le": 4, "mulaw": 1, "alaw": 1}  # of the raw encodings
CONTAINERS: Final = ("wav", "flac", "ogg-opus")
ENCODINGS: Final = (*SAMPLE_BYTES, *CONTAINERS)
# How files begin, `?` for any byte. Sent as if they were samples, they are noise for hours.
_FILES: Final = (
    ("wav", b"RIFF????WAVE"),
    ("wav", b"RF64????WAVE"),
    ("flac", b"fLaC?\0\0\x22"),
    ("ogg-opus", b"OggS\0\2"),
)
START_BYTES: Final = 12  # that tell whether a stream is a file
MIN_RATE: Final = 8000
MAX_RATE: Final = 48000
MAX_CHANNELS: Final = 8


class Decoder(Interface):
    """Reads one stream of audio.

    Attributes:
        rate: samples per second; 0 until the header of a container has come.
        channels: C; 0 until then.
        error: what the next `take` will raise, as soon as it is known.
    """

    rate: int
    channels: int
    error: ProtocolError | None

    def feed(self, data: bytes | memoryview) -> None:
        """Take in bytes. They wait until `take` asks for what they hold."""
        ...

    def take(self, most: int) -> Samples:
        """The next samples [n, C], n ≤ `most`; fewer only where bytes are missing or wrong.

        Raises:
            ProtocolError: the bytes are damaged, or hold what is not supported; `error` is the
                same. All samples before that have been given.
        """
        ...

    def check_end(self) -> None:
        """Make sure that the stream may end here, when `take` gives nothing more.

        Raises:
            ProtocolError: it breaks off in the middle of something.
        """
        ...

    def save(self) -> Saved:
        """Everything that it remembers."""
        ...

    def restore(self, saved: Saved) -> None:
        """Go on from what `save` gave; to be called on a fresh decoder of the same format.

        Raises:
            KeyError, StateError, TypeError, ValueError: the values are no such state.
        """
        ...


class Stepwise:
    """What decoders have in common: samples are made bit by bit, and an error comes behind them."""

    def __init__(self, rate: int = 0, channels: int = 0) -> None:
        self.rate = rate
        self.channels = channels
        self.error: ProtocolError | None = None

    def take(self, most: int) -> Samples:
        """The next samples; see `Decoder`."""
        parts: list[Samples] = []
        wanted = most
        while wanted and self.error is None:
            try:
                part = self._next(wanted)
            except ProtocolError as error:
                self.error = error
                break
            if part is None:
                break
            parts.append(part)
            wanted -= len(part)
        if self.error is not None and not parts:
            raise self.error
        return np.concatenate(parts) if parts else silence(self.channels)

    def _next(self, most: int) -> Samples | None:
        """Some of the next samples [n, C], 0 < n ≤ `most`, or None if bytes are missing.

        Raises:
            ProtocolError: as `take`.
        """
        raise NotImplementedError


def file_start(data: bytes) -> tuple[str, int] | None:
    """Which of `CONTAINERS` begins so, and how many bytes tell it; None if none does (yet)."""
    for encoding, start in _FILES:
        if len(data) >= len(start) and all(
            a == b for a, b in zip(start, data, strict=False) if a != ord("?")
        ):
            return encoding, len(start)
    return None


def check_sound(rate: int, channels: int, where: str) -> None:
    """Make sure that the server can hear this.

    Raises:
        ProtocolError: the rate or the number of channels is out of bounds.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise unusable(
            f"{where}: sample_rate {rate} is not supported; send {MIN_RATE} to {MAX_RATE} samples "
            "per second"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise unusable(f"{where}: {channels} channels are not supported; send 1 to {MAX_CHANNELS}")


def silence(channels: int) -> Samples:
    """No samples, of so many channels."""
    return np.zeros((0, channels), np.float32)


def damaged(message: str) -> ProtocolError:
    """The error for bytes that are not what they should be."""
    return ProtocolError(message, "bad_payload", 1007)


def unusable(message: str) -> ProtocolError:
    """The error for audio that is whole, but of a kind that the server does not hear."""
    return ProtocolError(message, "bad_format", 1003)
