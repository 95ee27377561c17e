"""Hashes of words and of sequences of words, for finding what texts share. No dictionary needed.

Case and apostrophes do not count, and whatever else is no letter separates words; so raw text and
normalised text agree wherever nothing had to be spelled out. 64 bits: among 300 million sequences
against 150,000 a false match has a chance of 2 in a million.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

_TABLE = bytes(
    c | 32 if 65 <= c <= 90 else c if 97 <= c <= 122 or c == 10 else 32 for c in range(256)
)
_LONGEST = 64  # letters of a word after which powers repeat
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # splitmix64


def _powers(base: int, number: int) -> Hashes:
    return np.array([pow(base, i, 1 << 64) for i in range(number)], np.uint64)


_LETTER_POWERS = _powers(0x9E3779B97F4A7C15, _LONGEST)
_WORD_BASE = 0xD1342543DE82EF95


@dataclass(frozen=True)
class Words:
    """The words of a text.

    Attributes:
        hashes: one a word.
        lines: the number of the line that each stands in, from 0.
    """

    hashes: Hashes
    lines: NDArray[np.int64]

    def sequences(
        self, length: int, *, across_lines: bool = True
    ) -> tuple[Hashes, NDArray[np.intp]]:
        """Hashes of all sequences of `length` words, and the word at which each begins.

        Args:
            length: words of a sequence, ≥ 1.
            across_lines: whether a sequence may go on in the next line.
        """
        number = len(self.hashes) - length + 1
        if number <= 0:
            return np.zeros(0, np.uint64), np.zeros(0, np.intp)
        total = np.zeros(number, np.uint64)
        for i, power in enumerate(_powers(_WORD_BASE, length)):
            total += self.hashes[i : i + number] * power
        total = _mixed(total)
        begins = np.arange(number)
        if across_lines:
            return total, begins
        inside = self.lines[:number] == self.lines[length - 1 :]
        return total[inside], begins[inside]


def _mixed(values: Hashes) -> Hashes:
    """Spread what differs over all bits."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def words_of(text: str) -> Words:
    """The words of a text of any length."""
    plain = text.encode("ascii", "replace").translate(_TABLE, delete=b"'")
    letters = np.frombuffer(plain, np.uint8)
    inside = letters > 32
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    places = np.flatnonzero(begins)
    if len(places) == 0:
        return Words(np.zeros(0, np.uint64), np.zeros(0, np.int64))
    starts = (np.cumsum(inside) - 1)[places]  # among the letters alone
    only = letters[inside].astype(np.uint64)
    lengths = np.diff(starts, append=len(only))
    position = np.arange(len(only)) - np.repeat(starts, lengths)
    hashes = np.add.reduceat(only * _LETTER_POWERS[position % _LONGEST], starts)
    return Words(_mixed(hashes), np.cumsum(letters == 10)[places])


def line_hashes(words: Words) -> tuple[NDArray[np.int64], Hashes, NDArray[np.intp]]:
    """The numbers of the lines that have words, a hash of each, and how many words it has."""
    if len(words.hashes) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.intp)
    starts = np.flatnonzero(np.diff(words.lines, prepend=-1))
    sizes = np.diff(starts, append=len(words.hashes))
    position = np.arange(len(words.hashes)) - np.repeat(starts, sizes)
    powers = _powers(_WORD_BASE, int(sizes.max()))
    hashes = _mixed(np.add.reduceat(words.hashes * powers[position], starts))
    return words.lines[starts], hashes, sizes
