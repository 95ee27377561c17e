"""Forced alignment: the best path that spells a transcript, and no other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError
from tests import tiny
from training.alignment import Span, align, align_words, head_log_probs, samples_of
from training.units import BLANK_UNIT, Pieces

UNITS = 3


def random_log_probs(frames: int, seed: int, units: int = UNITS) -> np.ndarray:
    """Log-probabilities [frames, units]."""
    scores = np.random.default_rng(seed).standard_normal((frames, units))
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    return scores.astype(np.float32)


def spelled(path: tuple[int, ...]) -> list[int]:
    """Units of a path without repeats and blanks."""
    return [unit for unit, _ in itertools.groupby(path) if unit]


@settings(max_examples=40)
@given(
    frames=st.integers(1, 7),
    target=st.lists(st.integers(1, UNITS - 1), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_no_other_path_that_spells_the_target_is_better(
    frames: int, target: list[int], seed: int
) -> None:
    """Enumerated: the spans found belong to the best of all paths, or there is no path at all."""
    log_probs = random_log_probs(frames, seed)
    paths = [
        path for path in itertools.product(range(UNITS), repeat=frames) if spelled(path) == target
    ]
    if not paths:
        with pytest.raises(DataError, match="too few"):
            align(log_probs, target)
        return
    best = max(paths, key=lambda path: sum(log_probs[t, unit] for t, unit in enumerate(path)))
    expected, at = [], 0
    for unit, group in itertools.groupby(best):
        length = len(list(group))
        if unit:
            expected.append((at, at + length))
        at += length
    assert align(log_probs, target) == expected


def test_words_lie_from_their_first_unit_to_their_last() -> None:
    """A word's time is what latency is measured against."""
    units = Pieces([BLANK_UNIT, "▁a", "b", "▁c"])
    log_probs = np.full((8, 4), -9.0, np.float32)
    for frame, unit in enumerate((0, 1, 1, 0, 2, 0, 3, 0)):
        log_probs[frame, unit] = -0.1
    words, parts = align_words(log_probs, "ab c", units)
    assert words == [Span("ab", 1, 5), Span("c", 6, 7)]
    assert parts == [Span("▁a", 1, 3), Span("b", 4, 5), Span("▁c", 6, 7)]
    assert samples_of(words[1], 4400) == (3840, 4400)


def test_nothing_said_is_nowhere() -> None:
    """An empty transcript has no spans."""
    assert align(random_log_probs(3, 0), []) == []


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_log_probabilities_are_those_that_the_recogniser_decodes(cell: str) -> None:
    """Alignment of what is shipped, not of something like it: same frames, same bits."""
    recogniser = tiny.recognizer(cell, "int8")
    samples = tiny.sound(2, 5)
    seen: list[np.ndarray] = []
    advance = recogniser.decoder.advance

    def listen(state: object, log_probs: np.ndarray) -> object:
        seen.append(log_probs)
        return advance(state, log_probs)

    recogniser.decoder.advance = listen  # type: ignore[method-assign,assignment]
    recogniser.transcribe(samples)
    found = head_log_probs(
        recogniser.acoustic, tiny.normalisation(), samples, recogniser.decoder.head
    )
    decoded = np.concatenate(seen)
    assert np.array_equal(found, decoded)
