"""Alternatives of finals: what else may have been said, as far as the search knows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr.progress import joined
from asr.transcript import Alternative, Event, Final, Word
from tests.tiny import listen, recognizer, sound

MADE = recognizer("plain", "beam")


def heard(seed: int, n_best: int, endpoint_ms: int = 800) -> list[Final]:
    """The finals of a sound."""
    options = asr.Options(endpoint_ms, partials=False, n_best=n_best)
    return finals(listen(MADE, sound(6, seed), options))


def finals(events: list[Event]) -> list[Final]:
    """The closed segments."""
    return [event for event in events if isinstance(event, Final)]


@settings(max_examples=6)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_alternatives_are_other_readings_best_first(seed: int, n: int) -> None:
    """At most n with the segment's own; asking for them changes nothing else."""
    plain, rich = heard(seed, 1), heard(seed, n)
    assert [(f.words, f.reason, f.position) for f in rich] == [
        (f.words, f.reason, f.position) for f in plain
    ]
    for final in rich:
        texts = [final.text, *(a.text for a in final.alternatives)]
        assert len(set(texts)) == len(texts) <= n
        scores = [0.0, *(a.score for a in final.alternatives)]
        assert scores == sorted(scores, reverse=True)
        for words in (a.words for a in final.alternatives):
            assert all(a.end <= b.start for a, b in pairwise(words))
            assert all(0 <= w.start < w.end <= final.position for w in words)
            assert all(0 <= w.confidence <= 1 for w in words)
    assert all(not f.alternatives for f in plain)


def test_there_are_alternatives_in_doubt() -> None:
    """Random networks are in doubt all the time."""
    assert sum(len(final.alternatives) for seed in range(4) for final in heard(seed, 4)) > 5


@settings(max_examples=6)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 96_000), max_size=4))
def test_how_audio_comes_and_is_saved_changes_no_alternative(seed: int, cuts: list[int]) -> None:
    """The law of chunking and that of continuation, for readings too."""
    samples = sound(6, seed)
    state, events = MADE.start(asr.Options(partials=False, n_best=3)), []
    for first, end in pairwise([0, *sorted(cuts), len(samples)]):
        state, more = MADE.step(MADE.restore(state.dump()), samples[first:end])
        events += more
    events += MADE.finish(state)[1]
    assert finals(events) == heard(seed, 3)


@settings(max_examples=6)
@given(st.integers(0, 10**6))
def test_a_segment_alone_and_one_of_two_have_the_same_readings(seed: int) -> None:
    """Endpoints are neutral: a reading of a long segment is made of those of its parts."""
    (entire, *_), parts = heard(seed, 10, 60_000), heard(seed, 10, 480)
    made: tuple[Alternative, ...] = ()
    for part in parts:
        made = joined(made, (Alternative(part.words, 0.0), *part.alternatives), 10)
    assert entire.text == " ".join(part.text for part in parts)
    best = {a.text: a.score for a in entire.alternatives[:1]}
    assert best == pytest.approx({a.text: a.score for a in made[1:2]})


words = st.lists(st.sampled_from("ab"), max_size=2).map(
    lambda texts: tuple(Word(text, 0, 1, 0.5) for text in texts)
)
readings = st.lists(
    st.builds(Alternative, words, st.integers(-9, 0).map(float)), min_size=1, max_size=4
).map(lambda some: tuple(sorted(some, key=lambda a: -a.score)))


@given(readings, readings, st.integers(1, 5))
def test_joined_readings_are_the_best_pairs(
    before: tuple[Alternative, ...], more: tuple[Alternative, ...], n: int
) -> None:
    """All pairs, those of the same words but once, with their sums."""
    best: dict[str, float] = {}
    for a in before:
        for b in more:
            text = " ".join(w.text for w in (*a.words, *b.words))
            best[text] = max(best.get(text, -99), a.score + b.score)
    found = joined(before, more, n)
    assert [best[a.text] for a in found] == [a.score for a in found]
    assert [a.score for a in found] == sorted(best.values(), reverse=True)[:n]
    assert found[0].words == (*before[0].words, *more[0].words)


@pytest.mark.parametrize("n_best", [0, 11, True, 2.0])
def test_a_number_that_makes_no_sense_is_refused(n_best: object) -> None:
    """More than ten nobody reads, and each costs."""
    with pytest.raises(asr.ConfigError, match="n_best"):
        asr.Options(n_best=n_best)  # type: ignore[arg-type]


def test_a_model_without_a_language_has_no_other_readings() -> None:
    """It spells what it hears; in silence nobody would know why there are none."""
    with pytest.raises(asr.ConfigError, match=r"n_best: only a model with a language .*--decoder"):
        recognizer("plain", "numpy").start(asr.Options(n_best=2))


def test_times_at_another_rate_are_mapped_in_alternatives_too() -> None:
    """No reading tells of 16 kHz to a file of 8."""
    from asr.live import transcribe

    samples = sound(3, 2)
    options = asr.Options(partials=False, n_best=4)
    slow, _ = transcribe(MADE, [samples[: len(samples) // 2]], 8000, options)
    for final in slow.segments:
        for other in final.alternatives:
            assert all(word.end <= len(samples) // 2 for word in other.words)
    same = transcribe(MADE, [samples], 16_000, options)[0].segments
    assert same == tuple(finals(listen(MADE, samples, options)))
    assert np.isfinite([a.score for f in same for a in f.alternatives]).all()
