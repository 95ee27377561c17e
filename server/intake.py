"""From bytes on the wire to float32 at 16 kHz, and times at 16 kHz back to the wire's samples.

The state of one session's audio between socket and recognisers. Used by one thread at a time.

Sizes: n samples, C channels on the wire, S streams: 1, or C where each channel is heard apart.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from asr import audio, resampling
from asr.errors import ProtocolError, StateError
from asr.live import Conversion
from server.decoders import open_decoder
from server.formats import Saved, unusable

if TYPE_CHECKING:
    from asr.resampling import ResamplerState, Samples
    from asr.transcript import Event
    from server.dialogue import AudioFormat

SLICE_MS: Final = 80  # of a container's audio taken in one round: one block
ARRIVAL_GRAIN = 0.001  # seconds: pieces that arrive closer together are logged as one
ARRIVAL_MEMORY = 1.0  # seconds of audio: no message depends on a sample longer ago than this


@dataclass(frozen=True, slots=True, eq=False)
class IntakeState:
    """What an intake remembers, from which another one of the same format can go on.

    Attributes:
        received: how much of the stream it has taken in, as the client counts it: samples where
            there is nothing but samples, bytes of a container.
        position: input samples taken in.
        decoder: as `Decoder.save` gave it.
        streams: resamplers, S of them; none before the header of a container.
        pending: whether more samples could be had without more bytes.
    """

    received: int
    position: int
    decoder: Saved
    streams: tuple[ResamplerState, ...]
    pending: bool

    def dump(self) -> bytes:
        """The state as bytes for `restore_state`: JSON, in which bytes are base64 in a list."""
        values = {
            "received": self.received,
            "position": self.position,
            "decoder": self.decoder,
            "streams": [resampling.dump(state) for state in self.streams],
            "pending": self.pending,
        }
        return json.dumps(values, default=_as_text, separators=(",", ":")).encode()


def restore_state(data: bytes) -> IntakeState:
    """The state that `IntakeState.dump` wrote.

    Raises:
        StateError: the bytes are damaged.
    """
    try:
        values = json.loads(data, object_hook=_as_bytes)
        streams = tuple(resampling.restore(state) for state in values.pop("streams"))
        return IntakeState(streams=streams, **values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StateError(f"the saved audio stream is damaged ({error})") from error


def _as_text(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"base64": b64encode(value).decode()}
    raise TypeError(type(value))


def _as_bytes(values: dict[str, Any]) -> Any:
    return b64decode(values["base64"], validate=True) if set(values) == {"base64"} else values


class Intake:
    """Decodes and resamples the audio of one session, and remembers when it arrived.

    Args:
        audio_format: how the bytes are to be read.
        saved: what an intake of the same format remembered, to go on from.

    Attributes:
        format: how the bytes are to be read.
        streams: S.
        pending: whether `take` has more to say without more bytes.
        arrived: when the last bytes arrived, in seconds.

    Raises:
        ProtocolError: what reads this encoding is not installed.
        StateError: `saved` belongs to another format.
    """

    def __init__(self, audio_format: AudioFormat, saved: IntakeState | None = None) -> None:
        self.format = audio_format
        self.streams = (audio_format.channels or 1) if audio_format.channels_apart else 1
        self.pending = False
        self.arrived = 0.0
        self._decoder = open_decoder(audio_format)
        self._bytes = 0  # taken in
        self._conversions: list[Conversion] = []
        self._arrivals: deque[tuple[int, float]] = deque()  # (position after a piece, its arrival)
        if saved is not None:
            self._restore(saved)
        elif self._decoder.rate:
            self._begin()

    @property
    def saved(self) -> IntakeState:
        """What another intake of the same format needs to go on from here."""
        return IntakeState(
            self.received,
            self.position,
            self._decoder.save(),
            tuple(conversion.state for conversion in self._conversions),
            self.pending,
        )

    @property
    def received(self) -> int:
        """How much of the stream was taken in, as the client counts it; see `IntakeState`."""
        return self.position if self.format.raw else self._bytes

    @property
    def position(self) -> int:
        """Input samples of each channel taken in so far."""
        return self._conversions[0].received if self._conversions else 0

    @property
    def sample_rate(self) -> int:
        """Input samples per second; 16,000 as long as a container has not said it."""
        return self._decoder.rate or resampling.SAMPLE_RATE

    @property
    def repaired(self) -> int:
        """Input samples that were not finite and were taken as 0."""
        return sum(conversion.replaced for conversion in self._conversions)

    @property
    def _slice(self) -> int:
        """Samples of a container to decode at a time."""
        return self.sample_rate * SLICE_MS // 1000

    def missing_bytes(self, position: int) -> int:
        """Bytes to come before samples at 16 kHz up to `position` can be had, at least 1."""
        if not self.format.raw:
            return 1  # nobody knows what is in it
        needed = resampling.input_needed(position, self.sample_rate)
        return max(1, needed * self.format.frame_bytes - self._bytes)

    def milliseconds(self, size: int) -> int:
        """How long so many bytes last; of a container, as long as those before them did."""
        if self.format.raw:
            return size // self.format.frame_bytes * 1000 // self.sample_rate
        return size * self.position * 1000 // (self.sample_rate * max(1, self._bytes))

    def take(self, pieces: list[tuple[bytes | memoryview, float]]) -> list[Samples]:
        """Decode pieces of audio.

        Args:
            pieces: bytes, each with the moment of its arrival in seconds; in order. While `pending`
                is true, none are needed.

        Returns:
            What can be had at 16 kHz by now, S times float32 [n], n ≥ 0; of a container no more at
            a time than what lasts `SLICE_MS`.

        Raises:
            ProtocolError: the bytes are damaged, or hold what is not supported or not announced.
                All samples before that have been given.
        """
        for data, self.arrived in pieces:
            self._decoder.feed(data)
            self._bytes += len(data)
            if self.format.raw:
                self._log(self._bytes // self.format.frame_bytes)
        most = max(1, self._bytes) if self.format.raw else self._slice
        self.pending = False
        samples = self._decoder.take(most)
        more = len(samples) == most and not self.format.raw
        self.pending = more or self._decoder.error is not None
        if not self._conversions:
            if not self._decoder.rate:
                return self._nothing()
            self._begin()
        given = self._feed(samples)
        if not self.format.raw and len(samples):
            self._log(self.position)
        return given

    def preview(self) -> list[Samples]:
        """The samples at 16 kHz that `end` would give now. Nothing changes."""
        return [conversion.preview() for conversion in self._conversions] or self._nothing()

    def end(self) -> list[Samples]:
        """The last samples at 16 kHz, which waited for what would follow; after this, no `take`."""
        return [conversion.finish() for conversion in self._conversions] or self._nothing()

    def cut_off(self) -> ProtocolError | None:
        """Why the stream may not end here, if it may not."""
        if self.format.cut_short:
            return None
        try:
            self._decoder.check_end()
        except ProtocolError as error:
            return error
        return None

    def at_input_rate(self, event: Event) -> Event:
        """The event with its times in input samples, none beyond the input."""
        if self.sample_rate == resampling.SAMPLE_RATE:
            return event
        return self._conversions[0].at_input(event)

    def arrival(self, position: int) -> float:
        """When the last input sample arrived that the samples at 16 kHz before `position` rest on.

        Args:
            position: in samples at 16 kHz, > 0, at most `ARRIVAL_MEMORY` behind what was taken in.

        Returns:
            Seconds, on the clock of the arrivals.
        """
        needed = min(resampling.input_needed(position, self.sample_rate), self.position)
        found = self.arrived
        for end, arrived in reversed(self._arrivals):
            if end < needed:
                break
            found = arrived
        return found

    def _begin(self) -> None:
        """Make sure that the stream is what was announced, now that it is known what it is."""
        decoder, announced = self._decoder, self.format
        if announced.sample_rate not in {0, decoder.rate} or announced.channels not in {
            0,
            decoder.channels,
        }:
            raise unusable(
                f"{announced.encoding} of {decoder.rate} Hz and {decoder.channels} channels came, "
                f"{announced.sample_rate or 'any'} Hz and {announced.channels or 'any'} channels "
                "were announced; leave them out of the format, or say what comes"
            )
        self._conversions = [Conversion(decoder.rate) for _ in range(self.streams)]

    def _restore(self, saved: IntakeState) -> None:
        self._decoder.restore(saved.decoder)
        self._conversions = [Conversion(state.rate, state) for state in saved.streams]
        if len(self._conversions) not in {0, self.streams}:
            raise StateError("the saved audio stream has another number of channels")
        self.pending = saved.pending
        raw_bytes = saved.received * self.format.frame_bytes if self.format.raw else 0
        self._bytes = raw_bytes or saved.received

    def _feed(self, samples: Samples) -> list[Samples]:
        """Bring samples [n, C] to 16 kHz."""
        if self.format.channels_apart:
            apart = [np.ascontiguousarray(channel) for channel in samples.T]
        else:
            apart = [audio.mono(samples)]
        return [c.feed(one) for c, one in zip(self._conversions, apart, strict=True)]

    def _nothing(self) -> list[Samples]:
        return [np.zeros(0, np.float32) for _ in range(self.streams)]

    def _log(self, end: int) -> None:
        """Note that the input up to there has arrived."""
        log = self._arrivals
        if log and self.arrived - log[-1][1] < ARRIVAL_GRAIN:
            log[-1] = (end, log[-1][1])
        else:
            log.append((end, self.arrived))
        forgotten = end - round(ARRIVAL_MEMORY * self.sample_rate)
        while log[0][0] < forgotten:
            log.popleft()
