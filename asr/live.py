"""One stream of audio at any rate through a recogniser, with times told in samples of that audio.

`LiveStream` converts to 16 kHz on the way in and converts times on the way out. `transcribe` runs a
whole source through one, as `asr.client.transcribe` does through a server: same arguments behind
the first, same events.
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
    from collections.abc import Callable, Iterable

    from asr.resampling import Samples
    from asr.together import StreamingRecognizer


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
        self._converter = resampling.start(sample_rate)
        self._state = recognizer.start(options or Options())

    @property
    def received(self) -> int:
        """Samples taken in so far."""
        return self._converter.received

    @property
    def repaired(self) -> int:
        """Samples that were no audio (not finite, or absurdly large) and counted as silence."""
        return self._converter.replaced + int(self._state.repaired)

    def feed(self, samples: Samples) -> list[Event]:
        """Take in samples, float32 [n] at the stream's rate, n ≥ 0, and tell what follows.

        Raises:
            AudioError: `samples` has another type or shape.
        """
        self._converter, converted = resampling.step(self._converter, samples)
        self._state, events = self._recognizer.step(self._state, converted)
        return [self._at_input(event) for event in events]

    def finish(self) -> list[Event]:
        """End the stream: the last events. Afterwards it takes no more audio."""
        self._converter, rest = resampling.finish(self._converter)
        self._state, events = self._recognizer.step(self._state, rest)
        self._state, last = self._recognizer.finish(self._state)
        return [self._at_input(event) for event in [*events, *last]]

    def _at_input(self, event: Event) -> Event:
        rate, length = self._converter.rate, self._converter.received
        if isinstance(event, Partial):
            return replace(event, position=resampling.input_position(event.position, rate, length))
        return at_rate(event, rate, length)


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
