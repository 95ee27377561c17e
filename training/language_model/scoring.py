"""What a model makes of a text: the perplexity, and the words that it does not know."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.language_model.model import MAX_ORDER, Model
from training.language_model.vocabulary import END, START, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Ids = NDArray[np.uint32]


@dataclass(frozen=True)
class Perplexity:
    """The sums over a text.

    Attributes:
        sentences: number of them; each adds one token, its end.
        words: number of them.
        unknown: words that the model does not know.
        log_prob: of all tokens.
        log_prob_unknown: the part of the unknown words.
        hits: tokens whose probability came of an n-gram of order 1, 2, 3.
    """

    sentences: int
    words: int
    unknown: int
    log_prob: float
    log_prob_unknown: float
    hits: tuple[int, ...]

    @property
    def with_unknown(self) -> float:
        """Perplexity over all tokens, `<unk>` being a word like another."""
        return math.exp(-self.log_prob / max(self.words + self.sentences, 1))

    @property
    def known(self) -> float:
        """Perplexity over the tokens that the model knows."""
        tokens = self.words + self.sentences - self.unknown
        return math.exp(-(self.log_prob - self.log_prob_unknown) / max(tokens, 1))

    @property
    def unknown_share(self) -> float:
        """The share of the words that the model does not know."""
        return self.unknown / max(self.words, 1)


def token_scores(model: Model, ids: Ids) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log-probability of each token of sentences in a row, and the order that gave it.

    Args:
        model: of any order.
        ids: sentences with `<s>` and `</s>`; at each `<s>` both answers are 0.
    """
    scores = model.log_probs[ids].astype(np.float64)
    orders = np.ones(len(ids), np.int64)
    # histories never reach over `<s>`; the token after it has that alone
    behind = np.flatnonzero(ids != START)
    behind = behind[behind > 0]
    packing = model.packing
    if model.order >= 2 and len(behind):
        level = model.levels[0]
        at, there = level.find(packing.pack(ids[behind - 1], ids[behind]))
        if len(level):
            scores[behind] = np.where(
                there, level.log_probs[at], model.back_offs[ids[behind - 1]] + scores[behind]
            )
        else:
            scores[behind] += model.back_offs[ids[behind - 1]]
        orders[behind[there]] = 2
    deep = behind[(behind > 1) & (ids[behind - 1] != START)]
    if model.order == MAX_ORDER and len(deep) and len(model.levels[0]):
        bigrams, trigrams = model.levels
        columns = ids[deep - 2], ids[deep - 1], ids[deep]
        at, there = bigrams.find(packing.pack(*columns[:2]))
        scores[deep] += np.where(there, bigrams.back_offs[at], 0)
        at, there = trigrams.find(packing.pack(*columns))
        if len(trigrams):
            scores[deep[there]] = trigrams.log_probs[at[there]]
        orders[deep[there]] = MAX_ORDER
    scores[ids == START] = 0.0
    orders[ids == START] = 0
    return scores, orders


def perplexity(model: Model, sentences: Iterable[Ids]) -> Perplexity:
    """Add up what a model makes of sentences.

    Args:
        model: of any order.
        sentences: ids with `<s>` and `</s>`, any number of whole sentences at a time.
    """
    ends = words = unknown = 0
    log_prob = log_prob_unknown = 0.0
    hits = np.zeros(MAX_ORDER + 1, np.int64)
    for ids in sentences:
        scores, orders = token_scores(model, ids)
        strange = ids == UNKNOWN
        ends += int(np.count_nonzero(ids == END))
        words += int(np.count_nonzero((ids != END) & (ids != START)))
        unknown += int(np.count_nonzero(strange))
        log_prob += float(scores.sum())
        log_prob_unknown += float(scores[strange].sum())
        hits += np.bincount(orders, minlength=MAX_ORDER + 1)
    return Perplexity(
        ends, words, unknown, log_prob, log_prob_unknown, tuple(map(int, hits[1 : model.order + 1]))
    )
