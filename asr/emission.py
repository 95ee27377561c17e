"""Emission latency and flicker: how soon a word is shown, how much shown is taken back.

Emission latency is how long after a word was spoken it stands on the screen. For every word of the
final transcript that the alignment of the word error rate calls a hit (`metrics.hits`), and whose
true times are known:

    first   = samples that had been fed when the call returned whose events first show the word at
              its place; what was there and gone before the word began to be spoken is no emission
    shown   = the same, of the call after which no event takes it from there again
    latency = either - true end of the word

The text shown is `stable` and `tentative`, behind all finals; the place of a word is its number in
the whole text. The first is the delay with which words appear (the emission delay of the field's
papers); the second counts a word that is taken back and shown again from the last time, and one
that an earlier word's change moves as taken back. The same for `stable` alone (and finals) tells
when the word could be relied on. Texts are compared as they are scored, normalised.

Waiting for the chunk to fill and the network's look-ahead are inside, the time to compute is not:
so the figure is exactly reproducible. What comes with `finish` counts as emitted at the end of the
audio: a recording that ends right behind a word hides how long the word would have taken.

Flicker is counted from one text shown to the next, partials and finals alike, whatever calls they
come in:

    taken back = words shown that do not stand at their place in the next text shown: another word
                 does, or none
    returned   = words of the final transcript that were taken back from their place before

Both are told for each word of the final transcript. A word that is taken back three times counts
three times in the first, which may exceed 1, and a word that moves counts at its old place. So does
a beginning that becomes another word (`car`, `carpet`): the first is the unstable partial word
ratio (UPWR) of Shangguan et al. 2020, "Analyzing the Quality and Stability of a Streaming
End-to-End On-Device Speech Recognizer", with words told apart by their places. The second leaves
such guesses out: it counts what had been shown as it is at last, and was lost. True words and times
play no part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asr.errors import DataError
from asr.metrics import SAMPLES_PER_MS, hits, normalise
from asr.transcript import Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asr.metrics import Call
    from asr.transcript import Event

WordTimes = tuple[tuple[str, int, int], ...]
"""Words as a manifest has them: the word, its first sample and last sample + 1 at 16 kHz."""


@dataclass(frozen=True, slots=True)
class Emission:
    """When one word was emitted, in samples at 16 kHz.

    Attributes:
        word: as it is scored.
        end: where it truly ends.
        first: the audio that had been fed when it stood at its place first.
        shown: the audio that had been fed when it stood at its place for good.
        stable: the same, as a part of the stable text; ≥ `shown`.
    """

    word: str
    end: int
    first: int
    shown: int
    stable: int

    @property
    def first_ms(self) -> float:
        """Latency until it is shown first; negative where it was guessed before its end."""
        return (self.first - self.end) / SAMPLES_PER_MS

    @property
    def shown_ms(self) -> float:
        """Latency until it is shown for good; negative where it was guessed before its end."""
        return (self.shown - self.end) / SAMPLES_PER_MS

    @property
    def stable_ms(self) -> float:
        """Latency until it is stable."""
        return (self.stable - self.end) / SAMPLES_PER_MS


@dataclass(frozen=True, slots=True)
class Flicker:
    """How much of what was shown was taken back, of one stream or, added up, of many.

    Attributes:
        taken_back: words shown that another word or none replaced at their place in the next text.
        returned: words of the final transcript that were among them, each once.
        words: of the final transcript.
    """

    taken_back: int = 0
    returned: int = 0
    words: int = 0

    def __add__(self, other: Flicker) -> Flicker:
        return Flicker(
            self.taken_back + other.taken_back,
            self.returned + other.returned,
            self.words + other.words,
        )


def flicker(calls: Sequence[Call]) -> Flicker:
    """How much was taken back of what was shown.

    Args:
        calls: all calls of one stream in order, with partials, `finish` the last.
    """
    screen = _screen(calls, with_tentative=True)
    final = [(place, word) for place, (word, _) in enumerate(screen.final)]
    gone = set(screen.taken_back)
    return Flicker(len(screen.taken_back), sum(one in gone for one in final), len(final))


def emissions(calls: Sequence[Call], words: WordTimes, text: str) -> tuple[Emission, ...]:
    """When each word was emitted that was recognised and whose end is known.

    Args:
        calls: all calls of one stream in order, with partials, `finish` the last.
        words: what was said, with true times; one that is scored as several words, such as
            `well-known`, tells the end of the last of them only.
        text: what was said, as it is scored against.

    Returns:
        The hits in order.

    Raises:
        DataError: the words are not those of the text.
    """
    reference = [scored for word, *times in words for scored in _scored(word, *times)]
    spelled = " ".join(token for token, *_ in reference)
    if spelled != normalise(text):
        raise DataError(f"`words` spell {spelled[:40]!r}, the text is {normalise(text)[:40]!r}")
    shown = _screen(calls, with_tentative=True)
    stable = _screen(calls, with_tentative=False)
    said = " ".join(token for token, _ in shown.final)
    found = []
    for there, here in hits(spelled, said):
        token, start, end = reference[there]
        if end is not None:
            first = shown.first(here, token, start)
            found.append(Emission(token, end, first, shown.final[here][1], stable.final[here][1]))
    return tuple(found)


def _scored(word: str, start: int, end: int) -> list[tuple[str, int, int | None]]:
    """A manifest's word as it is scored: none, one or several words, the last of known end."""
    tokens = normalise(word).split()
    return [(token, start, end if n == len(tokens) else None) for n, token in enumerate(tokens, 1)]


