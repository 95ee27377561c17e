"""A word n-gram model in compact form, mapped into memory: scores, states, and the raw arrays.

Scores are whole numbers of 1/1024 nat. Words are ids: 0 `<unk>`, 1 `<s>`, 2 `</s>`, then words by
falling count. A state is one number: below W it is a history of that one word, and W + i is the
history that bigram i is.

The file, little-endian, every section aligned to 64 bytes: a header of 256 bytes (magic `ASRNGRM1`;
uint32 order, W, n2, n3, scale, 0; uint64 offsets of the sections below and the file's length), then

- codebooks, int32 [3, 256]: bigram probabilities, bigram back-offs, trigram probabilities;
- of words: probability int32 [W], back-off int32 [W], first bigram uint32 [W + 1];
- of bigrams, by context, then word: word uint8 [n2, 3], codes of probability and of back-off
  uint8 [n2] each, first trigram uint32 [n2 + 1];
- of trigrams, by bigram, then word: word uint8 [n3, 3], code of probability uint8 [n3].
"""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"ASRNGRM1"
HEADER_BYTES = 256
ALIGNMENT = 64
SCALE = 1024
CODES = 256
MAX_ORDER = 3
UNKNOWN, START, END = 0, 1, 2
SECTIONS = 10
NOWHERE = -(1 << 29)  # below every score
ROWS = 1 << 17


