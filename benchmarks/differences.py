"""How many words and times differ between two transcripts that should be one and the same."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asr.transcript import Word


@dataclass(frozen=True, slots=True)
class Differences:
    """Counted position by position: after a missing word everything differs. The target is none.

    Attributes:
        words: positions at which the words differ, or only one transcript has one.
        times: positions with the same word whose start, end or confidence differ.
        compared: positions.
    """

    words: int
    times: int
    compared: int


def count(pairs: Iterable[tuple[Sequence[Word], Sequence[Word]]]) -> Differences:
    """The differences within pairs of transcripts, added up."""
    positions = [both for first, second in pairs for both in zip_longest(first, second)]
    same = [(a, b) for a, b in positions if a is not None and b is not None and a.text == b.text]
    return Differences(len(positions) - len(same), sum(a != b for a, b in same), len(positions))
