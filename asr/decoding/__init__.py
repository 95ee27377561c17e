"""From log-probabilities to words: the interface that every decoder has.

Sizes: T frames of 40 ms, V units with the blank at index 0. A unit that begins with `▁` (U+2581)
begins a word; `▁` alone is the space of a character model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

BLANK = 0
WORD_BEGIN = "▁"


@dataclass(frozen=True, slots=True)
class DecodedWord:
    """A word with its times in output frames: it lies in frames start … end - 1."""

    text: str
    start: int
    end: int
    confidence: float


class Decoder(Protocol):
    """Turns frames of log-probabilities into words, carrying an explicit, immutable state.

    The results depend on the frames alone, never on how they were cut into calls. The state is any
    frozen value; only the decoder that made it looks inside.
    """

    head: str

    def start(self) -> Any:
        """The state before the first frame."""
        ...

    def advance(
        self, state: Any, log_probs: NDArray[np.float32]
    ) -> tuple[Any, tuple[DecodedWord, ...]]:
        """Take in frames [T, V], T ≥ 0; return the new state and the words committed by them.

        A committed word is never taken back or changed. Whether a word is committed at a frame
        depends only on the frames up to it.
        """
        ...

    def advance_many(
        self, states: Sequence[Any], log_probs: Sequence[NDArray[np.float32]]
    ) -> list[tuple[Any, tuple[DecodedWord, ...]]]:
        """As `advance`, for many streams in one go: each gets what it would get alone."""
        return [self.advance(state, rows) for state, rows in zip(states, log_probs, strict=True)]

    def tentative(self, state: Any) -> tuple[DecodedWord, ...]:
        """The words beyond the committed ones in the best hypothesis. They may still change."""
        ...

    def finish(self, state: Any) -> tuple[DecodedWord, ...]:
        """The words that are committed when no more frames come.

        Greedy decoding says what `tentative` shows; a search may know better how speech ends.
        """
        ...

    def readings(
        self, state: Any, said: tuple[DecodedWord, ...], n: int
    ) -> list[tuple[float, tuple[DecodedWord, ...]]]:
        """What else words may be that are committed next: at most n readings, themselves first.

        Args:
            state: before they were committed.
            said: at least one word.
            n: ≥ 1.

        Returns:
            How much less likely each is than the first, in nats ≤ 0, and its words; best first.
        """
        del state, n
        return [(0.0, said)]

    def silence(self, state: Any) -> int:
        """Frames since the last unit of the best hypothesis ended, 0 while one is sounding."""
        ...

    def dump(self, state: Any) -> dict[str, Any]:
        """The state as plain values (int, float, str, list, dict, None) that JSON holds exactly."""
        ...

    def restore(self, values: dict[str, Any]) -> Any:
        """The state that `dump` described.

        Raises:
            StateError: the values do not describe a state of this decoder.
        """
        ...
