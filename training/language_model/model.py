"""A back-off model in memory: the probabilities and back-off weights of n-grams up to order 3.

p(w | h) is that of the n-gram h w if the model has it, else backoff(h) · p(w | h without its first
word), with a back-off weight of 1 for a history that the model does not have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from training.language_model.vocabulary import Vocabulary

    Keys = NDArray[np.uint64]
    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]

MAX_ORDER = 3
LOG_ZERO = -99 * math.log(10)  # of what is never predicted, `<s>`; ARPA files say -99


@dataclass(frozen=True)
class Packing:
    """How ids lie in a key: `bits` each, the last word of the n-gram in the lowest."""

    bits: int

    @classmethod
    def of(cls, words: int) -> Packing:
        """For ids below `words`.

        Raises:
            DataError: three of them do not fit into 64 bits.
        """
        bits = max((words - 1).bit_length(), 1)
        if bits * MAX_ORDER > 64:
            raise DataError(f"a vocabulary of {words:,} words is too large; 2 million fit")
        return cls(bits)

    def pack(self, *words: NDArray[np.uint32]) -> Keys:
        """Keys of n-grams given as columns of ids."""
        keys = words[0].astype(np.uint64)
        for column in words[1:]:
            keys = (keys << np.uint64(self.bits)) | column
        return keys

    def last(self, keys: Keys, words: int = 1) -> Keys:
        """The last words of n-grams, as keys of that order."""
        return keys & np.uint64((1 << self.bits * words) - 1)

    def history(self, keys: Keys) -> Keys:
        """The n-grams without their last words, as keys of one order less."""
        return keys >> np.uint64(self.bits)


@dataclass(frozen=True)
class Level:
    """The n-grams of one order, 2 or 3.

    Attributes:
        keys: packed, ascending, distinct.
        log_probs: of the last word after the others.
        back_offs: logarithm of the weight as a history, 0 where the n-gram is none; those of the
            highest order are all 0.
    """

    keys: Keys
    log_probs: Floats
    back_offs: Floats

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, keys: Keys) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Where each key is, and whether it is there at all."""
        at = np.searchsorted(self.keys, keys)
        if len(self.keys) == 0:
            return at, np.zeros(len(keys), np.bool_)
        at = np.minimum(at, len(self.keys) - 1)
        return at, self.keys[at] == keys


@dataclass(frozen=True)
class Model:
    """A back-off model of order `1 + len(levels)`.

    Attributes:
        log_probs: of single words [W]; `<s>` has LOG_ZERO.
        back_offs: of single words as histories [W].
        levels: bigrams, then trigrams.
    """

    vocabulary: Vocabulary
    log_probs: Floats
    back_offs: Floats
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        """The most words that an n-gram has."""
        return 1 + len(self.levels)

    @property
    def packing(self) -> Packing:
        """How the keys of the levels are packed."""
        return Packing.of(len(self.vocabulary))

    def sizes(self) -> tuple[int, ...]:
        """How many n-grams there are of each order."""
        return (len(self.vocabulary), *(len(level) for level in self.levels))

    def lower(self, keys: Keys, order: int) -> Doubles:
        """Log-probabilities of the last words of n-grams, given one word of history less.

        Args:
            keys: n-grams of `order` words.
            order: 2 or 3; the answer is that of the model of `order` - 1.
        """
        packing = self.packing
        if order == 2:
            return self.log_probs[packing.last(keys)].astype(np.float64)
        suffixes = packing.last(keys, 2)
        at, there = self.levels[0].find(suffixes)
        backed_off = self.back_offs[packing.history(suffixes)].astype(np.float64)
        backed_off += self.log_probs[packing.last(keys)]
        if len(self.levels[0]) == 0:
            return backed_off
        return np.where(there, self.levels[0].log_probs[at], backed_off)


def context_chunks(keys: Keys, bits: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of about `size` keys that never cut the n-grams of one history apart."""
    start = 0
    while start < len(keys):
        stop = start + size
        if stop >= len(keys):
            stop = len(keys)
        else:
            context = keys[stop] >> np.uint64(bits)
            first = context << np.uint64(bits)
            stop = start + int(np.searchsorted(keys[start:stop], first))
            if stop == start:  # one history alone has more than `size`
                after = (context + np.uint64(1)) << np.uint64(bits)
                stop = int(np.searchsorted(keys, after))
        yield start, stop
        start = stop


def context_starts(keys: Keys, bits: int) -> NDArray[np.intp]:
    """Where the n-grams of each history begin, in ascending keys of which there is one at least."""
    histories = keys >> np.uint64(bits)
    return np.flatnonzero(np.concatenate(([True], histories[1:] != histories[:-1])))


def history_back_offs(model: Model, order: int, size: int) -> Iterator[tuple[Keys, Doubles]]:
    """The histories of the n-grams of an order, and the back-off weights that they must have.

    So that the probabilities after each history sum to 1: (1 - what its n-grams have) / (1 - what
    the lower order gives the same words). Logarithms, history after history, about `size` n-grams
    at a time.
    """
    level = model.levels[order - 2]
    bits = model.packing.bits
    for start, stop in context_chunks(level.keys, bits, size):
        keys = level.keys[start:stop]
        starts = context_starts(keys, bits)
        own = np.add.reduceat(np.exp(level.log_probs[start:stop].astype(np.float64)), starts)
        lower = np.add.reduceat(np.exp(model.lower(keys, order)), starts)
        # below 1e-7 there is only the rounding of float32, and no word to give it to
        weights = np.maximum(1 - own, 1e-7) / np.maximum(1 - lower, 1e-7)
        yield keys[starts] >> np.uint64(bits), np.log(weights)
