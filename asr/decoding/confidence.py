"""How surely a word was said: a probability made of what the search knows of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from asr.decoding.reference import ONE, SCALE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asr.decoding.reference import Committed, Entry

    Said = Entry | Committed


def evidence(said: Said, share: int) -> tuple[float, ...]:
    """What the search knows of a word.

    Args:
        said: the word.
        share: of the hypotheses' probability that agreed on it, of 32768.

    Returns:
        1; its sounds' score against that of the best free phones, in nats a frame and in all; its
        language model score in nats; the log odds of the share; its frames.
    """
    frames = max(1, said.end - said.start)
    sounds = min(0, said.cost - said.lm) / SCALE
    odds = math.log((share + 16) / (ONE - share + 16))
    return (1.0, sounds / frames, sounds, said.lm / SCALE, odds, float(frames))


def confidence(said: Said, share: int, weights: Sequence[float]) -> float:
    """The probability that a word was said, 0 … 1.

    Args:
        said: the word.
        share: of the hypotheses' probability that agreed on it, of 32768.
        weights: of the evidence, fitted by logistic regression; if empty, the share times the mean
            probability of the word's sounds against free phones stands in.
    """
    known = evidence(said, share)
    if not weights:
        return share / ONE * math.exp(known[1])
    total = sum(weight * number for weight, number in zip(weights, known, strict=True))
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, total))))
