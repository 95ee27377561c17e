"""Beam search: the sum over all alignments, words with times, a state that is a small value."""

from __future__ import annotations

import itertools
import json
import math
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import ConfigError, StateError
from asr.decoding import lexicon as lexicons
from asr.decoding.confidence import confidence, evidence
from asr.decoding.kernel import HYPOTHESIS, unpack_arena, unpack_hypotheses
from asr.decoding.reference import ONE, SCALE, Entry
from asr.decoding.settings import BeamSettings
from tests.asr.small_language import SmallLanguage, frames, language

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from asr.decoding import DecodedWord
    from asr.decoding.beam import BeamDecoder, BeamState

UNPRUNED: dict[str, Any] = {"beam": 5000, "threshold": 10_000.0}
SEED = st.integers(0, 10**6)


def readings(spoken: SmallLanguage, phones: tuple[int, ...]) -> Iterator[tuple[list[int], int]]:
    """All ways to read phones as complete words and then a node of the tree, not the root again."""
    tree = spoken.lexicon
    if not phones:
        yield [], 0
    node = 0
    for n, phone in enumerate(phones):
        children = range(tree.first_child[node], tree.first_child[node + 1])
        found = [child for child in children if tree.phone[child] == phone]
        if not found:
            return
        node = found[0]
        if n + 1 == len(phones):
            yield [], node
        else:
            for word in tree.words[tree.first_word[node] : tree.first_word[node + 1]].tolist():
                for words, last in readings(spoken, phones[n + 1 :]):
                    yield [word, *words], last


def enumerated(
    spoken: SmallLanguage, scores: NDArray[np.int64], lm_weight: int, bonus: int, look: list[int]
) -> dict[tuple[int, int], float]:
    """Score of every (node, state) summed over every alignment and every sequence of words."""
    T, V = scores.shape
    sums: dict[tuple[int, int], list[float]] = defaultdict(list)
    for path in itertools.product(range(V), repeat=T):
        acoustic = sum(int(scores[t, unit]) for t, unit in enumerate(path))
        phones = tuple(unit for unit, _ in itertools.groupby(path) if unit)
        for words, node in readings(spoken, phones):
            score, state = acoustic + look[node], spoken.lm.start
            for word in words:
                said, state = spoken.lm.score(state, word)
                score += ((said * lm_weight) >> 10) + bonus
            sums[node, state].append(score / SCALE)
    return {key: float(np.logaddexp.reduce(all_)) for key, all_ in sums.items()}


