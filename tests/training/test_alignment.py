"""Forced alignment: the best path that spells a transcript, and no other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError
from tests import tiny
from training import alignment
from training.alignment import (
    Span,
    align,
    align_words,
    head_log_probs,
    heard_end,
    joined,
    samples_of,
)
from training.units import BLANK_UNIT, Pieces, Units, characters, phones

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
    frames=st.integers(0, 7),
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
    assert samples_of(words[1], 4200) == (3600, 4200)


def test_the_space_of_characters_belongs_to_no_word() -> None:
    """A network of characters says it between words; times begin with the word's first letter."""
    units = characters()
    log_probs = np.full((7, len(units.units)), -9.0, np.float32)
    for frame, unit in enumerate([0, *units.encode("ab ba"), 0]):
        log_probs[frame, unit] = -0.1
    words, parts = align_words(log_probs, "ab ba", units)
    assert words == [Span("ab", 1, 3), Span("ba", 4, 6)]
    assert [part.text for part in parts] == ["a", "b", "▁", "b", "a"]


UNITS_OF_KINDS: list[Units] = [
    characters(),
    Pieces([BLANK_UNIT, "▁a", "▁b", "a", "b", "▁ab", "▁", "ba"]),
    phones({"a": ["A"], "ab": ["A", "B"], "ba": ["B", "A"], "aba": ["A", "B", "A"]}),
]


@settings(max_examples=30)
@given(
    st.sampled_from(UNITS_OF_KINDS),
    st.lists(st.sampled_from(["a", "ab", "ba", "aba"]), min_size=1, max_size=4),
    st.integers(0, 100),
)
def test_words_are_in_order_and_hold_their_units(units: Units, words: list[str], seed: int) -> None:
    """For each kind of units: no word overlaps the next, the first unit begins it."""
    log_probs = random_log_probs(40, seed, len(units.units))
    found, parts = align_words(log_probs, " ".join(words), units)
    assert [word.text for word in found] == words
    assert all(a.end <= b.start for spans in (found, parts) for a, b in itertools.pairwise(spans))
    assert all(0 <= span.start < span.end <= 40 for span in (*found, *parts))
    starts = {part.start: part.text for part in parts}
    ends = {part.end for part in parts}
    for word in found:
        assert starts[word.start].removeprefix("▁").lower() in {"", "a", "b", "ab"}
        assert word.end in ends


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from(["a", "ab", "ba", "aba"]), min_size=1, max_size=4),
    st.integers(0, 100),
    st.integers(39 * 640 + 1, 40 * 640),
)
def test_phones_of_a_word_join_and_words_stay_apart(
    words: list[str], seed: int, length: int
) -> None:
    """Frame-level labels know no blank within a word, and a word's times are not moved."""
    units = UNITS_OF_KINDS[2]
    log_probs = random_log_probs(40, seed, len(units.units))
    found, parts = align_words(log_probs, " ".join(words), units)
    times = joined(found, parts, length)
    assert [text for text, _, _ in times] == [part.text for part in parts]
    assert all(
        part.start * 640 - 240 <= e and s < part.end * 640 - 240
        for part, (_, s, e) in zip(parts, times, strict=True)
    )
    left = iter(times)
    for word, text in zip(found, words, strict=True):
        sounds = [next(left) for _ in text]
        assert (sounds[0][1], sounds[-1][2]) == samples_of(word, length)
        assert all(a[2] == b[1] for a, b in itertools.pairwise(sounds))


def test_a_sound_in_doubt_is_heard_no_longer() -> None:
    """A unit that is but little ahead of the blank in the silence behind a word ends before it."""
    ahead = np.array([-9, 2, 8, 6, 4, 2, 4, 1, 1, -9], float)
    scores = np.stack([np.zeros_like(ahead), ahead], 1)
    log_probs = (scores - np.log(np.exp(scores).sum(1, keepdims=True))).astype(np.float32)
    assert align(log_probs, [1]) == [(1, 9)]
    assert heard_end(log_probs, 1, 1, 9) == 5
    assert heard_end(log_probs, 1, 1, 4) == 4
    # Never ahead by much, it is heard where it is furthest ahead, and there alone.
    assert heard_end(log_probs, 1, 7, 9) == 8


def test_gaps_are_closed_in_the_middle() -> None:
    """Two phones in frames 1 and 4 meet where frame 3 begins; the next word waits for its own."""
    word, after = Span("ab", 1, 5), Span("a", 6, 7)
    parts = [Span("A", 1, 2), Span("B", 4, 5), Span("A", 6, 7)]
    assert joined([word, after], parts, 6 * 640 + 169) == [
        ("A", 400, 1680),
        ("B", 1680, 2960),
        ("A", 3600, 4009),
    ]
    assert joined([], [], 0) == []


def test_what_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour in one piece takes frames times units, and is told so, not killed."""
    monkeypatch.setattr(alignment, "MOST_CELLS", 12)
    assert len(align(random_log_probs(4, 0), [1])) == 1
    with pytest.raises(DataError, match="cut the recording"):
        align(random_log_probs(5, 0), [1])


def test_nothing_said_is_nowhere() -> None:
    """An empty transcript has no spans."""
    assert align(random_log_probs(3, 0), []) == []


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_log_probabilities_are_those_that_the_recogniser_decodes(cell: str) -> None:
    """Alignment of what is shipped, not of something like it: same frames, same bits."""
    recogniser = tiny.recognizer(cell, "int8")
    samples = tiny.sound(2, 5)
    seen: list[np.ndarray] = []
    advance_many = recogniser.decoder.advance_many

    def listen(states: list[object], log_probs: list[np.ndarray]) -> object:
        seen.extend(log_probs)
        return advance_many(states, log_probs)

    recogniser.decoder.advance_many = listen  # type: ignore[method-assign,assignment]
    recogniser.transcribe(samples)
    found = head_log_probs(
        recogniser.acoustic, tiny.normalisation(), samples, recogniser.decoder.head
    )
    decoded = np.concatenate(seen)
    assert np.array_equal(found, decoded)
