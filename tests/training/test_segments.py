"""Speech cut into stretches of one unit, and sentences put together from them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError
from training.segments import BLANK, LONGEST_PAUSE, Heard, Segments, segments
from training.validation import best_path

UNITS = ("<blank>", "a", "b", "c")


def clear(path: list[int]) -> Heard:
    """An utterance in which each frame says one unit and nothing else."""
    frames = np.full((len(path), len(UNITS)), -12.0, np.float16)
    frames[np.arange(len(path)), path] = 0
    return Heard(frames, best_path(np.array(path)), [])


paths = st.lists(st.integers(0, 3), min_size=1, max_size=120)


@given(paths)
@settings(max_examples=60)
def test_stretches_are_the_utterance_in_order(path: list[int]) -> None:
    """Nothing is lost but what of a pause is too long; each begins with its unit."""
    heard = clear(path)
    found = segments(heard)
    assert [unit for unit, _, _ in found if unit] == list(heard.said)
    assert all(following == after[0] for (_, following, _), after in pairwise(found))
    for unit, _, frames in found:
        assert frames[0].argmax() == unit
        assert unit or len(frames) <= LONGEST_PAUSE
    if not any(len(frames) == LONGEST_PAUSE for _, _, frames in found):
        assert np.array_equal(np.concatenate([frames for _, _, frames in found]), heard.log_probs)


@given(
    st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(0, 99),
)
@settings(max_examples=60)
def test_a_sentence_says_its_units_and_no_others(words: list[list[int]], seed: int) -> None:
    """However the stretches were drawn: where they are clear, the best path spells the sentence."""
    rng = np.random.default_rng(1)
    heard = [clear([0, *np.repeat(rng.permutation([1, 2, 3]), 2), 0, 0, 0, 0]) for _ in range(9)]
    heard += [clear([k, 0, 0, 0, 0, k, 0]) for k in (1, 2, 3)]
    spoken, begins = Segments(heard, UNITS).speak(words, np.random.default_rng(seed))
    units = spoken.argmax(1)
    assert [units[frame] for frame in begins] == [word[-1] for word in words]
    wanted = [unit for word in words for unit in word]
    changed = best_path(units)
    # two of the same without a blank between them are one to the best path
    doubled = sum(a == b for a, b in pairwise(wanted))
    assert len(wanted) - doubled <= len(changed) <= len(wanted)
    assert [u for k, u in enumerate(changed) if not k or u != changed[k - 1]] == [
        u for k, u in enumerate(wanted) if not k or u != wanted[k - 1]
    ]


def test_company_counts() -> None:
    """A stretch that was heard before the same unit is taken, wherever there is one."""
    before_b, before_c = clear([1, 2, 0, 0, 0, 0]), clear([1, 1, 1, 3, 0, 0, 0, 0])
    author = Segments([before_b, before_c], UNITS)
    for seed in range(20):
        spoken, _ = author.speak([[1, 3]], np.random.default_rng(seed))
        assert np.count_nonzero(spoken.argmax(1) == 1) == 3


def test_what_cannot_be_cut_is_left_out_and_what_was_never_said_is_named() -> None:
    """An utterance whose transcript is longer than it, and a unit that nobody said."""
    short = Heard(clear([1]).log_probs, [1, 2, 3], [])
    with pytest.raises(DataError, match="too few to spell"):
        segments(short)
    with pytest.raises(DataError, match="nobody said c in what was heard"):
        Segments([short, clear([1, 0, 0, 0, 2, 0, 0, 0])], UNITS)
    assert BLANK == 0
