"""One stream of audio at any rate through a recogniser, with times told in samples of that audio.

`Conversion` brings audio to 16 kHz on the way in and times back on the way out; `LiveStream` is a
recogniser between the two. `transcribe` runs a whole source through one, as `asr.client.transcribe`
does through a server: same arguments behind the first, same events, same result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from asr import resampling
from asr.errors import Error
from asr.recognizer import at_rate
from asr.state import Options
from asr.transcript import Event, Final, Partial, Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from asr.resampling import ResamplerState, Samples
    from asr.together import StreamingRecognizer


class Conversion:
    """The samples of one stream at 16 kHz, and its events in samples of what came in.

    Args:
        sample_rate: of the audio to come, 4000 … 192000.
        state: to go on from, of the same rate; by default the beginning.

    Raises:
        AudioError: the rate is outside its range.
    """

    def __init__(self, sample_rate: int, state: ResamplerState | None = None) -> None:
        self._state = state or resampling.start(sample_rate)

    @property
    def state(self) -> ResamplerState:
        """All that is remembered, from which another conversion can go on."""
        return self._state

    @property
    def received(self) -> int:
        """Samples taken in so far."""
        return self._state.received

    @property
    def replaced(self) -> int:
        """Samples that were not finite and became zero."""
        return self._state.replaced

    def feed(self, samples: Samples) -> Samples:
        """Take in float32 [n], n ≥ 0, and give what can be had at 16 kHz, float32 [m].

        Raises:
            AudioError: `samples` has another type or shape.
        """
        self._state, converted = resampling.step(self._state, samples)
        return converted

    def preview(self) -> Samples:
        """What `finish` would give now. Nothing changes."""
        return resampling.finish(self._state)[1]

    def finish(self) -> Samples:
        """The last samples at 16 kHz; afterwards no more can be fed."""
        self._state, rest = resampling.finish(self._state)
        return rest

    def all(self, chunks: Iterable[Samples]) -> Iterator[Samples]:
        """A whole source at 16 kHz. Where it breaks off with an error, what came before is given.

        Raises:
            Error: whatever `chunks` raises.
        """
        try:
            for chunk in chunks:
                yield self.feed(chunk)
        except Error:
            yield self.finish()
            raise
        yield self.finish()

    def at_input(self, event: Event) -> Event:
        """An event of the stream at 16 kHz, with times in samples of the input."""
        rate, length = self._state.rate, self._state.received
        if isinstance(event, Partial):
            return replace(event, position=resampling.input_position(event.position, rate, length))
        return at_rate(event, rate, length)


class LiveStream:
    """A stream at its own rate.

    Args:
        recognizer: what recognises.
        sample_rate: of the audio to come, 4000 … 192000.
        options: what is wanted of the recogniser.

    Raises:
        AudioError: the rate is outside its range.
    """

    def __init__(
        self, recognizer: StreamingRecognizer, sample_rate: int, options: Options | None = None
    ) -> None:
        self._recognizer = recognizer
        self._conversion = Conversion(sample_rate)
        self._state = recognizer.start(options or Options())

    @property
    def received(self) -> int:
        """Samples taken in so far."""
        return self._conversion.received

    @property
    def repaired(self) -> int:
        """Samples that were no audio (not finite, or absurdly large) and counted as silence."""
        return self._conversion.replaced + int(self._state.repaired)

    def feed(self, samples: Samples) -> list[Event]:
        """Take in samples, float32 [n] at the stream's rate, n ≥ 0, and tell what follows.

        Raises:
            AudioError: `samples` has another type or shape.
        """
        converted = self._conversion.feed(samples)
        self._state, events = self._recognizer.step(self._state, converted)
        return [self._conversion.at_input(event) for event in events]

    def finish(self) -> list[Event]:
        """End the stream: the last events. Afterwards it takes no more audio."""
        self._state, events = self._recognizer.step(self._state, self._conversion.finish())
        self._state, last = self._recognizer.finish(self._state)
        return [self._conversion.at_input(event) for event in [*events, *last]]


def transcribe(
    recognizer: StreamingRecognizer,
    chunks: Iterable[Samples],
    sample_rate: int,
    options: Options | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> tuple[Transcript, int]:
    """Recognise a source of audio to its end.

    Args:
        recognizer: what recognises.
        chunks: mono samples in order, float32 [n] each.
        sample_rate: of the samples, 4000 … 192000.
        options: what is wanted of the recogniser.
        on_event: called with every event as it comes.

    Returns:
        The finals, with times in samples of the input; and how many samples were no audio.

    Raises:
        AudioError: the rate or the samples cannot be used.
        Error: whatever `chunks` raises, after the events of the audio before it: what was said
            until a device disappeared is not lost.
    """
    stream = LiveStream(recognizer, sample_rate, options)
    finals: list[Final] = []

    def tell(events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Final):
                finals.append(event)
            if on_event is not None:
                on_event(event)

    broken: Error | None = None
    try:
        for chunk in chunks:
            tell(stream.feed(chunk))
    except Error as error:
        broken = error
    tell(stream.finish())
    if broken is not None:
        raise broken
    return Transcript(tuple(finals), sample_rate, stream.received), stream.repaired
