"""Emission latency is counted from the word's true end to the first and last time it appeared."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.emission import Emission, Flicker, emissions, flicker
from asr.errors import DataError
from asr.measure import stream
from asr.metrics import Call
from asr.transcript import Event, Final, Partial, Word
from tests import tiny


def partial(stable: str, tentative: str = "", segment: int = 0) -> Partial:
    """What is shown; its position plays no part."""
    return Partial(segment, stable, tentative, 0)


def final(text: str, position: int = 0, segment: int = 0) -> Final:
    """A closed segment."""
    words = tuple(Word(word, k, k + 1, 1.0) for k, word in enumerate(text.split()))
    return Final(segment, words, "finish", position)


def call(position: int, *events: Event) -> Call:
    """A chunk fed up to a position, and what followed."""
    return Call(position, 0.0, events)


def timed(text: str, *ends: int) -> tuple[tuple[str, int, int], ...]:
    """Words with their true ends."""
    return tuple((word, end - 1, end) for word, end in zip(text.split(), ends, strict=True))


def test_a_word_counts_from_when_it_stands_for_good() -> None:
    """Shown at 2,000 and never changed; stable at 5,000; the other comes with the end."""
    calls = [
        call(1000),
        call(2000, partial("", "the")),
        call(3000),
        call(5000, partial("the", "cat")),
        call(6000, final("the cat")),
    ]
    assert emissions(calls, timed("the cat", 1600, 4200), "The cat!") == (
        Emission("the", 1600, 2000, 2000, 5000),
        Emission("cat", 4200, 5000, 5000, 6000),
    )
    first = emissions(calls, timed("the cat", 1600, 4200), "the cat")[0]
    assert (first.first_ms, first.shown_ms, first.stable_ms) == (25, 25, 212.5)


def test_a_word_taken_back_and_shown_again_counts_from_the_last_time() -> None:
    """Flicker is no speed: what disappears once more could not be relied on. But it was there."""
    calls = [
        call(1000, partial("", "cat")),
        call(2000, partial("", "cap")),
        call(3000, partial("", "cat")),
        call(3500, partial("", "")),
        call(4000, partial("", "cat sat")),
        call(5000, final("cat sat")),
    ]
    words = timed("cat sat", 900, 3900)
    assert [e.shown for e in emissions(calls, words, "cat sat")] == [4000, 4000]
    assert [e.first for e in emissions(calls, words, "cat sat")] == [1000, 4000]


def test_what_was_gone_before_a_word_began_was_no_emission_of_it() -> None:
    """`the` for the first syllable of `there` is not the `the` that is said a second later."""
    calls = [
        call(1000, partial("", "a the")),
        call(2000, partial("", "a there")),
        call(5000, partial("", "a the")),
        call(6000, partial("", "a")),
        call(7000, final("a the")),
    ]
    for start, first in ((500, 1000), (1999, 1000), (2000, 5000), (5999, 5000), (6000, 7000)):
        words = (("a", 0, 10), ("the", start, start + 100))
        assert [e.first for e in emissions(calls, words, "a the")] == [1000, first]


def test_a_word_at_another_place_is_another_word() -> None:
    """`the cat` → `the old cat`: the cat moved, so it had not been at its place before."""
    calls = [
        call(1000, partial("", "the cat")),
        call(2000, partial("", "the old cat")),
        call(3000, final("the old cat")),
    ]
    words = timed("the old cat", 100, 200, 300)
    assert [e.shown for e in emissions(calls, words, "the old cat")] == [1000, 2000, 2000]


def test_a_change_behind_a_word_leaves_it_standing() -> None:
    """Only its own place counts."""
    calls = [
        call(1000, partial("", "a b c")),
        call(2000, partial("a", "x c")),
        call(3000, final("a x c")),
    ]
    words = timed("a x c", 10, 20, 30)
    assert [e.shown for e in emissions(calls, words, "a x c")] == [1000, 2000, 1000]
    assert [e.stable for e in emissions(calls, words, "a x c")] == [2000, 3000, 3000]


def test_only_words_that_are_hits_have_a_latency() -> None:
    """By the alignment of the error rate: a wrong word never came, an invented one never ended."""
    calls = [call(1000, partial("", "uh the hat")), call(9000, final("uh the hat sat"))]
    found = emissions(calls, timed("the cat sat", 700, 2000, 3000), "the cat sat")
    assert found == (
        Emission("the", 700, 1000, 1000, 9000),
        Emission("sat", 3000, 9000, 9000, 9000),
    )


def test_segments_follow_each_other_on_the_screen() -> None:
    """A word keeps its place when the ones before it are closed: the block's partial brings it."""
    calls = [
        call(1000, partial("a b", "c")),
        call(2000, final("a b", 1900), Partial(1, "", "c", 1900)),
        call(3000, partial("", "c d", 1)),
        call(4000, final("c", 3900, 1), final("d", 3900, 2)),
    ]
    found = emissions(calls, timed("a b c d", 1, 2, 3, 4), "a b c d")
    assert [e.shown for e in found] == [1000, 1000, 1000, 3000]
    assert [e.stable for e in found] == [1000, 1000, 4000, 4000]


