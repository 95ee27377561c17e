"""Whether words' confidence is to be believed: expected calibration error, and better weights.

Of committed words those are right that the alignment of the word error rate calls hits. Of the
tentative words of all partials, one every block of 80 ms, those are right that are said within
0.2 s of where they are shown, so the recordings' words must have times (`asr align`). Weights are
fitted on one half of the words, and their error told on the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asr import metrics
from asr.decoding.beam import BeamDecoder
from asr.decoding.confidence import evidence
from asr.measure import SAMPLE_RATE
from benchmarks.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from asr.decoding.language import Language
    from asr.decoding.reference import Committed, Entry
    from asr.decoding.settings import BeamSettings
    from asr.manifest import Utterance

    Weights = NDArray[np.float64]

FRAMES_PER_SECOND = 25
BLOCK = 2  # frames
NEAR = 0.2  # seconds between where a word is shown and where it is said, at most


def calibrations(
    language: Language,
    settings: BeamSettings,
    frames: Sequence[NDArray[np.float32]],
    utterances: Sequence[Utterance],
) -> list[Calibration]:
    """Of committed words; and of tentative ones where the times of words are known.

    Args:
        language: to search.
        settings: with the weights that are measured.
        frames: log-probabilities [T, V] of each recording.
        utterances: what is said in each.
    """
    decoder = Collector(language, settings, frames[0].shape[1])
    found = [committed_words(decoder, frames, [utterance.text for utterance in utterances])]
    timed = [
        (rows, utterance)
        for rows, utterance in zip(frames, utterances, strict=True)
        if utterance.words
    ]
    if timed:
        found.append(tentative_words(decoder, *zip(*timed, strict=True)))
    return found


class Collector(BeamDecoder):
    """A search that keeps the evidence of each word it makes."""

    kept: list[tuple[float, ...]]

    def confidence(self, said: Entry | Committed, share: int, *, tentative: bool = False) -> float:
        """As the search's."""
        self.kept.append(evidence(said, share))
        return super().confidence(said, share, tentative=tentative)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What words' confidence is worth.

    Attributes:
        name: of the figure.
        words: which, for its title.
        error: expected calibration error of the bundle's own weights.
        line: that and other weights, for people.
    """

    name: str
    words: str
    error: float
    line: str

    def figure(self, details: dict[str, object]) -> Figure:
        """The error as a figure."""
        return Figure(
            f"beam_search.{self.name}",
            f"Expected calibration error of {self.words}' confidence",
            self.error,
            "",
            1,
            (self.error, self.error),
            at_most=0.05,
            details=details,
        )


def committed_words(
    decoder: Collector, frames: Sequence[NDArray[np.float32]], texts: Sequence[str]
) -> Calibration:
    """The confidence of words that are said for good, against the alignment of the error rate."""
    decoder.kept = []
    right: list[bool] = []
    now: list[float] = []
    for rows, text in zip(frames, texts, strict=True):
        state, words = decoder.advance(decoder.start(), rows)
        words += decoder.finish(state)
        agreed = {said for _, said in metrics.hits(text, " ".join(word.text for word in words))}
        right += [number in agreed for number in range(len(words))]
        now += [word.confidence for word in words]
    return calibration("calibration", "words", decoder.kept, right, now)


def tentative_words(
    decoder: Collector, frames: Sequence[NDArray[np.float32]], utterances: Sequence[Utterance]
) -> Calibration:
    """The confidence of words that may still change, in every partial, against words' times."""
    known: list[tuple[float, ...]] = []
    right: list[bool] = []
    now: list[float] = []
    for rows, utterance in zip(frames, utterances, strict=True):
        said = [
            (token, start / SAMPLE_RATE - NEAR, end / SAMPLE_RATE + NEAR)
            for word, start, end in utterance.words
            for token in metrics.normalise(word).split()
        ]
        state = decoder.start()
        for first in range(0, len(rows), BLOCK):
            state, _ = decoder.advance(state, rows[first : first + BLOCK])
            decoder.kept = []
            for word in decoder.tentative(state):
                start, end = (frame / FRAMES_PER_SECOND for frame in (word.start, word.end))
                right.append(
                    any(word.text == token and start < e and s < end for token, s, e in said)
                )
                now.append(word.confidence)
            known += decoder.kept
    return calibration("calibration_tentative", "tentative words", known, right, now)


def calibration(
    name: str,
    words: str,
    evidences: Sequence[tuple[float, ...]],
    right: Sequence[bool],
    now: Sequence[float],
) -> Calibration:
    """What the bundle's weights of the evidence are worth, and what better ones would be."""
    known, truth = np.array(evidences), np.array(right, float)
    half = len(truth) // 2
    weights = logistic_regression(known[:half], truth[:half])
    told = 1 / (1 + np.exp(-known[half:] @ weights))
    final = ",".join(f"{weight:.4g}" for weight in logistic_regression(known, truth))
    error = calibration_error(np.array(now), truth)
    return Calibration(
        name,
        words,
        error,
        f"{words}: calibration error {error:.3f} as it is, "
        f"{calibration_error(told, truth[half:]):.3f} fitted on the other half "
        f"({len(truth)}, {truth.mean():.1%} right)\n--decoding {name}={final}",
    )


def logistic_regression(known: NDArray[np.float64], truth: NDArray[np.float64]) -> Weights:
    """Weights [E] that make the truth [n] likeliest given the evidence [n, E]; Newton's method."""
    weights = np.zeros(known.shape[1])
    for _ in range(30):
        told = 1 / (1 + np.exp(-known @ weights))
        curvature = (known * (told * (1 - told))[:, None]).T @ known + 0.01 * np.eye(len(weights))
        weights -= np.linalg.solve(curvature, known.T @ (told - truth) + 0.01 * weights)
    return weights


def calibration_error(told: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Expected calibration error over ten bins (Guo et al. 2017)."""
    bins = np.minimum((told * 10).astype(int), 9)
    gaps = [abs(np.sum(told[bins == n] - truth[bins == n])) for n in range(10)]
    return float(sum(gaps) / len(truth))
