"""Models in the compact form that the decoder maps into memory (`asr.decoding.ngram`).

Bigram and trigram scores lie in 8 bits, each an index into a codebook of 255 values that minimises
the squared error (Lloyd 1982).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.decoding.ngram import ALIGNMENT, CODES, HEADER_BYTES, MAGIC, SCALE, NGram
from asr.errors import DataError
from training.language_model.model import LOG_ZERO, MAX_ORDER, Level, Model, Packing
from training.language_model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

MAX_WORDS = 1 << 24  # ids have three bytes
ROUNDS = 12  # of Lloyd's iteration; more change the error by less than a percent
BINS = 1024  # in which the density of values is looked at


def write_compact(model: Model, path: Path, words_path: Path) -> None:
    """Write `lm.ngram` and the list of its words.

    Args:
        model: of any order; each trigram's first two words must be a bigram of it.
        path: the model.
        words_path: the words, one a line, the line number (from 0) being the id.

    Raises:
        DataError: the model is too large, or a trigram has no bigram as its history.
    """
    W = len(model.vocabulary)
    if W > MAX_WORDS:
        raise DataError(f"{W:,} words are too many for the compact form, which takes 16.7 million")
    packing = model.packing
    none = Level(np.zeros(0, np.uint64), np.zeros(0, np.float32), np.zeros(0, np.float32))
    bigrams, trigrams = (*model.levels, none, none)[: MAX_ORDER - 1]
    contexts, there = bigrams.find(packing.history(trigrams.keys))
    if not there.all():
        raise DataError("a trigram's first two words are no bigram of the model")
    books: list[NDArray[np.int32]] = []
    codes: list[NDArray[np.uint8]] = []
    for values in (bigrams.log_probs, bigrams.back_offs, trigrams.log_probs):
        book, code = quantise(np.round(values.astype(np.float64) * SCALE))
        books.append(book)
        codes.append(code)
    firsts = np.searchsorted(packing.history(bigrams.keys), np.arange(W + 1)).astype(np.uint32)
    first_trigrams = np.searchsorted(contexts, np.arange(len(bigrams) + 1)).astype(np.uint32)
    sections: list[NDArray[Any]] = [
        np.stack(books),
        _scores(model.log_probs),
        _scores(model.back_offs),
        firsts,
        _three_bytes(packing.last(bigrams.keys)),
        codes[0],
        codes[1],
        first_trigrams,
        _three_bytes(packing.last(trigrams.keys)),
        codes[2],
    ]
    _write(path, (model.order, W, len(bigrams), len(trigrams)), sections)
    model.vocabulary.save(words_path)


def _write(path: Path, sizes: tuple[int, int, int, int], sections: list[NDArray[Any]]) -> None:
    """Header, then the sections, each aligned."""
    offsets = []
    end = HEADER_BYTES
    for section in sections:
        offsets.append(end)
        end += -(-section.nbytes // ALIGNMENT) * ALIGNMENT
    header = MAGIC + struct.pack("<6I", *sizes, SCALE, 0)
    header += struct.pack(f"<{len(offsets) + 1}Q", *offsets, end)
    with path.open("wb") as file:
        file.write(header.ljust(HEADER_BYTES, b"\0"))
        for section in sections:
            little = section.astype(section.dtype.newbyteorder("<"), copy=False)
            file.write(little.tobytes().ljust(-(-section.nbytes // ALIGNMENT) * ALIGNMENT, b"\0"))


def _scores(values: NDArray[np.float32]) -> NDArray[np.int32]:
    return np.round(values.astype(np.float64) * SCALE).astype(np.int32)


def _three_bytes(ids: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Ids as three bytes each, the least first [n, 3]."""
    return ids.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3]


