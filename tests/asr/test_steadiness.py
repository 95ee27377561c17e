"""What is shown stays until something else is clearly likelier; nothing else is moved by that."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import StateError
from asr.decoding import kernel
from asr.decoding import lexicon as lexicons
from asr.decoding.kernel import (
    ENTRY,
    HYPOTHESIS,
    WORD,
    CompiledEngine,
    Engine,
    PythonEngine,
    pack,
    unpack_words,
)
from asr.decoding.ngram import NGram
from asr.decoding.reference import FLOOR, ROOT, Entry, Hypothesis, history
from asr.decoding.settings import BeamSettings
from tests.asr.small_language import SPECIAL, SmallLanguage, frames, language, ngram_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asr.decoding import DecodedWord
    from asr.decoding.beam import BeamDecoder, BeamState

SEED = st.integers(0, 10**6)
MARGINS = st.sampled_from([0.3, 1.2, 4.0, 10.0])
STEADY = BeamSettings(beam=30, steadiness=1.2)
ENGINES = [
    PythonEngine,
    pytest.param(
        CompiledEngine,
        marks=pytest.mark.skipif(kernel.native is None, reason="the kernel was not compiled"),
    ),
]


@pytest.mark.parametrize("make_engine", ENGINES)
@pytest.mark.parametrize(
    ("shown", "behind", "expected"),
    [
        ([], 1000, [3, 5]),  # nothing was shown: the likeliest
        ([4, 6], 1000, [4, 6]),  # less than 1.2 nats behind: it stays
        ([4, 6], 1228, [4, 6]),
        ([4, 6], 1230, [3, 5]),  # more than that
        ([4], 1000, [4, 6]),  # what is new behind it comes at once
        ([4, 6, 7], 1000, [4, 6]),  # and what has gone, goes
        ([9, 6], 1000, [3, 5]),  # behind another word nothing stays
        ([4, 5], 1000, [4, 6]),  # nobody says the second word behind the first any more
    ],
)
def test_a_word_shown_stays_until_another_is_that_much_likelier(
    make_engine: type[Engine], shown: list[int], behind: int, expected: list[int]
) -> None:
    """Two readings that are nearly as likely would else take turns on the screen."""
    decoder = language(3, words=12).decoder(STEADY, make_engine)
    arena = [Entry(word, 0, 2, -1, 0, 0) for word in (3, 4)]
    arena += [Entry(5, 2, 4, 0, 0, 0), Entry(6, 2, 4, 1, 0, 0)]
    hypotheses = [
        Hypothesis(ROOT, lm, -total, FLOOR, entry, 0, 4, 0)
        for lm, (entry, total) in enumerate([(2, 0), (3, behind)])
    ]
    words = pack(WORD, ((word,) for word in shown))
    found = decoder.engine.foremost(pack(HYPOTHESIS, hypotheses), pack(ENTRY, arena), words)
    said = history(arena, hypotheses[found.hypothesis].history)
    assert [entry.word for entry in said] == expected


def alike() -> SmallLanguage:
    """Two words, each of one phone of its own."""
    units, words = ["<blank>", "A", "B"], [*SPECIAL, "a", "b"]
    model = ngram_bytes(np.random.default_rng(0), len(words), 1)
    tree = lexicons.build([("a", ["A"]), ("b", ["B"])], words, units)
    return SmallLanguage(units, words, [], tree, NGram(np.frombuffer(model, np.uint8), ""), model)


@pytest.mark.parametrize(("steadiness", "changes"), [(0.0, 9), (0.5, 9), (1.5, 0)])
def test_the_text_rests_while_two_words_take_turns(steadiness: float, changes: int) -> None:
    """In front by one nat, then behind by one: what is shown need not follow."""
    one_word = BeamSettings(lm_weight=0.0, word_bonus=-50.0, steadiness=steadiness)
    decoder = alike().decoder(one_word)
    rows = np.full((20, 3), -1.0, np.float32)
    rows[:, 0] = -20.0
    lead = np.repeat([0.5, *[-1.0, 1.0] * 4, -1.0], 2)  # two frames each: 1 in front, 1 behind, …
    rows[:, 1] += lead / 2
    rows[:, 2] -= lead / 2
    shown = [[w.text for w in decoder.tentative(state)] for state in run(decoder, rows)][1::2]
    assert shown[0] == ["a"]
    assert sum(one != two for one, two in pairwise(shown)) == changes


def run(decoder: BeamDecoder, rows: NDArray[np.float32]) -> list[BeamState]:
    """The state after each frame."""
    states = [decoder.start()]
    for n in range(len(rows)):
        states.append(decoder.advance(states[-1], rows[n : n + 1])[0])
    return states[1:]


@settings(max_examples=60)
@given(seed=SEED, margin=MARGINS, certainty=st.sampled_from([0.7, 1.0]))
def test_steadiness_moves_nothing_but_what_is_shown(
    seed: int, margin: float, certainty: float
) -> None:
    """Committed and last words are the search's, and so is whether there is an open word: ends."""
    spoken = language(seed, words=12, phones=3)
    rows = frames(seed, 100, 4)
    plain, steady = (
        spoken.decoder(BeamSettings(beam=30, certainty=certainty, steadiness=nats))
        for nats in (0.0, margin)
    )
    one, two = plain.start(), steady.start()
    for n in range(len(rows)):
        one, said = plain.advance(one, rows[n : n + 1])
        two, same = steady.advance(two, rows[n : n + 1])
        assert said == same
        assert two._replace(shown=b"") == one
        assert bool(plain.tentative(one)) == bool(steady.tentative(two))
        assert plain.finish(one) == steady.finish(two)


