"""From texts to a model: count, smooth, prune. Memory is bounded whatever the texts' size.

The highest order is counted in sorted runs (`counting`); the lower orders' counts follow from it.
Each order is then smoothed from the lowest up, some histories at a time, and n-grams that pruning
drops are never stored. What is large lies in files of a working folder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.errors import ConfigError, DataError
from training.language_model.counting import KeyCounter, Spool
from training.language_model.kneser_ney import (
    Discounts,
    count_of_counts,
    discounts,
    smooth,
    smooth_words,
)
from training.language_model.model import (
    LOG_ZERO,
    MAX_ORDER,
    Level,
    Model,
    context_chunks,
    context_starts,
    history_back_offs,
)
from training.language_model.pruning import worth_keeping
from training.language_model.vocabulary import END, START, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Ids = NDArray[np.uint32]
    Keys = NDArray[np.uint64]
    Counts = NDArray[np.uint32]
    Say = Callable[[str], None]

# Of working memory, sorting and smoothing included: at 48, 253 million words with 2 GB had a
# peak of 2.17 GB, pages of mapped files not counted (those the system can take back).
BYTES_PER_KEY = 56


@dataclass(frozen=True)
class Settings:
    """How a model is made.

    Attributes:
        order: 1, 2 or 3.
        prune: θ of each order from 2 on; the last is used for those that follow.
        memory: bytes of working memory, about.
    """

    order: int = 3
    prune: tuple[float, ...] = (0.0,)
    memory: int = 2_000_000_000

    def __post_init__(self) -> None:
        if not 1 <= self.order <= MAX_ORDER:
            raise ConfigError(f"a model's order is 1 to {MAX_ORDER}, not {self.order}")
        if not self.prune or not all(0 <= theta < math.inf for theta in self.prune):
            raise ConfigError("pruning thresholds are numbers from 0 (keep all) up")

    def threshold(self, order: int) -> float:
        """θ of an order, 2 or more."""
        return self.prune[min(order - 2, len(self.prune) - 1)]

    @property
    def buffer(self) -> int:
        """Keys to hold in memory."""
        return self.memory // BYTES_PER_KEY


def _silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Counted:
    """What a text's n-grams have been counted to.

    Attributes:
        tokens: number of predicted tokens, `</s>` too.
        occurrences: of each word [W].
        words: Kneser-Ney's counts of single words [W].
        levels: keys and Kneser-Ney's counts of bigrams, then trigrams.
        runs: runs that were spilled in counting.
    """

    tokens: int
    occurrences: NDArray[np.int64]
    words: NDArray[np.int64]
    levels: tuple[tuple[Keys, Counts], ...]
    runs: int


class Builder:
    """Makes a model of sentences, with a working folder that must outlive the model.

    Attributes:
        notes: of each order the number of n-grams before pruning and the discounts.
        tokens: that were counted, ends of sentences too.
        runs: that counting has spilled to disk.
    """

    def __init__(
        self, vocabulary: Vocabulary, settings: Settings, folder: Path, say: Say = _silent
    ) -> None:
        """Prepare to build.

        Args:
            vocabulary: other words count as `<unk>`, which is a word like another.
            settings: order, pruning, memory.
            folder: an empty one for files; about 25 bytes per different n-gram.
            say: told what goes on.
        """
        self._vocabulary = vocabulary
        self._settings = settings
        self._folder = folder
        self._say = say
        self.notes: list[str] = []
        self.tokens = 0
        self.runs = 0
        self._packing = Model(vocabulary, *_empty()).packing
        self._chunk = max(settings.buffer // 8, 1 << 10)

    def build(self, sentences: Iterable[Ids]) -> Model:
        """Count, smooth and prune.

        Args:
            sentences: ids with `<s>` and `</s>`, any number of whole sentences at a time.

        Raises:
            DataError: there are no sentences.
        """
        counted = self._count(sentences)
        self.tokens, self.runs = counted.tokens, counted.runs
        found = discounts(count_of_counts([counted.words]))
        self._tell(1, found, len(counted.words))
        with np.errstate(divide="ignore"):
            log_probs = np.log(smooth_words(counted.words, found, START))
        log_probs[START] = LOG_ZERO
        log_probs = log_probs.astype(np.float32)
        model = Model(self._vocabulary, log_probs, np.zeros_like(log_probs), ())
        for order in range(2, self._settings.order + 1):
            model = self._add_level(model, counted, order)
        return self._thin(model, counted) if max(self._settings.prune) > 0 else model

    def _count(self, sentences: Iterable[Ids]) -> Counted:
        order = self._settings.order
        counter = KeyCounter(self._folder, f"counted{order}", self._settings.buffer)
        occurrences = np.zeros(len(self._vocabulary), np.int64)
        empty = 0
        for ids in sentences:
            occurrences += np.bincount(ids, minlength=len(occurrences))
            empty += int(np.count_nonzero((ids[:-1] == START) & (ids[1:] == END)))
            if order > 1:
                counter.add(self._windows(ids, order))
            self._say(f"{occurrences.sum() / 1e6:,.1f} million tokens, {counter.runs} runs")
        tokens = int(occurrences.sum() - occurrences[START])
        if tokens == 0:
            raise DataError("the texts hold no sentence")
        runs = counter.runs
        levels: list[tuple[Keys, Counts]] = [counter.stored()] if order > 1 else []
        if order == MAX_ORDER:
            self._say(f"{len(levels[0][0]):,} trigrams; counting what stands before bigrams")
            levels.insert(0, self._continuations(*levels[0], empty))
        words = occurrences.copy()
        if levels:
            words = np.zeros_like(occurrences)
            for part in _parts(levels[0][0], self._chunk):
                words += np.bincount(self._packing.last(part).astype(np.intp), minlength=len(words))
        words[START] = 0
        return Counted(tokens, occurrences, words, tuple(levels), runs)

    def _windows(self, ids: Ids, order: int) -> Keys:
        """The n-grams of sentences in a row: those with `<s>` nowhere but in front."""
        if len(ids) < order:
            return np.zeros(0, np.uint64)
        columns = [ids[i : len(ids) - order + 1 + i] for i in range(order)]
        keys = self._packing.pack(*columns)
        return keys[np.all([column != START for column in columns[1:]], axis=0)]

    def _continuations(self, trigrams: Keys, counts: Counts, empty: int) -> tuple[Keys, Counts]:
        """Kneser-Ney's counts of bigrams: of the trigrams, their counts, and empty sentences."""
        packing = self._packing
        counter = KeyCounter(self._folder, "counted2", self._settings.buffer)
        for part in _parts(trigrams, self._chunk):
            counter.add(packing.last(part, 2))
        # nothing stands before `<s>`: its bigrams count as often as they occur
        bounds = np.array([START, START + 1], np.uint64) << np.uint64(2 * packing.bits)
        first, stop = np.searchsorted(trigrams, bounds)
        if stop > first:
            keys = trigrams[first:stop]
            starts = context_starts(keys, packing.bits)
            sums = np.add.reduceat(counts[first:stop], starts, dtype=np.uint32)
            counter.add_counts(packing.history(keys[starts]), sums)
        if empty:  # the one bigram that is in no trigram
            key = packing.pack(np.array([START], np.uint32), np.array([END], np.uint32))
            counter.add_counts(key, np.array([empty], np.uint32))
        return counter.stored()

    def _add_level(self, model: Model, counted: Counted, order: int) -> Model:
        """The model with one order more; of the highest order only what pruning keeps."""
        keys, counts = counted.levels[order - 2]
        found = discounts(count_of_counts(_parts(counts, self._chunk)))
        self._tell(order, found, len(keys))
        threshold = self._settings.threshold(order) if order == self._settings.order else 0.0
        level = _GrowingLevel(self._folder, order)
        back_offs = np.zeros(len(model.levels[-1]) if model.levels else len(model.log_probs))
        for start, stop in context_chunks(keys, self._packing.bits, self._chunk):
            part = keys[start:stop]
            starts = context_starts(part, self._packing.bits)
            lower = np.exp(model.lower(part, order))
            smoothed = smooth(counts[start:stop], starts, found, lower)
            histories = self._packing.history(part[starts])
            back_offs[self._at(model, histories)] = np.log(smoothed.back_offs)
            share = self._shares(counted, histories, smoothed.sums, order)
            keep = worth_keeping(smoothed, starts, lower, share, threshold)
            level.append(part[keep], np.log(smoothed.probs[keep]))
            self._say(f"order {order}: {stop:,} of {len(keys):,} n-grams, {level.length:,} kept")
        return _with_level(model, back_offs, level.done())

    def _at(self, model: Model, histories: Keys) -> NDArray[Any]:
        """Where histories stand in the highest order of a model."""
        if not model.levels:
            return histories.astype(np.intp)
        return model.levels[-1].find(histories)[0]

    def _shares(
        self, counted: Counted, histories: Keys, sums: NDArray[np.float64], order: int
    ) -> NDArray[np.float64]:
        """How often histories occur, as a share of the tokens."""
        if order == 2:
            return counted.occurrences[histories] / counted.tokens
        return sums / counted.tokens  # the highest order counts occurrences

    def _thin(self, model: Model, counted: Counted) -> Model:
        """Prune the bigrams of a trigram model too, and make all histories sum to 1 again."""
        if model.order == MAX_ORDER:
            model = self._prune_bigrams(model, counted)
        for order in range(2, model.order + 1):
            below = model.log_probs if order == 2 else model.levels[0].log_probs
            back_offs = np.zeros(len(below))
            lower = Model(model.vocabulary, model.log_probs, below, model.levels[: order - 2])
            for histories, weights in history_back_offs(model, order, self._chunk):
                back_offs[self._at(lower, histories)] = weights
            model = _with_back_offs(model, back_offs, order)
        return model

    def _prune_bigrams(self, model: Model, counted: Counted) -> Model:
        """Drop bigrams that the model would not miss and that are no trigram's history."""
        bigrams, trigrams = model.levels
        needed = np.zeros(len(bigrams), np.bool_)
        for start, stop in context_chunks(trigrams.keys, self._packing.bits, self._chunk):
            part = trigrams.keys[start:stop]
            part = part[context_starts(part, self._packing.bits)]
            needed[bigrams.find(self._packing.history(part))[0]] = True
        found = discounts(count_of_counts(_parts(counted.levels[0][1], self._chunk)))
        level = _GrowingLevel(self._folder, 2, "pruned")
        for start, stop in context_chunks(bigrams.keys, self._packing.bits, self._chunk):
            part = bigrams.keys[start:stop]
            starts = context_starts(part, self._packing.bits)
            lower = np.exp(model.lower(part, 2))
            smoothed = smooth(counted.levels[0][1][start:stop], starts, found, lower)
            histories = self._packing.history(part[starts])
            share = self._shares(counted, histories, smoothed.sums, 2)
            threshold = self._settings.threshold(2)
            keep = worth_keeping(smoothed, starts, lower, share, threshold)
            keep |= needed[start:stop]
            level.append(part[keep], bigrams.log_probs[start:stop][keep])
        kept = level.done()
        self._say(f"order 2: {len(kept):,} of {len(bigrams):,} bigrams kept")
        return Model(model.vocabulary, model.log_probs, model.back_offs, (kept, trigrams))

    def _tell(self, order: int, found: Discounts, number: int) -> None:
        values = " ".join(f"{value:.4f}" for value in found.values)
        origin = "" if found.estimated else " (the text is too small to estimate them)"
        self.notes.append(f"order {order}: {number:,} n-grams, discounts {values}{origin}")
        self._say(self.notes[-1])


