"""From bytes on the wire to float32 at 16 kHz, and times at 16 kHz back to the wire's samples.

The state of one session's audio between socket and recogniser. Used by one thread at a time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asr import audio, resampling
from asr.live import Conversion

if TYPE_CHECKING:
    from asr.resampling import ResamplerState
    from asr.transcript import Event
    from server.dialogue import AudioFormat

Samples = NDArray[np.float32]

_DECODERS = {"s16le": audio.from_s16le, "f32le": audio.from_f32le}

ARRIVAL_GRAIN = 0.001  # seconds: pieces that arrive closer together are logged as one
ARRIVAL_MEMORY = 1.0  # seconds of audio: no message depends on a sample longer ago than this


class Intake:
    """Decodes and resamples the audio of one session, and remembers when it arrived.

    Attributes:
        format: how the bytes are to be read. One channel.
        position: input samples taken in so far.
    """

    def __init__(self, audio_format: AudioFormat, saved: ResamplerState | None = None) -> None:
        self.format = audio_format
        self._conversion = Conversion(audio_format.sample_rate, saved)
        self._arrivals: deque[tuple[int, float]] = deque()  # (position after a piece, its arrival)

    @property
    def saved(self) -> ResamplerState:
        """What another intake of the same format needs to go on from here."""
        return self._conversion.state

    @property
    def position(self) -> int:
        """Input samples taken in so far."""
        return self._conversion.received

    @property
    def repaired(self) -> int:
        """Input samples that were not finite and were taken as 0."""
        return self._conversion.replaced

    def take(self, pieces: list[tuple[bytes | memoryview, float]]) -> Samples:
        """Decode pieces of audio.

        Args:
            pieces: bytes that hold whole samples, each with the moment of its arrival in seconds;
                in order.

        Returns:
            What can be had at 16 kHz by now, float32 [n], n ≥ 0.
        """
        end = self.position
        for data, arrived in pieces:
            end += len(data) // self.format.frame_bytes
            self._log(end, arrived)
        joined = b"".join(data for data, _ in pieces)
        return self._conversion.feed(_DECODERS[self.format.encoding](joined))

    def preview(self) -> Samples:
        """The samples at 16 kHz that `end` would give now. Nothing changes."""
        return self._conversion.preview()

    def end(self) -> Samples:
        """The last samples at 16 kHz, which waited for what would follow; after this, no `take`."""
        return self._conversion.finish()

    def at_input_rate(self, event: Event) -> Event:
        """The event with its times in input samples, none beyond the input."""
        if self.format.sample_rate == resampling.SAMPLE_RATE:
            return event
        return self._conversion.at_input(event)

    def arrival(self, position: int) -> float:
        """When the last input sample arrived that the samples at 16 kHz before `position` rest on.

        Args:
            position: in samples at 16 kHz, > 0, at most `ARRIVAL_MEMORY` behind what was taken in.

        Returns:
            Seconds, on the clock of the arrivals.
        """
        rate = self.format.sample_rate
        needed = resampling.input_position(position, rate, self.position)
        if rate != resampling.SAMPLE_RATE:
            # What the resampler needs beyond it: 1 ms, and half its filter.
            ahead = rate // 1000 + resampling.CROSSINGS * rate // min(rate, resampling.SAMPLE_RATE)
            needed = min(needed + ahead, self.position)
        for end, arrived in self._arrivals:
            if end >= needed:
                return arrived
        return self._arrivals[-1][1]

    def _log(self, end: int, arrived: float) -> None:
        log = self._arrivals
        if log and arrived - log[-1][1] < ARRIVAL_GRAIN:
            log[-1] = (end, log[-1][1])
        else:
            log.append((end, arrived))
        forgotten = end - round(ARRIVAL_MEMORY * self.format.sample_rate)
        while log[0][0] < forgotten:
            log.popleft()