@settings(max_examples=60)
@given(seed=SEED, margin=MARGINS, data=st.data())
def test_what_is_shown_depends_on_frames_alone(
    seed: int, margin: float, data: st.DataObject
) -> None:
    """Laws 1 and 2: neither how frames are cut into calls nor saving in between changes a word."""
    decoder = language(seed, words=12, phones=3).decoder(BeamSettings(beam=30, steadiness=margin))
    rows = frames(seed, data.draw(st.integers(0, 130)), 4)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=8)))
    state = decoder.start()
    for begin, end in pairwise([0, *cuts, len(rows)]):
        state, _ = decoder.advance(state, rows[begin:end])
        state = decoder.restore(json.loads(json.dumps(decoder.dump(state))))
    whole, _ = decoder.advance(decoder.start(), rows)
    assert state == whole
    assert decoder.tentative(state) == decoder.tentative(whole)


@settings(max_examples=40)
@given(seed=SEED, margin=MARGINS)
def test_a_state_remembers_what_it_shows(seed: int, margin: float) -> None:
    """At every second frame, a block of the network, they are the same words; to look is free."""
    spoken = language(seed, words=12, phones=3)
    decoder = spoken.decoder(BeamSettings(beam=30, steadiness=margin))
    for state in run(decoder, frames(seed, 80, 4))[1::2]:
        told = [spoken.words[word] for word in unpack_words(state.shown)]
        assert told == [word.text for word in decoder.tentative(state)]


def test_without_the_setting_nothing_is_remembered() -> None:
    """Bundles from before it, their ids and their saved states stay what they were."""
    decoder = language(7, words=12, phones=3).decoder(BeamSettings(beam=30))
    state, _ = decoder.advance(decoder.start(), frames(7, 40, 4))
    assert decoder.tentative(state)
    assert state.shown == b""
    assert "shown" not in decoder.dump(state)
    assert "steadiness" not in BeamSettings().table()
    assert STEADY.table()["steadiness"] == 1.2


def speaking() -> tuple[BeamDecoder, BeamState]:
    """A decoder, and a state that shows some words."""
    decoder = language(7, words=12, phones=3).decoder(STEADY)
    state, _ = decoder.advance(decoder.start(), frames(7, 40, 4))
    assert len(state.shown) > 4
    return decoder, state


def test_a_state_without_what_was_shown_is_refused() -> None:
    """One from before the setting, and one from behind it, belong to other decoders."""
    decoder, state = speaking()
    values = decoder.dump(state)
    plain = language(7, words=12, phones=3).decoder(BeamSettings(beam=30))
    with pytest.raises(StateError, match="not one of beam search"):
        plain.restore(values)
    del values["shown"]
    assert plain.restore(values).hypotheses == state.hypotheses
    with pytest.raises(StateError, match="not one of beam search"):
        decoder.restore(values)


@pytest.mark.parametrize(
    "shown", [b"123", pack(WORD, [(-1,)]), pack(WORD, [(15,)]), pack(WORD, [(3,)] * 52)]
)
def test_words_that_cannot_be_shown_are_refused(shown: bytes) -> None:
    """No word of the language, or more of them than fit before the horizon."""
    decoder, state = speaking()
    assert decoder.restore(decoder.dump(state._replace(shown=pack(WORD, [(3,)] * 51))))
    with pytest.raises(StateError, match="saved decoder state"):
        decoder.restore(decoder.dump(state._replace(shown=shown)))


@given(words=st.lists(st.integers(0, 14), max_size=51))
def test_other_words_shown_do_no_harm(words: list[int]) -> None:
    """A state may come from a stranger: what it says was shown changes no word that counts."""
    decoder, state = speaking()
    changed: dict[str, Any] = {"shown": pack(WORD, ((word,) for word in words))}
    other = decoder.restore(decoder.dump(state._replace(**changed)))
    rows = frames(9, 60, 4)
    assert said(decoder, other, rows) == said(decoder, state, rows)


def said(
    decoder: BeamDecoder, state: BeamState, rows: NDArray[np.float32]
) -> tuple[tuple[DecodedWord, ...], tuple[DecodedWord, ...]]:
    """What is committed from a state on, and at the end."""
    state, words = decoder.advance(state, rows)
    assert math.isfinite(sum(word.confidence for word in decoder.tentative(state)))
    return words, decoder.finish(state)
