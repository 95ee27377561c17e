"""Greedy CTC decoding: the best unit of each frame, repeats merged, blanks dropped.

Graves et al. 2006, "Connectionist Temporal Classification", section 3.2 (best path decoding), with
the state carried from call to call, and words committed by rules that look at frames only:

- a unit that begins with `▁` begins a word and so completes the one before;
- 12 frames (480 ms) without a unit complete a word, and what comes later begins a new one;
- a word holds at most 64 units, so that the state stays small whatever the network says.

`▁` alone is the space of character models: it completes a word and belongs to none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from asr.decoding import BLANK, WORD_BEGIN, DecodedWord, Decoder
from asr.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GAP_FRAMES = 12  # frames without a unit after which a word is complete
MAX_UNITS = 64  # of one word


class GreedyState(NamedTuple):
    """What greedy decoding remembers.

    Attributes:
        frame: frames taken in.
        previous: best unit of the last frame; the blank before the first.
        gap: frames since the last one whose best unit was not the blank.
        text: the open word; empty when there is none.
        units: number of its units.
        start: frame in which it began.
        end: one past the last frame of its last unit.
        log_prob: sum of its units' log-probabilities, each in the frame where the unit began.
    """

    frame: int = 0
    previous: int = BLANK
    gap: int = 0
    text: str = ""
    units: int = 0
    start: int = 0
    end: int = 0
    log_prob: float = 0.0


_KINDS = {name: type(value) for name, value in GreedyState()._asdict().items()}


class GreedyDecoder(Decoder):
    """Greedy decoding of one head; see `asr.decoding.Decoder`.

    Attributes:
        head: the head that it reads.
    """

    def __init__(self, units: Sequence[str], head: str) -> None:
        """Decode into these units.

        Args:
            units: text of each unit, V of them, the blank first.
            head: name of the head whose log-probabilities it is given.
        """
        self.head = head
        self._begins = tuple(unit.startswith(WORD_BEGIN) for unit in units)
        self._texts = tuple(unit.removeprefix(WORD_BEGIN) for unit in units)

    def start(self) -> GreedyState:
        """The state before the first frame."""
        return GreedyState()

    def advance(
        self, state: GreedyState, log_probs: NDArray[np.float32]
    ) -> tuple[GreedyState, tuple[DecodedWord, ...]]:
        """Take in frames [T, V], T ≥ 0; return the new state and the words committed by them."""
        return self._advance(state, log_probs.argmax(1).tolist(), log_probs)

    def advance_many(
        self, states: Sequence[GreedyState], log_probs: Sequence[NDArray[np.float32]]
    ) -> list[tuple[GreedyState, tuple[DecodedWord, ...]]]:
        """As `advance`, for many streams in one go: each gets what it would get alone."""
        if not states:
            return []
        best: list[int] = np.concatenate(log_probs).argmax(1).tolist()
        done, first = [], 0
        for state, rows in zip(states, log_probs, strict=True):
            done.append(self._advance(state, best[first : first + len(rows)], rows))
            first += len(rows)
        return done

    def tentative(self, state: GreedyState) -> tuple[DecodedWord, ...]:
        """The open word, if there is one."""
        if not state.text:
            return ()
        return (_word(state.text, state.units, state.start, state.end, state.log_prob),)

    def finish(self, state: GreedyState) -> tuple[DecodedWord, ...]:
        """The open word, if there is one."""
        return self.tentative(state)

    def silence(self, state: GreedyState) -> int:
        """Frames since the last unit ended, 0 while one is sounding."""
        return state.gap

    def dump(self, state: GreedyState) -> dict[str, Any]:
        """The state as numbers and texts."""
        return state._asdict()

    def restore(self, values: dict[str, Any]) -> GreedyState:
        """The state that `dump` described.

        Raises:
            StateError: the values do not describe a state of greedy decoding over these units.
        """
        if {name: type(value) for name, value in values.items()} != _KINDS:
            raise StateError("the saved decoder state is not one of greedy decoding")
        state = GreedyState(**values)
        counts = (state.frame, state.gap, state.units, state.start, state.end)
        known = 0 <= state.previous < len(self._texts)
        if not known or min(counts) < 0 or bool(state.text) != bool(state.units):
            raise StateError("the saved decoder state holds numbers that cannot be")
        return state

    def _advance(
        self, state: GreedyState, best_units: Sequence[int], log_probs: NDArray[np.float32]
    ) -> tuple[GreedyState, tuple[DecodedWord, ...]]:
        """Take in frames [T, V] whose best units are known."""
        frame, previous, gap, text, units, start, end, total = state
        committed: list[DecodedWord] = []
        for row, best in enumerate(best_units):
            if best == BLANK:
                gap += 1
                if gap == GAP_FRAMES and text:
                    committed.append(_word(text, units, start, end, total))
                    text, units, total = "", 0, 0.0
            elif best == previous:  # the same unit still sounds
                gap = 0
                end = frame + 1 if text else end
            else:
                gap = 0
                if text and (self._begins[best] or units == MAX_UNITS):
                    committed.append(_word(text, units, start, end, total))
                    text, units, total = "", 0, 0.0
                if self._texts[best]:  # `▁` alone belongs to no word
                    start = start if text else frame
                    text += self._texts[best]
                    units, end = units + 1, frame + 1
                    total += float(log_probs[row, best])
            frame, previous = frame + 1, best
        return GreedyState(frame, previous, gap, text, units, start, end, total), tuple(committed)


def _word(text: str, units: int, start: int, end: int, log_prob: float) -> DecodedWord:
    """The open word; its confidence is the geometric mean of its units' probabilities."""
    return DecodedWord(text, start, end, min(1.0, math.exp(log_prob / units)))