def quantise(values: Doubles) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """A codebook of whole numbers and each value's index into it.

    A value of 0 is kept exactly: it is the weight of an n-gram that is no history. The codebook
    ascends; entries that are not needed repeat the last one.

    Args:
        values: any number of them, whole numbers.
    """
    distinct, numbers = np.unique(values, return_counts=True)
    free = CODES - 2  # entry 255 stays unused, and one belongs to 0
    centres = distinct[distinct != 0]
    if len(centres) > free:
        centres = _lloyd(centres, numbers[distinct != 0].astype(np.float64), free)
    book = np.unique(np.concatenate((np.round(centres), [0.0])))
    edges = (book[1:] + book[:-1]) / 2
    codes = np.searchsorted(edges, values).astype(np.uint8)
    codes[values == 0] = np.searchsorted(book, 0.0)
    padded = np.concatenate((book, np.full(CODES - len(book), book[-1])))
    return padded.astype(np.int32), codes


def _lloyd(values: Doubles, numbers: Doubles, size: int) -> Doubles:
    """Centres of a one-dimensional k-means of distinct ascending values with their numbers.

    The iteration begins near its end: codes are spread by the cube root of the values' density,
    which is the best that many codes can do (Panter and Dite 1951). From equally filled bins
    twelve rounds would leave three times the error.
    """
    density, edges = np.histogram(values, BINS, weights=numbers)
    filled = np.concatenate(([0.0], np.cumsum(np.cbrt(density))))
    bounds = np.interp(np.arange(1, size) * (filled[-1] / size), filled, edges)
    centres = _means(values, numbers, bounds)
    for _ in range(ROUNDS):
        centres = _means(values, numbers, (centres[1:] + centres[:-1]) / 2)
    return centres


def _means(values: Doubles, numbers: Doubles, bounds: Doubles) -> Doubles:
    """The means of the values between bounds; where there are none there is no mean."""
    starts = np.searchsorted(values, bounds)
    starts = np.unique(np.concatenate(([0], starts[starts < len(values)])))
    sums: Doubles = np.add.reduceat(values * numbers, starts)
    return sums / np.add.reduceat(numbers, starts)


def read_compact(path: Path, words_path: Path) -> Model:
    """Read a model with the values that its codebooks give.

    Raises:
        BundleError: the file is damaged.
        DataError: the list of words is another model's.
    """
    compact = NGram.open(path)
    vocabulary = Vocabulary.load(words_path)
    if len(vocabulary) != compact.words:
        raise DataError(
            f"{words_path}: {len(vocabulary):,} words, but {path} has {compact.words:,}"
        )
    packing = Packing.of(len(vocabulary))
    contexts = np.repeat(np.arange(compact.words, dtype=np.uint32), _sizes(compact.first_bigram))
    bigrams = Level(
        packing.pack(contexts, _ids(compact.bigram_word)),
        _logs(compact.bigram_prob_book[compact.bigram_prob]),
        _logs(compact.bigram_back_off_book[compact.bigram_back_off]),
    )
    histories = np.repeat(bigrams.keys, _sizes(compact.first_trigram))
    trigrams = Level(
        (histories << np.uint64(packing.bits)) | _ids(compact.trigram_word),
        _logs(compact.trigram_prob_book[compact.trigram_prob]),
        np.zeros(len(histories), np.float32),
    )
    log_probs = _logs(compact.unigram_prob)
    log_probs[compact.unigram_prob <= round(LOG_ZERO * SCALE)] = LOG_ZERO
    levels = (bigrams, trigrams)[: compact.order - 1]
    return Model(vocabulary, log_probs, _logs(compact.unigram_back_off), levels)


def _sizes(firsts: NDArray[np.uint32]) -> NDArray[np.int64]:
    """How many n-grams each context has."""
    return (firsts[1:] - firsts[:-1]).astype(np.int64)


def _ids(words: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Ids of three bytes each."""
    wide = words.astype(np.uint32)
    return np.asarray(wide[:, 0] | (wide[:, 1] << 8) | (wide[:, 2] << 16), np.uint32)


def _logs(scores: NDArray[np.int32]) -> NDArray[np.float32]:
    return (scores / SCALE).astype(np.float32)
