"""Recognise many recordings at once: fast, where the sound is there and only words are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from asr.state import Options
from asr.transcript import Event, Final, Word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asr.audio import Samples


class StreamingRecognizer(Protocol):
    """What measuring needs of a recogniser; see `asr.recognizer.Recognizer`."""

    def start(self, options: Options, /) -> Any:
        """The state of a stream before any audio."""
        ...

    def step(self, state: Any, samples: Samples, /) -> tuple[Any, list[Event]]:
        """Take in samples [n], n ≥ 0, float32 at 16 kHz."""
        ...

    def step_many(
        self, states: list[Any], samples: list[Samples], /
    ) -> list[tuple[Any, list[Event]]]:
        """Do what `step` does, for several streams at once."""
        ...

    def finish(self, state: Any, /) -> tuple[Any, list[Event]]:
        """End the stream."""
        ...


def words_of(events: Iterable[Event]) -> tuple[Word, ...]:
    """The words of all finals among the events."""
    return tuple(word for event in events if isinstance(event, Final) for word in event.words)


def transcribe_together(
    recognizer: StreamingRecognizer,
    recordings: Iterable[Samples],
    *,
    streams: int = 64,
    chunk_samples: int = 16_000,
) -> list[tuple[Word, ...]]:
    """The words of many recordings, N at a time; where one ends, the next takes its place.

    Args:
        recognizer: any.
        recordings: float32 [n] each, 16 kHz mono; drawn one by one as places become free.
        streams: N, recordings stepped together, ≥ 1.
        chunk_samples: samples of each recording per call, ≥ 1.

    Returns:
        The words of each recording, in order: those that it has alone, by the law of company.
    """
    waiting = iter(recordings)
    words: list[tuple[Word, ...]] = []
    places: list[_Place] = []
    while True:
        while len(places) < streams and (samples := next(waiting, None)) is not None:
            places.append(_Place(len(words), samples, recognizer.start(Options(partials=False))))
            words.append(())
        if not places:
            return words
        chunks = [p.samples[p.position : p.position + chunk_samples] for p in places]
        stepped = recognizer.step_many([place.state for place in places], chunks)
        for place, chunk, (state, events) in zip(places, chunks, stepped, strict=True):
            place.state, place.position = state, place.position + len(chunk)
            words[place.number] += words_of(events)
            if place.ended:
                words[place.number] += words_of(recognizer.finish(state)[1])
        places = [place for place in places if not place.ended]


@dataclass(slots=True)
class _Place:
    """A recording on its way."""

    number: int
    samples: Samples
    state: Any
    position: int = 0

    @property
    def ended(self) -> bool:
        """Whether all of it has been fed."""
        return self.position == len(self.samples)