def test_a_word_that_is_scored_as_several_tells_the_end_of_the_last() -> None:
    """Where `well` ends inside `well-known` nobody said; a dash is no word."""
    calls = [call(1000, partial("", "well known")), call(2000, final("well known man"))]
    words = (("Well-known", 0, 800), ("--", 800, 900), ("man", 900, 1200))
    found = emissions(calls, words, "Well-known -- man")
    assert [(e.word, e.end) for e in found] == [("known", 800), ("man", 1200)]


def test_times_of_another_text_are_refused() -> None:
    """A manifest whose text was corrected after the alignment would give false latencies."""
    with pytest.raises(DataError, match="'the hat'"):
        emissions([call(1, final("the cat"))], timed("the hat", 1, 2), "the cat")


def test_nothing_recognised_is_no_latency() -> None:
    """Not zero."""
    assert emissions([call(100), call(100)], timed("the cat", 1, 2), "the cat") == ()
    assert flicker([call(100), call(100)]) == Flicker(0, 0, 0)


@pytest.mark.parametrize(
    ("shown", "taken_back", "returned"),
    [
        (["a", "a b", "a b c"], 0, 0),  # growing is no flicker
        (["a", "", "a"], 1, 1),  # taken away
        (["cat", "cap", "cat"], 2, 1),  # replaced, each time
        (["cat", "cap", "cat", "cap", "cat"], 4, 1),
        (["a b c", "x b c"], 1, 0),  # the others stay at their places
        (["b c", "a b c"], 2, 0),  # moved
        (["car", "carpet"], 1, 0),  # its beginning was another word
        (["a b", "a"], 1, 0),  # by the final, too
        (["Don't", "don\u2019t!"], 0, 0),  # nothing else than what is scored
    ],
)
def test_each_word_that_is_gone_from_its_place_was_taken_back(
    shown: list[str], taken_back: int, returned: int
) -> None:
    """From one text to the next; the last one is the final."""
    *partials, last = shown
    calls = [*(call(n, partial("", text)) for n, text in enumerate(partials)), call(9, final(last))]
    assert flicker(calls) == Flicker(taken_back, returned, len(last.split()))


def test_closing_a_segment_takes_nothing_back() -> None:
    """What stood behind it keeps its place on the screen, and may be taken back there."""
    calls = [
        call(1, partial("a b", "c")),
        call(2, final("a b", 19), Partial(1, "", "c", 19)),
        call(3, partial("", "d", 1), partial("", "c e", 1)),
        call(4, final("c e", 39, 1)),
    ]
    assert flicker(calls) == Flicker(2, 1, 4)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[tuple[int, Event]], int]:
    """Events of blocks of one segment with the block's end in samples; whole length."""
    shown_words = st.lists(st.sampled_from("abc"), max_size=4)
    texts = draw(st.lists(shown_words, min_size=1, max_size=12))
    timeline: list[tuple[int, Event]] = []
    stable: list[str] = []
    advances = draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    for number, words in enumerate(texts, 1):
        shown = [*stable, *words]
        timeline.append((1280 * number, partial(" ".join(stable), " ".join(words))))
        if words and advances[number - 1]:
            stable = shown[: len(stable) + 1]
    end = 1280 * len(texts) + 500
    words = [*stable, *texts[-1]]
    return [*timeline, *([(end, final(" ".join(words), end))] if words else [])], end


def cut(timeline: list[tuple[int, Event]], end: int, chunk: int) -> list[Call]:
    """The calls of a client that sends chunks of that length; `finish` is the last one."""
    edges = [*range(chunk, end, chunk), end]
    calls = []
    for before, edge in itertools.pairwise([0, *edges]):
        calls.append(call(edge, *(e for at, e in timeline if before < at <= edge and at < end)))
    return [*calls, call(end, *(event for at, event in timeline if at == end))]


