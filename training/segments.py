"""What a head says of speech, cut where units begin, to put together what it says of any text.

A sentence that nobody spoke becomes a sequence of stretches that were heard: of each unit one that
was said before the same unit, drawn at random, with the doubts and errors the network had there.

Sizes: T frames of 40 ms, V units with the blank at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from training.alignment import align

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TRAILING = 2  # frames of blank behind a unit that belong to it; what follows is a pause
LONGEST_PAUSE = 40  # frames
PAUSE = 0.12  # how often there is one between two words
EDGE = 0.8  # and at the beginning and the end of a sentence
BLANK = 0

Frames = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a head said of an utterance.

    Attributes:
        log_probs: float16 [T, V].
        said: units of the head that was heard, in order.
        written: units of the head that reads it.
    """

    log_probs: Frames
    said: Sequence[int]
    written: Sequence[int]


class Segments:
    """Stretches of frames by the unit said in them and the one that comes next (0: a pause).

    Args:
        heard: what they are cut from; utterances whose units do not fit into their frames are left
            out.
        units: names of all units, the blank first.

    Raises:
        DataError: there is none of some unit, or no pause.
    """

    def __init__(self, heard: Iterable[Heard], units: Sequence[str]) -> None:
        self._of_pair: dict[tuple[int, int], list[Frames]] = {}
        self._of_unit: dict[int, list[Frames]] = {}
        for one in heard:
            try:
                cut = segments(one)
            except DataError:
                continue
            for unit, following, frames in cut:
                self._of_pair.setdefault((unit, following), []).append(frames)
                self._of_unit.setdefault(unit, []).append(frames)
        absent = [name for unit, name in enumerate(units) if unit not in self._of_unit]
        if absent:
            raise DataError(f"nobody said {', '.join(absent)} in what was heard; hear more speech")

    def __len__(self) -> int:
        return sum(map(len, self._of_unit.values()))

    def speak(
        self, words: Sequence[Sequence[int]], rng: np.random.Generator
    ) -> tuple[Frames, list[int]]:
        """Say a sentence, with pauses here and there.

        Args:
            words: the units of each, at least one.
            rng: chooses stretches and pauses.

        Returns:
            Frames [T, V], and the frame in which the last unit of each word begins.
        """
        said = [BLANK] if rng.random() < EDGE else []
        last = []
        for number, word in enumerate(words):
            if number and rng.random() < PAUSE:
                said.append(BLANK)
            said += word
            last.append(len(said) - 1)
        if rng.random() < EDGE:
            said.append(BLANK)
        parts = []
        for unit, following in zip(said, [*said[1:], BLANK], strict=True):
            choice = self._of_pair.get((unit, following)) or self._of_unit[unit]
            parts.append(choice[rng.integers(len(choice))])
        begins = np.cumsum([0, *map(len, parts)])
        return np.concatenate(parts), [int(begins[place]) for place in last]


def segments(heard: Heard) -> list[tuple[int, int, Frames]]:
    """The stretches of an utterance: the unit, the unit behind it, the frames.

    A unit begins where the most probable path first says it, and lasts until the next begins or a
    pause does.

    Raises:
        DataError: its units do not fit into its frames.
    """
    spans = align(heard.log_probs.astype(np.float32), heard.said)
    T = len(heard.log_probs)
    marks = [(BLANK, 0)]  # what begins, and at which frame
    for number, (unit, (first, last)) in enumerate(zip(heard.said, spans, strict=True)):
        following = spans[number + 1][0] if number + 1 < len(spans) else T
        marks.append((unit, first))
        if last + TRAILING < following:
            marks.append((BLANK, last + TRAILING))
    marks.append((BLANK, T))
    found = []
    for (unit, first), (following, end) in pairwise(marks):
        if first < end:
            frames = heard.log_probs[first:end]
            found.append((unit, following, frames if unit else frames[:LONGEST_PAUSE]))
    return found
