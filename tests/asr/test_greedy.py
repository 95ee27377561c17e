"""From frames to words: the rules, one by one, and that cutting does not touch them."""

from __future__ import annotations

import json
import math
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding import DecodedWord
from asr.decoding.greedy import GAP_FRAMES, MAX_UNITS, GreedyDecoder, GreedyState
from asr.errors import StateError

UNITS = ("<blank>", "▁", "▁a", "▁b", "c", "d")
DECODER = GreedyDecoder(UNITS, "pieces")
BLANK, SPACE, A, B, C, D = range(6)


def frames(best: list[int], probability: float = 0.5) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Log-probabilities in which these units are best, all with the same probability."""
    rows = np.full((len(best), len(UNITS)), math.log(0.01), np.float32)
    rows[np.arange(len(best)), best] = math.log(probability)
    return rows


def decode(best: list[int]) -> list[DecodedWord]:
    """All words of a whole utterance."""
    state, committed = DECODER.advance(DECODER.start(), frames(best))
    return [*committed, *DECODER.finish(state)]


def spans(best: list[int]) -> list[tuple[str, int, int]]:
    """Texts and times of a whole utterance."""
    return [(word.text, word.start, word.end) for word in decode(best)]


paths = st.lists(st.sampled_from([BLANK, BLANK, SPACE, A, B, C, D]), max_size=60)


@given(best=paths, where=st.lists(st.integers(0, 60), max_size=5))
def test_frames_may_come_in_any_portions(best: list[int], where: list[int]) -> None:
    """The decoder's own law of cutting: same words, same state, at every cut."""
    whole, expected = DECODER.advance(DECODER.start(), frames(best))
    state, words = DECODER.start(), list[DecodedWord]()
    edges = sorted({0, len(best), *(min(w, len(best)) for w in where)})
    for first, last in pairwise(edges):
        state, new = DECODER.advance(state, frames(best)[first:last])
        words += new
    assert tuple(words) == expected
    assert state == whole


@given(best=paths)
def test_the_letters_are_those_of_the_best_path(best: list[int]) -> None:
    """Repeats merge, blanks vanish (Graves 2006); words only divide what is left."""
    collapsed = [unit for unit, _ in groupby(best) if unit != BLANK]
    letters = "".join(UNITS[unit].removeprefix("▁") for unit in collapsed)
    assert "".join(word.text for word in decode(best)) == letters


@given(best=paths)
def test_words_are_in_order_and_never_empty(best: list[int]) -> None:
    """Times never run backwards, whatever the network says."""
    end = 0
    for word in decode(best):
        assert word.text
        assert end <= word.start < word.end <= len(best)
        assert 0 <= word.confidence <= 1
        end = word.end


@given(best=paths)
def test_a_saved_state_is_the_state(best: list[int]) -> None:
    """Through JSON and back, to the last bit of the sum of log-probabilities."""
    state, _ = DECODER.advance(DECODER.start(), frames(best, 0.3))
    assert DECODER.restore(json.loads(json.dumps(DECODER.dump(state)))) == state


def test_a_unit_with_the_mark_begins_a_word() -> None:
    """The time of a word is from its first unit's first frame to its last unit's last."""
    assert spans([BLANK, A, A, C, BLANK, B, D, D, BLANK]) == [("ac", 1, 4), ("bd", 5, 8)]


def test_the_same_unit_twice_needs_a_blank_between() -> None:
    """As CTC has it."""
    assert spans([C, C, BLANK, C]) == [("cc", 0, 4)]


def test_a_lone_mark_ends_a_word_and_makes_none() -> None:
    """Character models: the space belongs to no word's time, text or confidence."""
    assert spans([SPACE, C, D, SPACE, SPACE, BLANK, SPACE, D]) == [("cd", 1, 3), ("d", 7, 8)]
    state, committed = DECODER.advance(DECODER.start(), frames([C, SPACE]))
    assert [word.text for word in committed] == ["c"]
    assert DECODER.tentative(state) == ()


def test_a_pause_of_480_ms_ends_a_word() -> None:
    """After 12 frames without a unit a word is committed, and what comes later is another one."""
    assert spans([A, *[BLANK] * (GAP_FRAMES - 1), C]) == [("ac", 0, 13)]
    assert spans([A, *[BLANK] * GAP_FRAMES, C]) == [("a", 0, 1), ("c", 13, 14)]
    state, committed = DECODER.advance(DECODER.start(), frames([A, *[BLANK] * GAP_FRAMES]))
    assert [word.text for word in committed] == ["a"]
    assert DECODER.finish(state) == ()


def test_a_word_is_committed_when_the_next_begins() -> None:
    """Until then it is tentative."""
    state, committed = DECODER.advance(DECODER.start(), frames([A, C]))
    assert committed == ()
    assert [word.text for word in DECODER.tentative(state)] == ["ac"]
    _, committed = DECODER.advance(state, frames([B]))
    assert [word.text for word in committed] == ["ac"]


def test_an_endless_word_is_cut() -> None:
    """The state stays small even if a network never begins a word."""
    words = decode([C, D] * MAX_UNITS)
    assert [len(word.text) for word in words] == [MAX_UNITS, MAX_UNITS]


def test_silence_counts_frames_since_the_last_unit() -> None:
    """Endpoints rest on it."""
    state = DECODER.start()
    for best, expected in [(BLANK, 1), (A, 0), (A, 0), (BLANK, 1), (BLANK, 2), (SPACE, 0)]:
        state, _ = DECODER.advance(state, frames([best]))
        assert DECODER.silence(state) == expected


def test_confidence_is_the_geometric_mean_of_the_units() -> None:
    """Each unit counts once, with its probability where it begins."""
    rows = np.concatenate([frames([A, A], 0.9), frames([C], 0.4)])
    rows[1] = frames([A], 0.2)[0]  # goes on sounding, less sure: does not count
    state, _ = DECODER.advance(DECODER.start(), rows)
    (word,) = DECODER.finish(state)
    assert word.confidence == pytest.approx(math.sqrt(0.9 * 0.4))


def test_a_tie_goes_to_the_lowest_unit() -> None:
    """Any rule would do; there must be one."""
    state, words = DECODER.advance(DECODER.start(), np.zeros((3, 6), np.float32))
    assert (words, DECODER.finish(state)) == ((), ())


@pytest.mark.parametrize(
    "change",
    [
        {"frame": -1},
        {"previous": 6},
        {"previous": "a"},
        {"units": 0},
        {"text": ""},
        {"log_prob": 1},
        {"more": 1},
    ],
)
def test_a_state_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    """Restoring is where foreign data comes in."""
    state, _ = DECODER.advance(DECODER.start(), frames([A]))
    with pytest.raises(StateError):
        DECODER.restore(DECODER.dump(state) | change)
    assert DECODER.restore(DECODER.dump(GreedyState())) == DECODER.start()