@given(streams(), st.integers(1, 4000), st.integers(2, 5))
def test_smaller_chunks_make_no_word_later(
    spoken: tuple[list[tuple[int, Event]], int], chunk: int, factor: int
) -> None:
    """And larger ones by less than one of them: the rest of the latency is the recogniser's own."""
    timeline, end = spoken
    text = timeline[-1][1].text if isinstance(timeline[-1][1], Final) else ""
    words = timed(text, *range(1, len(text.split()) + 1))
    small = emissions(cut(timeline, end, chunk), words, text)
    large = emissions(cut(timeline, end, chunk * factor), words, text)
    assert len(small) == len(large) == len(words)
    for a, b in zip(small, large, strict=True):
        assert 0 <= b.shown - a.shown < chunk * factor
        assert 0 <= b.stable - a.stable < chunk * factor
        assert a.first <= a.shown <= a.stable <= end


@given(streams(), st.integers(1, 4000))
def test_flicker_is_counted_in_texts_and_not_in_calls(
    spoken: tuple[list[tuple[int, Event]], int], chunk: int
) -> None:
    """However the audio is cut, the same texts are shown; said the long way round."""
    timeline, end = spoken
    texts = [event.text.split() for _, event in timeline]
    gone = [
        (place, word)
        for old, new in itertools.pairwise(texts)
        for place, word in enumerate(old)
        if new[place : place + 1] != [word]
    ]
    said = texts[-1] if isinstance(timeline[-1][1], Final) else []
    returned = sum(one in gone for one in enumerate(said))
    assert flicker(cut(timeline, end, chunk)) == Flicker(len(gone), returned, len(said))


@given(streams(), st.integers(1, 4000))
def test_each_word_stands_from_its_emission_on_and_not_before(
    spoken: tuple[list[tuple[int, Event]], int], chunk: int
) -> None:
    """The definition, said the long way round: over all texts that were ever shown."""
    timeline, end = spoken
    calls = cut(timeline, end, chunk)
    texts: list[tuple[int, list[str]]] = []
    for made in calls:
        for event in made.events:
            shown = event.text if isinstance(event, Final) else f"{event.stable} {event.tentative}"
            texts.append((made.position, shown.split()))
    text = " ".join(texts[-1][1])
    words = timed(text, *range(1, len(text.split()) + 1))
    for place, found in enumerate(emissions(calls, words, text)):
        there = [(at, shown[place : place + 1] == [found.word]) for at, shown in texts]
        since = len(there)
        while since and there[since - 1][1]:
            since -= 1
        assert found.shown == there[since][0]
        assert found.first == next(at for at, stands in there if stands)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 100))
def test_a_real_stream_never_emits_before_it_has_heard(seed: int) -> None:
    """Every word comes after it began and before the end, and first in chunks of one block."""
    recognizer = tiny.recognizer("gru", "int8")
    samples = tiny.sound(4, seed)
    said = tiny.words(tiny.listen(recognizer, samples))
    if not said:
        return
    words = tuple((word.text, word.start, word.end) for word in said)
    text = " ".join(word.text for word in said)
    found = {
        chunk: emissions(stream(recognizer, samples, _lengths(len(samples), chunk)), words, text)
        for chunk in (1280, 5120, len(samples))
    }
    for chunk, emitted in found.items():
        assert len(emitted) == len(said)
        for best, one, word in zip(found[1280], emitted, said, strict=True):
            assert word.start < one.first <= one.shown
            assert word.start < best.shown <= one.shown <= one.stable <= len(samples)
            assert one.shown - best.shown < chunk


def _lengths(samples: int, chunk: int) -> list[int]:
    return [len(part) for part in np.split(np.zeros(samples), range(chunk, samples, chunk))]


def test_a_hundred_words_and_more_keep_their_places() -> None:
    """A segment is cut behind its 100th word while the next ones stand on the screen."""
    text = " ".join(["a"] * 150)
    early, late = text[:199], text[200:]
    calls = [
        call(1000, partial("", text)),
        call(2000, final(early, 1900), Partial(1, "", late, 1900)),
        call(3000, final(late, 2500, 1)),
    ]
    found = emissions(calls, timed(text, *range(1, 151)), text)
    assert {emission.shown for emission in found} == {1000}