@dataclass(slots=True)
class _Screen:
    """The words of all text shown, each with the position since which it has stood there."""

    words: list[tuple[str, int]] = field(default_factory=list)
    closed: int = 0  # words of finals among them, which nothing changes any more
    taken_back: list[tuple[int, str]] = field(default_factory=list)  # places and their words
    stood: dict[tuple[int, str], list[tuple[int, int]]] = field(default_factory=dict)
    """Of those: from which position to which, each time."""

    @property
    def final(self) -> list[tuple[str, int]]:
        """The words of the final text."""
        return self.words[: self.closed]

    def first(self, place: int, word: str, start: int) -> int:
        """The position at which a word of the final text came first, if it stayed to `start`."""
        stood = self.stood.get((place, word), [])
        return next((came for came, gone in stood if gone > start), self.words[place][1])

    def show(self, tokens: list[str], position: int) -> None:
        """Let these stand behind the finals, and nothing else."""
        before = self.words[self.closed :]
        same = [
            old if old[0] == new else (new, position)
            for old, new in zip(before, tokens, strict=False)
        ]
        fresh = [(token, position) for token in tokens[len(same) :]]
        for n, (old, came) in enumerate(before):
            if tokens[n : n + 1] != [old]:
                self.taken_back.append((self.closed + n, old))
                self.stood.setdefault((self.closed + n, old), []).append((came, position))
        self.words[self.closed :] = [*same, *fresh]


def _screen(calls: Sequence[Call], *, with_tentative: bool) -> _Screen:
    """The screen after all calls."""
    screen = _Screen()
    for call in calls:
        closing: list[str] = []
        for event, following in _pairs(call.events):
            if isinstance(event, Final):
                closing += normalise(event.text).split()
                # Events of one block have one position and are drawn together: the words behind
                # a final come with the partial that follows it.
                if following is None or following.position != event.position:
                    screen.show(closing, call.position)
                    screen.closed += len(closing)
                    closing = []
                continue
            text = f"{event.stable} {event.tentative}" if with_tentative else event.stable
            screen.show([*closing, *normalise(text).split()], call.position)
            screen.closed += len(closing)
            closing = []
    return screen


def _pairs(events: tuple[Event, ...]) -> Iterator[tuple[Event, Event | None]]:
    return zip(events, (*events[1:], None), strict=False)
