"""Pruning by relative entropy (Stolcke 1998, "Entropy-based pruning of backoff language models").

An n-gram goes when the model without it (its history's back-off weight adapted) has a perplexity
that is larger by a factor below 1 + θ. One departure: the history's probability is its share of
the text's tokens, not the model's own product, because Kneser-Ney's lower orders count contexts
and no occurrences, which makes them poor marginals (Chelba et al. 2010, "Study on interaction
between entropy pruning and Kneser-Ney smoothing").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.language_model.kneser_ney import Smoothed

    Doubles = NDArray[np.float64]

LEAST = 1e-12  # rest of a distribution that rounding may have made zero


def losses(
    smoothed: Smoothed, starts: NDArray[np.intp], lower: Doubles, history_probs: Doubles
) -> Doubles:
    """By what part the perplexity grows without each n-gram: section 3.2 of the paper, equation 3.

    Args:
        smoothed: the probabilities of whole histories, and their back-off weights.
        starts: where each history's n-grams begin.
        lower: the last words' probabilities after one word of history less.
        history_probs: of each history in the text.
    """
    sizes = np.diff(starts, append=len(lower))
    rest_lower = np.maximum(1 - np.add.reduceat(lower, starts), LEAST)
    rest = smoothed.back_offs * rest_lower
    probs = smoothed.probs
    weight = np.repeat(np.log(smoothed.back_offs), sizes)
    rests = np.repeat(rest, sizes)
    without = np.log(rests + probs) - np.log(np.repeat(rest_lower, sizes) + lower)
    change = probs * (np.log(lower) + without - np.log(probs)) + rests * (without - weight)
    grown: Doubles = np.expm1(-np.repeat(history_probs, sizes) * change)
    return grown


def worth_keeping(
    smoothed: Smoothed,
    starts: NDArray[np.intp],
    lower: Doubles,
    history_probs: Doubles,
    threshold: float,
) -> NDArray[np.bool_]:
    """Which n-grams the model would miss: those whose loss reaches the threshold.

    Args:
        smoothed: see `losses`.
        starts: see `losses`.
        lower: see `losses`.
        history_probs: see `losses`.
        threshold: θ, ≥ 0; 0 keeps all.
    """
    if threshold <= 0:
        return np.ones(len(lower), np.bool_)
    return losses(smoothed, starts, lower, history_probs) >= threshold