class _GrowingLevel:
    """The n-grams of an order while they come."""

    def __init__(self, folder: Path, order: int, name: str = "level") -> None:
        self._keys = Spool(folder / f"{name}{order}.keys", np.uint64)
        self._log_probs = Spool(folder / f"{name}{order}.log_probs", np.float32)

    @property
    def length(self) -> int:
        return self._keys.length

    def append(self, keys: Keys, log_probs: NDArray[Any]) -> None:
        self._keys.append(keys)
        self._log_probs.append(log_probs)

    def done(self) -> Level:
        log_probs = self._log_probs.done()
        return Level(self._keys.done(), log_probs, np.zeros(len(log_probs), np.float32))


def _parts(values: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """An array piece by piece."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _empty() -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[Level, ...]]:
    return np.zeros(0, np.float32), np.zeros(0, np.float32), ()


def _with_level(model: Model, back_offs: NDArray[np.float64], level: Level) -> Model:
    """The model with one order more, whose histories have these back-off weights."""
    model = _with_back_offs(model, back_offs, model.order + 1)
    return Model(model.vocabulary, model.log_probs, model.back_offs, (*model.levels, level))


def _with_back_offs(model: Model, back_offs: NDArray[np.float64], order: int) -> Model:
    """The model with other back-off weights of the histories of an order."""
    weights = back_offs.astype(np.float32)
    if order == 2:
        return Model(model.vocabulary, model.log_probs, weights, model.levels)
    bigrams = Level(model.levels[0].keys, model.levels[0].log_probs, weights)
    levels = (bigrams, *model.levels[1:])
    return Model(model.vocabulary, model.log_probs, model.back_offs, levels)