class NGram:
    """A word n-gram model, immutable and shared.

    Attributes:
        order: the most words that an n-gram has, 1 … 3.
        words: W.
        start: the state at the start of a sentence.
        bigrams, trigrams: their numbers.
        bigram_prob_book, bigram_back_off_book, trigram_prob_book: int32 [256].
        unigram_prob, unigram_back_off: int32 [W].
        first_bigram: uint32 [W + 1].
        bigram_word: uint8 [n2, 3]; bigram_prob, bigram_back_off: uint8 [n2].
        first_trigram: uint32 [n2 + 1].
        trigram_word: uint8 [n3, 3]; trigram_prob: uint8 [n3].
    """

    start = START

    def __init__(self, data: NDArray[np.uint8], name: str) -> None:
        """Read a model from its bytes, which stay in use.

        Args:
            data: the whole file.
            name: for errors.

        Raises:
            BundleError: the bytes are no such model, or damaged.
        """
        self._data = data
        self._name = name
        header = data[:HEADER_BYTES].tobytes()
        if len(header) < HEADER_BYTES or header[:8] != MAGIC:
            raise self._damaged("it does not begin as one")
        self.order, self.words, self.bigrams, self.trigrams, scale, _ = struct.unpack_from(
            "<6I", header, 8
        )
        offsets = struct.unpack_from(f"<{SECTIONS + 1}Q", header, 32)
        if not 1 <= self.order <= MAX_ORDER or scale != SCALE or self.words <= END:
            raise self._damaged("its header makes no sense")
        if offsets[0] != HEADER_BYTES or offsets[-1] != len(data):
            raise self._damaged(f"it has {len(data):,} bytes and should have {offsets[-1]:,}")
        sections = [self._section(i, offsets) for i in range(SECTIONS)]
        books = sections[0]
        self.bigram_prob_book, self.bigram_back_off_book, self.trigram_prob_book = books
        self.unigram_prob, self.unigram_back_off, self.first_bigram = sections[1:4]
        self.bigram_word, self.bigram_prob, self.bigram_back_off = sections[4:7]
        self.first_trigram, self.trigram_word, self.trigram_prob = sections[7:]
        self._check_order(self.first_bigram, self.bigrams, self.bigram_word)
        self._check_order(self.first_trigram, self.trigrams, self.trigram_word)

    @classmethod
    def open(cls, path: Path) -> NGram:
        """Map a file into memory.

        Raises:
            BundleError: the file is absent, damaged or no such model.
        """
        try:
            # As an array like others: to look up a score in a memmap takes three times as long.
            data = np.asarray(np.memmap(path, np.uint8, "r"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is empty"
            raise BundleError(f"{path}: the language model cannot be read ({reason})") from error
        return cls(data, str(path))

    @cached_property
    def highest(self) -> NDArray[np.int32]:
        """For each word, a score that it does not exceed behind any state, int32 [W]."""
        pair = self._best(self.bigram_word, self.bigram_prob, self.bigram_prob_book)
        three = self._best(self.trigram_word, self.trigram_prob, self.trigram_prob_book)
        back_off = int(self.unigram_back_off.max(initial=0))
        two = np.maximum(pair, self.unigram_prob + max(0, back_off))
        highest: NDArray[np.int32] = np.maximum(
            three, two + max(0, int(self.bigram_back_off_book.max()))
        )
        return highest

    def _best(
        self, words: NDArray[np.uint8], codes: NDArray[np.uint8], book: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """The best score that each word has among n-grams; far below all where it ends none."""
        best = np.full(self.words, NOWHERE, np.int32)
        for first in range(0, len(words), ROWS):  # little memory at a time
            low, middle, high = words[first : first + ROWS].astype(np.int32).T
            scores = book[codes[first : first + ROWS]]
            np.maximum.at(best, low | middle << 8 | high << 16, scores)
        return best

    def score(self, state: int, word: int) -> tuple[int, int]:
        """The score of a word after a state, and the state behind it.

        Args:
            state: `start`, or what an earlier call returned.
            word: an id below W.

        Returns:
            Logarithm of the probability in 1/1024 nat, ≤ 0 but for rounding, and the next state.
        """
        below = 0
        if state >= self.words:
            bigram = state - self.words
            found = self._find(self.trigram_word, self.first_trigram, bigram, word)
            last = self.word(self.bigram_word, bigram)
            if found >= 0:
                following = self._find(self.bigram_word, self.first_bigram, last, word)
                score = int(self.trigram_prob_book[self.trigram_prob[found]])
                return score, self.words + following if following >= 0 else word
            below = int(self.bigram_back_off_book[self.bigram_back_off[bigram]])
            state = last
        found = self._find(self.bigram_word, self.first_bigram, state, word)
        if found >= 0:
            score = int(self.bigram_prob_book[self.bigram_prob[found]])
            return below + score, self.words + found
        return below + int(self.unigram_back_off[state]) + int(self.unigram_prob[word]), word

    @staticmethod
    def word(words: NDArray[np.uint8], place: int) -> int:
        """The id of three bytes at a place of `bigram_word` or `trigram_word`."""
        first, second, third = words[place].tolist()
        return int(first | second << 8 | third << 16)

    def _find(
        self, words: NDArray[np.uint8], firsts: NDArray[np.uint32], context: int, word: int
    ) -> int:
        """Where a word stands among those after a context, or -1."""
        low, high = int(firsts[context]), int(firsts[context + 1])
        end = high
        while low < high:
            middle = (low + high) // 2
            if self.word(words, middle) < word:
                low = middle + 1
            else:
                high = middle
        return low if low < end and self.word(words, low) == word else -1

    def _section(self, index: int, offsets: tuple[int, ...]) -> NDArray[Any]:
        """One section as an array."""
        n2, n3 = self.bigrams, self.trigrams
        kinds: tuple[tuple[str, tuple[int, ...]], ...] = (
            ("<i4", (3, CODES)),
            ("<i4", (self.words,)),
            ("<i4", (self.words,)),
            ("<u4", (self.words + 1,)),
            ("u1", (n2, 3)),
            ("u1", (n2,)),
            ("u1", (n2,)),
            ("<u4", (n2 + 1,)),
            ("u1", (n3, 3)),
            ("u1", (n3,)),
        )
        dtype, shape = kinds[index]
        start, limit = offsets[index], offsets[index + 1]
        stop = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        if start % ALIGNMENT or not stop <= limit <= len(self._data):
            raise self._damaged(f"its section {index} lies at {start:,} … {limit:,}")
        return self._data[start:stop].view(dtype).reshape(shape)

    def _check_order(
        self, firsts: NDArray[np.uint32], number: int, words: NDArray[np.uint8]
    ) -> None:
        """What would send a search out of the arrays is refused when the model is opened."""
        if firsts[0] != 0 or firsts[-1] != number or np.any(firsts[1:] < firsts[:-1]):
            raise self._damaged("its contexts are out of order")
        # only ids with the highest possible first byte can be too large: few rows to put together
        top = words[words[:, 2] >= self.words >> 16].astype(np.uint32)
        if (top[:, 0] | top[:, 1] << 8 | top[:, 2] << 16).max(initial=0) >= self.words:
            raise self._damaged("it has n-grams of words beyond its vocabulary")

    def _damaged(self, why: str) -> BundleError:
        return BundleError(f"{self._name}: no language model of this version, or damaged: {why}")
