"""Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998, section 3.1; three discounts).

p(w | h) = (c(h w) - D(c(h w))) / c(h) + g(h) · p(w | h'), where h' is h without its first word, c
are counts of occurrences in the highest order and numbers of different words before the n-gram in
the lower ones (of n-grams that begin with `<s>`, before which there is nothing, occurrences too),
D is 0, D1, D2 or D3+ by the count, and g(h) is what the discounts have freed. Words are
interpolated with the uniform distribution over all words but `<s>`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Counts = NDArray[np.uint32]
    Doubles = NDArray[np.float64]

COUNTED = 4  # counts of counts n1 … n4 are what the discounts need
# For texts too small for the formula; those of KenLM's lmplz --discount_fallback.
FALLBACK = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Discounts:
    """What is taken from counts of 1, 2 and more.

    Attributes:
        values: D1, D2, D3+.
        estimated: whether they come of the text, or from FALLBACK because it is too small.
    """

    values: tuple[float, float, float]
    estimated: bool

    def of(self, counts: NDArray[Any]) -> Doubles:
        """The discount of each count, 0 for a count of 0."""
        taken: Doubles = np.array((0.0, *self.values))[np.minimum(counts, 3)]
        return taken


def count_of_counts(parts: Iterable[NDArray[Any]]) -> tuple[int, ...]:
    """How many n-grams have a count of 1, 2, 3 and 4."""
    totals = np.zeros(COUNTED + 2, np.int64)
    for counts in parts:
        totals += np.bincount(np.minimum(counts, COUNTED + 1), minlength=COUNTED + 2)
    return tuple(int(n) for n in totals[1 : COUNTED + 1])


def discounts(numbers: tuple[int, ...]) -> Discounts:
    """D_k = k - (k + 1) · Y · n_{k+1} / n_k with Y = n1 / (n1 + 2 n2), for k = 1, 2, 3.

    Args:
        numbers: n1 … n4.
    """
    n = (0, *numbers)
    if all(n[1 : COUNTED + 1]):
        y = n[1] / (n[1] + 2 * n[2])
        first, second, third = (k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))
        if min(first, second, third) > 0:  # else unseen words would have nothing
            return Discounts((first, second, third), estimated=True)
    return Discounts(FALLBACK, estimated=False)


@dataclass(frozen=True)
class Smoothed:
    """Some histories with all their n-grams, smoothed.

    Attributes:
        probs: of the n-grams.
        sums: of the counts after each history.
        back_offs: g of each history.
    """

    probs: Doubles
    sums: Doubles
    back_offs: Doubles


def smooth(
    counts: Counts, starts: NDArray[np.intp], discount: Discounts, lower: Doubles
) -> Smoothed:
    """Probabilities of n-grams whose histories begin at `starts`.

    Args:
        counts: of the n-grams, ordered by history.
        starts: where each history's n-grams begin.
        discount: of this order.
        lower: the last words' probabilities after one word of history less.
    """
    taken = discount.of(counts)
    sums = np.add.reduceat(counts, starts, dtype=np.float64)
    back_offs = np.add.reduceat(taken, starts) / sums
    sizes = np.diff(starts, append=len(counts))
    probs = (counts - taken) / np.repeat(sums, sizes)
    probs += np.repeat(back_offs, sizes) * lower
    return Smoothed(probs, sums, back_offs)


def smooth_words(counts: NDArray[Any], discount: Discounts, start: int) -> Doubles:
    """Probabilities of single words.

    Args:
        counts: of all W words; that of `<s>` is 0.
        discount: of the first order.
        start: the id of `<s>`; its probability is 0.
    """
    taken = discount.of(counts)
    total = counts.sum()
    probs = (counts - taken) / total + taken.sum() / total / (len(counts) - 1)
    probs[start] = 0.0
    return np.asarray(probs, np.float64)
