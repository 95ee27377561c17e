"""Interpolated modified Kneser-Ney and entropy pruning as a textbook has them: dictionaries, loops.

Chen and Goodman 1998 section 3.1 and Stolcke 1998 section 3.2, for orders 1 to 3, over tiny texts.
Nothing here is shared with what it checks but the ids of words.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.language_model.model import Model

START, END = 1, 2
Ngram = tuple[int, ...]


@dataclass
class Textbook:
    """An unpruned model: `prob(word, history)` for histories of up to `order` - 1 words."""

    order: int
    words: int
    counts: list[Counter[Ngram]]  # by order, Kneser-Ney's for all but the highest
    discounts: list[tuple[float, float, float]]
    raw: Counter[Ngram]  # occurrences of n-grams of all orders
    tokens: int

    @classmethod
    def of(cls, sentences: list[list[int]], order: int, words: int) -> Textbook:
        """Count sentences of ids, without their marks of start and end."""
        raw: Counter[Ngram] = Counter()
        before: dict[Ngram, set[int]] = defaultdict(set)
        for sentence in sentences:
            ids = [START, *sentence, END]
            for n in range(1, order + 1):
                for i in range(len(ids) - n + 1):
                    gram = tuple(ids[i : i + n])
                    raw[gram] += 1
                    if i:
                        before[gram].add(ids[i - 1])
        counts = []
        for n in range(1, order + 1):
            grams = [g for g in raw if len(g) == n and g != (START,)]
            counts.append(
                Counter(
                    {g: raw[g] if n == order or g[0] == START else len(before[g]) for g in grams}
                )
            )
        tokens = sum(len(sentence) + 1 for sentence in sentences)
        return cls(order, words, counts, [discounts_of(c) for c in counts], raw, tokens)

    def discount(self, gram: Ngram) -> float:
        """What is taken from an n-gram's count."""
        count = self.counts[len(gram) - 1][gram]
        return self.discounts[len(gram) - 1][min(count, 3) - 1] if count else 0.0

    def prob(self, word: int, history: Ngram) -> float:
        """p(word | history)."""
        if word == START:
            return 0.0
        level = self.counts[len(history)]
        followers = {g: c for g, c in level.items() if g[:-1] == history}
        lower = self.prob(word, history[1:]) if history else 1 / (self.words - 1)
        if not followers:
            return lower
        gram = (*history, word)
        total = sum(followers.values())
        freed = sum(self.discount(g) for g in followers)
        return max(level[gram] - self.discount(gram), 0) / total + freed / total * lower

    def grams(self, order: int) -> list[Ngram]:
        """All n-grams of an order."""
        return sorted(self.counts[order - 1])


def discounts_of(counts: Counter[Ngram]) -> tuple[float, float, float]:
    """D1, D2, D3+ by the formula, or the fallback where it cannot be computed."""
    n = [sum(1 for c in counts.values() if c == k) for k in range(5)]
    if all(n[1:]):
        y = n[1] / (n[1] + 2 * n[2])
        values = tuple(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))
        if min(values) > 0:
            return values[0], values[1], values[2]
    return 0.5, 1.0, 1.5


class Table:
    """A back-off model as dictionaries, the way that ARPA is defined."""

    def __init__(self, model: Model) -> None:
        bits = model.packing.bits
        mask = (1 << bits) - 1
        self.words = len(model.vocabulary)
        self.probs: dict[Ngram, float] = {(i,): float(p) for i, p in enumerate(model.log_probs)}
        self.weights: dict[Ngram, float] = {(i,): float(b) for i, b in enumerate(model.back_offs)}
        for order, level in enumerate(model.levels, 2):
            for key, prob, weight in zip(
                level.keys.tolist(), level.log_probs.tolist(), level.back_offs.tolist(), strict=True
            ):
                gram = tuple(key >> bits * place & mask for place in reversed(range(order)))
                self.probs[gram] = prob
                self.weights[gram] = weight

    def log_prob(self, word: int, history: Ngram) -> float:
        """Log p(word | history), by recursion."""
        gram = (*history, word)
        if gram in self.probs:
            return self.probs[gram]
        return self.weights.get(history, 0.0) + self.log_prob(word, history[1:])

    def total(self, history: Ngram) -> float:
        """What all words have together after a history."""
        return math.fsum(
            math.exp(self.log_prob(word, history)) for word in range(self.words) if word != START
        )

    def histories(self) -> list[Ngram]:
        """The empty one, and all n-grams that others may follow."""
        longest = max(map(len, self.probs))
        return [(), *(g for g in self.probs if len(g) < longest and g[-1] != END)]


def loss_without(table: Table, gram: Ngram, history_prob: float) -> float:
    """The relative change of perplexity when an n-gram goes, by the definition.

    The relative entropy of all words after its history, with the back-off weight adapted.
    """
    history, words = gram[:-1], [w for w in range(table.words) if w != START]
    before = {w: table.log_prob(w, history) for w in words}
    explicit = [w for w in words if (*history, w) in table.probs and w != gram[-1]]
    lower = {w: table.log_prob(w, history[1:]) for w in words}
    rest = 1 - math.fsum(math.exp(before[w]) for w in explicit)
    weight = math.log(rest / (1 - math.fsum(math.exp(lower[w]) for w in explicit)))
    after = {w: before[w] if w in explicit else weight + lower[w] for w in words}
    entropy = math.fsum(math.exp(before[w]) * (before[w] - after[w]) for w in words)
    return math.expm1(history_prob * entropy)