@settings(max_examples=60)
@given(seed=SEED, frame_count=st.integers(0, 5), lm_weight=st.sampled_from([0.0, 0.6, 1.0]))
def test_unpruned_scores_are_the_sum_over_every_alignment(
    seed: int, frame_count: int, lm_weight: float
) -> None:
    """This is what the search approximates; with room for everything it must be exactly that.

    Exactly: up to the adding table, which rounds each of the additions to 1/1024 nat.
    """
    spoken = language(seed, words=4, phones=2, longest=2, order=1 + seed % 3)
    chosen = BeamSettings(**UNPRUNED, lm_weight=lm_weight, word_bonus=0.5)
    decoder = spoken.decoder(chosen)
    rows = frames(seed, frame_count, 3)
    state, _ = decoder.advance(decoder.start(), rows)
    look = [int(score * round(lm_weight * SCALE)) >> 10 for score in decoder.ahead.score.tolist()]
    scores = np.rint(rows * SCALE).astype(np.int64)
    expected = enumerated(spoken, scores, round(lm_weight * SCALE), SCALE // 2, look)
    search = decoder.search(state)
    found = {(h.node, h.lm): (search.total(h) + state.score) / SCALE for h in search.hypotheses}
    assert found.keys() == expected.keys()
    for key, score in found.items():
        assert score == pytest.approx(expected[key], abs=0.5 * 6 * (frame_count + 1) / SCALE)


@settings(max_examples=60)
@given(seed=SEED, frame_count=st.integers(1, 4))
def test_the_result_of_an_unpruned_search_is_the_best_ending(seed: int, frame_count: int) -> None:
    """`finish` must find what the scores say, the last word's language model included."""
    spoken = language(seed, words=4, phones=2, longest=2)
    decoder = spoken.decoder(BeamSettings(**UNPRUNED))
    rows = frames(seed, frame_count, 3, 4.0)
    state, _ = decoder.advance(decoder.start(), rows)
    (score, words), *others = decoder.n_best(state, 50)
    look = decoder.ahead.score.tolist()
    sums = enumerated(spoken, np.rint(rows * SCALE).astype(np.int64), SCALE, 0, look)
    endings = []
    tree = spoken.lexicon
    for (node, lm), total in sums.items():
        complete = tree.words[tree.first_word[node] : tree.first_word[node + 1]].tolist()
        endings += [total] if node == 0 else []
        endings += [total + (spoken.lm.score(lm, w)[0] - look[node]) / SCALE for w in complete]
        endings += [] if node == 0 or complete else [total - look[node] / SCALE - 8]
    assert score == pytest.approx(max(endings), abs=0.5 * 6 * (frame_count + 1) / SCALE)
    assert [w.text for w in decoder.finish(state)] == [w.text for w in words]
    assert all(score >= other for other, _ in others)
    assert len({tuple(w.text for w in line) for _, line in others}) == len(others)


def said_clearly(units: list[int], count: int, each: int = 2) -> NDArray[np.float32]:
    """Frames that say these units, each for some frames with a blank behind it."""
    rows = []
    for unit in units:
        for best in [unit] * each + [0]:
            row = np.full(count, math.log(0.01 / (count - 1)), np.float32)
            row[best] = math.log(0.99)
            rows.append(row)
    return np.array(rows, np.float32).reshape(-1, count)


def silent(frames_: int, count: int) -> NDArray[np.float32]:
    """Frames in which certainly nothing is said."""
    rows = np.full((frames_, count), -80.0, np.float32)
    rows[:, 0] = 0.0
    return rows


def plain_language() -> SmallLanguage:
    """Three words that share no phone: what was said is beyond doubt."""
    spoken = language(4, words=3, phones=6, longest=2)
    units = spoken.units
    pronunciations = [
        ("w0", [units[1], units[2]]),
        ("w1", [units[3]]),
        ("w2", [units[4], units[4], units[5]]),
    ]
    tree = lexicons.build(pronunciations, spoken.words, units)
    return SmallLanguage(units, spoken.words, pronunciations, tree, spoken.lm, spoken.model)


def test_what_is_said_clearly_is_found_with_its_times() -> None:
    """The simplest case, with a doubled phone: P4 P4 needs the blank in between."""
    decoder = plain_language().decoder(BeamSettings())
    rows = said_clearly([1, 2, 3, 4, 4, 5], 7)
    state, said = decoder.advance(decoder.start(), rows)
    words = [*said, *decoder.finish(state)]
    assert [(w.text, w.start, w.end) for w in words] == [
        ("w0", 0, 5),
        ("w1", 6, 8),
        ("w2", 9, 17),
    ]
    assert all(0.8 < w.confidence <= 1 for w in words)


def test_a_pause_completes_the_word_and_silence_counts_its_frames() -> None:
    """Endpoints rest on it: after 12 frames of pause nothing is open any more."""
    decoder = plain_language().decoder(BeamSettings())
    state, said = decoder.advance(decoder.start(), said_clearly([1, 2], 7))
    assert said == ()
    assert [w.text for w in decoder.tentative(state)] == ["w0"]
    for pause in range(1, 12):  # one blank frame was behind the word already
        assert decoder.silence(state) == pause
        assert decoder.tentative(state)
        state, said = decoder.advance(state, silent(1, 7))
    assert [w.text for w in said] == ["w0"]
    assert decoder.tentative(state) == decoder.finish(state) == ()
    assert decoder.silence(state) == 12
    state, _ = decoder.advance(state, silent(1, 7))  # the twelfth that is certain
    assert len(unpack_hypotheses(state.hypotheses)) == 1


def test_half_a_word_is_no_word() -> None:
    """A sound that begins like a word and stops, such as a cough, is dropped in the pause."""
    decoder = plain_language().decoder(BeamSettings(threshold=3.0))
    state, said = decoder.advance(decoder.start(), said_clearly([1], 7))
    assert [w.text for w in decoder.tentative(state)] == ["w0"]  # only one word begins so
    assert decoder.finish(state) == ()
    state, said = decoder.advance(state, silent(20, 7))
    assert said == decoder.tentative(state) == ()


def test_priors_and_bonuses_are_added_where_they_belong() -> None:
    """Weights that did nothing, or twice, would be tuned in vain."""
    spoken = plain_language()
    priors = tuple(float(p) for p in np.log([0.4, *[0.1] * 6]))
    rows = frames(3, 7, 7)
    chosen = BeamSettings(**UNPRUNED, blank_bonus=-0.5, prior_weight=0.5, priors=priors)
    changed = rows - 0.5 * np.array(priors, np.float32)
    changed[:, 0] -= 0.5
    one, two = spoken.decoder(chosen), spoken.decoder(BeamSettings(**UNPRUNED))
    first = one.n_best(one.advance(one.start(), rows)[0], 3)
    second = two.n_best(two.advance(two.start(), changed)[0], 3)
    for (score, words), (other, same) in zip(first, second, strict=True):
        assert [w.text for w in words] == [w.text for w in same]
        assert score == pytest.approx(other, abs=0.05)


def run(decoder: BeamDecoder, rows: NDArray[np.float32]) -> Iterator[tuple[BeamState, Any]]:
    """State and words after each frame."""
    state = decoder.start()
    for n in range(len(rows)):
        state, said = decoder.advance(state, rows[n : n + 1])
        yield state, said


@settings(max_examples=40)
@given(seed=SEED, horizon=st.sampled_from([13, 20, 50]))
def test_no_word_waits_longer_than_the_horizon(seed: int, horizon: int) -> None:
    """Latency and memory are bounded whatever a network says."""
    spoken = language(seed, words=12, phones=3)
    decoder = spoken.decoder(BeamSettings(beam=30, horizon=horizon))
    for state, _ in run(decoder, frames(seed, 150, 4)):
        entries = unpack_arena(state.arena)
        assert all(entry.end > state.frame - horizon for entry in entries)
        assert len(entries) <= 30 * horizon


@settings(max_examples=40)
@given(seed=SEED)
def test_words_lie_in_order_within_the_frames(seed: int) -> None:
    """Committed and tentative words make one line of time."""
    spoken = language(seed, words=12, phones=3)
    decoder = spoken.decoder(BeamSettings(beam=30))
    committed: list[DecodedWord] = []
    for state, said in run(decoder, frames(seed, 100, 4)):
        committed += said
        for rest in (decoder.tentative(state), decoder.finish(state)):
            line = [*committed, *rest]
            assert all(one.end <= two.start for one, two in pairwise(line))
            assert all(w.start < w.end and 0 <= w.confidence <= 1 for w in line)


@settings(max_examples=40)
@given(seed=SEED, pause=st.integers(12, 15), more=st.integers(1, 100))
def test_a_longer_silence_changes_nothing_but_times(seed: int, pause: int, more: int) -> None:
    """Law 11 at its root: after 12 certain blanks there is one hypothesis, and it rests."""
    spoken = language(seed, words=12, phones=3)
    decoder = spoken.decoder(BeamSettings(beam=30))
    before, after = frames(seed, 40, 4), frames(seed + 1, 40, 4)
    short, _ = decoder.advance(decoder.start(), np.concatenate([before, silent(pause, 4)]))
    long, said = decoder.advance(short, silent(more, 4))
    assert said == ()
    assert len(long.hypotheses) == HYPOTHESIS.size
    one, words = decoder.advance(short, after)
    two, moved = decoder.advance(long, after)
    assert [(w.text, w.start + more, w.end + more, w.confidence) for w in words] == [
        (w.text, w.start, w.end, w.confidence) for w in moved
    ]
    assert len(one.hypotheses) == len(two.hypotheses)


def test_ten_hours_leave_no_more_behind_than_a_minute() -> None:
    """Law 7: 900,000 frames; the state's size is bounded, and so are its numbers."""
    spoken = language(8, words=20, phones=4)
    decoder = spoken.decoder(BeamSettings(beam=6))
    rows = frames(1, 6400, 5)
    state, sizes, said = decoder.start(), [], 0
    for _ in range(141):
        for first in range(0, len(rows), 640):
            state, words = decoder.advance(state, rows[first : first + 640])
            said += len(words)
            sizes.append(len(json.dumps(decoder.dump(state))))
    assert state.frame == 902_400
    assert said > 10_000
    assert max(sizes[700:]) <= max(sizes[:100]) + 10  # digits of counters
    assert max(sizes) < 3000


@settings(max_examples=30)
@given(seed=SEED, length=st.integers(0, 60))
def test_a_state_survives_json(seed: int, length: int) -> None:
    """Law 2: what was written down goes on as if nothing had been."""
    spoken = language(seed, words=12, phones=3)
    decoder = spoken.decoder(BeamSettings(beam=30))
    state, _ = decoder.advance(decoder.start(), frames(seed, length, 4))
    assert decoder.restore(json.loads(json.dumps(decoder.dump(state)))) == state


@settings(max_examples=300)
@given(data=st.data())
def test_a_changed_state_is_refused_or_harmless(data: st.DataObject) -> None:
    """A state may come from a stranger; the kernel must not follow it out of its tables."""
    spoken = language(7, words=12, phones=3)
    decoder = spoken.decoder(BeamSettings(beam=30))
    state, _ = decoder.advance(decoder.start(), frames(7, 40, 4))
    name = data.draw(st.sampled_from(["hypotheses", "arena"]))
    packed = bytearray(getattr(state, name))
    place = data.draw(st.integers(0, len(packed) // 4 - 1)) * 4
    value = data.draw(st.one_of(st.integers(-5, 100), st.integers(-(2**31), 2**31 - 1)))
    packed[place : place + 4] = value.to_bytes(4, "little", signed=True)
    other: dict[str, Any] = {name: bytes(packed)}
    changed = decoder.dump(state._replace(**other))
    try:
        restored = decoder.restore(changed)
    except StateError:
        return
    restored, _ = decoder.advance(restored, frames(9, 60, 4))
    decoder.finish(restored)
    decoder.tentative(restored)


@pytest.mark.parametrize(
    "change",
    [
        {"frame": -1},
        {"frame": 2**40},
        {"frame": 1.5},
        {"end": 50},
        {"hypotheses": ""},
        {"hypotheses": "AAAA"},
        {"hypotheses": "#"},
        {"hypotheses": 7},
        {"arena": None},
        {"score": True},
        {"more": 1},
    ],
)
def test_other_values_are_no_state(change: dict[str, Any]) -> None:
    """One line instead of a wrong result or a crash."""
    decoder = plain_language().decoder(BeamSettings())
    with pytest.raises(StateError, match="saved decoder state"):
        decoder.restore({**decoder.dump(decoder.start()), **change})


@pytest.mark.parametrize(
    "wrong",
    [
        {"beam": 0},
        {"beam": 10.5},
        {"beam": True},
        {"gap": 13},
        {"horizon": 12},
        {"threshold": -1},
        {"threshold": float("nan")},
        {"lm_weight": "1"},
        {"steadiness": -1},
        {"steadiness": 10.5},
        {"priors": (1.0,)},
        {"calibration": (1.0,)},
        {"calibration": (float("inf"),) * 6},
        {"calibration_tentative": (0.0,) * 5},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    """They would be found out by worse words only."""
    with pytest.raises(ConfigError, match=rf"decoding\.{next(iter(wrong))}"):
        BeamSettings(**wrong)


def test_confidence_is_what_the_calibration_makes_of_the_evidence() -> None:
    """A probability: higher where more agreed, and where the sounds fitted better."""
    good, bad = Entry(3, 0, 5, -1, -100, -50), Entry(3, 0, 5, -1, -9000, -50)
    weights = (0.5, 1.0, 0.0, 0.0, 0.2, 0.0)
    for given_weights in ((), weights):
        surest = confidence(good, ONE, given_weights)
        assert 1 >= surest > confidence(good, ONE // 2, given_weights) > 0
        assert surest > confidence(bad, ONE, given_weights) > 0
    known = evidence(good, ONE // 2)
    assert known == (1.0, -50 / SCALE / 5, -50 / SCALE, -50 / SCALE, 0.0, 5.0)
    expected = 1 / (1 + math.exp(-0.5 + 50 / SCALE / 5))
    assert confidence(good, ONE // 2, weights) == pytest.approx(expected)
    assert confidence(bad, 0, (0.0, 1e9, 0.0, 0.0, 0.0, 0.0)) == pytest.approx(0)


def test_priors_must_be_those_of_the_units() -> None:
    """A prior of another unit would be taken silently."""
    with pytest.raises(ConfigError, match="2 numbers for 7 units"):
        plain_language().decoder(BeamSettings(prior_weight=0.5, priors=(-1.0, -1.0)))
