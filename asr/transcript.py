"""What a recogniser says: words with times, partial and final text, whole transcripts.

Times are integer samples of the audio as it was given, counted from the beginning of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word.

    Attributes:
        text: the word, without spaces.
        start: first sample of the word, ≥ 0.
        end: one past its last sample, > start and ≤ the length of the audio.
        confidence: how sure the decoder is, in [0, 1].
    """

    text: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another reading of a segment.

    Attributes:
        words: at least one; their times are their own.
        score: how much less likely it is than the words of the segment, in nats, ≤ 0.
    """

    words: tuple[Word, ...]
    score: float

    @property
    def text(self) -> str:
        """The words joined by single spaces."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True, slots=True)
class Partial:
    """The open segment as it is understood now.

    Attributes:
        segment: number of the segment, from 0.
        stable: the words that will never be taken back, joined by single spaces.
        tentative: the words after them that may still change; empty or without outer spaces.
        position: samples of audio that this text rests on.
    """

    segment: int
    stable: str
    tentative: str
    position: int

    @property
    def text(self) -> str:
        """All words, joined by single spaces."""
        return f"{self.stable} {self.tentative}".strip()


@dataclass(frozen=True, slots=True)
class Final:
    """A closed segment. It comes once and is never changed.

    Attributes:
        segment: number of the segment, from 0.
        words: at least one word.
        reason: why it was closed: `endpoint` (a pause), `length` (the bound on a segment) or
            `finish`.
        position: samples of audio that had been heard when it was closed.
        alternatives: other readings, best first, if `Options.n_best` asks for them; none where the
            search saw none, or the segment was closed for its length.
    """

    segment: int
    words: tuple[Word, ...]
    reason: str
    position: int
    alternatives: tuple[Alternative, ...] = ()

    @property
    def text(self) -> str:
        """The words joined by single spaces."""
        return " ".join(word.text for word in self.words)

    @property
    def start(self) -> int:
        """First sample of the first word."""
        return self.words[0].start

    @property
    def end(self) -> int:
        """One past the last sample of the last word."""
        return self.words[-1].end


Event = Partial | Final


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything said in one recording.

    Attributes:
        segments: the closed segments in order.
        sample_rate: samples per second in which times are counted.
        duration: samples in the recording.
    """

    segments: tuple[Final, ...]
    sample_rate: int
    duration: int

    @property
    def words(self) -> tuple[Word, ...]:
        """All words in order."""
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def text(self) -> str:
        """All words joined by single spaces."""
        return " ".join(word.text for word in self.words)
