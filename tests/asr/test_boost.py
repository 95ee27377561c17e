"""Expected phrases are found more easily, and nothing else changes."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr import ConfigError
from asr.decoding import lexicon as lexicons
from asr.decoding.boost import Boost, automaton
from asr.decoding.kernel import PythonEngine
from asr.decoding.ngram import NGram
from asr.decoding.settings import BeamSettings
from asr.recognizer import RECENT
from tests.asr.small_language import SPECIAL, SmallLanguage, frames, language
from tests.asr.test_beam import said_clearly
from tests.tiny import recognizer, sound, words

if TYPE_CHECKING:
    from asr.decoding.beam import BeamDecoder, BeamState

SEED = st.integers(0, 10**6)
sentences = st.lists(st.integers(0, 5), max_size=12)
SEVEN = dict.fromkeys(range(100), 7)
some_phrases = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), max_size=6)


def paid(boost: Boost, sentence: list[int]) -> int:
    """What a sentence is paid in all, once it is over."""
    state, total = 0, 0
    for word in sentence:
        state, more = boost.step(state, word)
        total += more
    return total - int(boost.owed[state])


@given(phrases=some_phrases, sentence=sentences)
def test_only_whole_phrases_are_paid(phrases: list[list[int]], sentence: list[int]) -> None:
    """A beginning that breaks off must leave no reward behind, or unrelated text would suffer."""
    total = paid(automaton(phrases, SEVEN, 7), sentence)
    occurring = [  # also where one overlaps another, or itself
        len(phrase)
        for phrase in {tuple(phrase) for phrase in phrases}
        for n in range(len(sentence))
        if tuple(sentence[n : n + len(phrase)]) == phrase
    ]
    assert total % 7 == 0
    assert 0 <= total <= 7 * sum(occurring)


@given(phrase=st.lists(st.integers(0, 5), min_size=1, max_size=4), times=st.integers(1, 3))
def test_a_phrase_is_paid_for_each_of_its_words(phrase: list[int], times: int) -> None:
    """However often it is said, with other words around it."""
    boost = automaton([phrase], SEVEN, 7)
    sentence = [99, *([*phrase, 98] * times)]
    assert paid(boost, sentence) == 7 * len(phrase) * times


def test_frequent_words_are_paid_when_the_phrase_is_whole() -> None:
    """`the` begins much that is no phrase: paid at once it would push its rivals out."""
    boost = automaton([[1, 2, 3]], {1: 0, 2: 5, 3: 0}, 9)
    steps, state = [], 0
    for word in (1, 2, 3, 4):
        state, more = boost.step(state, word)
        steps.append(more)
    assert steps == [0, 5, 9, 0]


def test_phrases_that_begin_alike_or_lie_in_each_other() -> None:
    """A list of names has both."""
    boost = automaton([[1, 2], [1, 2, 3, 4], [2, 5]], dict.fromkeys(range(9), 10), 10)
    assert paid(boost, [1, 2]) == 20
    assert paid(boost, [1, 2, 3, 4]) == 40
    assert paid(boost, [1, 2, 3]) == 20
    assert paid(boost, [1, 2, 5]) == 40
    assert paid(boost, [1, 1, 2]) == 20


@settings(max_examples=40)
@given(seed=SEED, data=st.data())
def test_the_kernel_knows_phrases_as_the_reference_does(seed: int, data: st.DataObject) -> None:
    """To the bit, as everything."""
    spoken = language(seed, words=20, phones=4)
    known = st.sampled_from(spoken.words[len(SPECIAL) :])
    phrases = data.draw(st.lists(st.lists(known, min_size=1, max_size=3), min_size=1, max_size=5))
    texts = [" ".join(phrase) for phrase in phrases]
    chosen = BeamSettings(beam=data.draw(st.sampled_from([3, 40])))
    one = spoken.decoder(chosen).boosted(texts, 2.5)
    two = spoken.decoder(chosen, PythonEngine).boosted(texts, 2.5)
    rows = frames(seed, 80, 5)
    assert one.advance(one.start(), rows) == two.advance(two.start(), rows)
    state, _ = one.advance(one.start(), rows)
    assert one.restore(one.dump(state)) == state
    assert one.finish(state) == two.finish(state)


def doubtful() -> SmallLanguage:
    """Two words that sound alike; the language model prefers the first."""
    units = ["<blank>", "A", "B"]
    names = [*SPECIAL, "one", "won", "b"]
    said = [("one", ["A"]), ("won", ["A"]), ("b", ["B"])]
    spoken = language(1, words=3, phones=2)
    model = bytearray(spoken.model)
    scores = np.array([-9000] * 3 + [-1000, -3000, -1500] + [0] * 6, "<i4").tobytes()
    place = model.index(spoken.lm.unigram_prob.tobytes())
    model[place : place + 24] = scores[:24]
    place = model.index(spoken.lm.unigram_back_off.tobytes())
    model[place : place + 24] = bytes(24)
    lm = NGram(np.frombuffer(bytes(model), np.uint8), "doubtful")
    tree = lexicons.build(said, names, units)
    return SmallLanguage(units, names, said, tree, lm, bytes(model))


def text(decoder: BeamDecoder) -> str:
    """What is recognised where `A B` is said."""
    state, said = decoder.advance(decoder.start(), said_clearly([1, 2], 3))
    return " ".join(word.text for word in (*said, *decoder.finish(state)))


def test_an_expected_word_is_preferred_to_its_homophone() -> None:
    """What phrases are for."""
    decoder = doubtful().decoder(BeamSettings(lm_weight=0.5))
    plain = text(decoder)
    other = {"one b": "won b", "won b": "one b"}[plain]
    assert text(decoder.boosted([other], 8.0)) == other
    assert text(decoder.boosted([plain], 8.0)) == plain
    assert text(decoder) == plain


@settings(max_examples=30)
@given(seed=SEED)
def test_expecting_nothing_again_forgets_what_was_paid(seed: int) -> None:
    """Phrases can be changed while somebody speaks."""
    spoken = language(seed, words=8, phones=3, longest=2)
    decoder = spoken.decoder(BeamSettings(beam=3000, threshold=60.0))
    # Eight times the same word does not fit into twelve frames: no phrase is ever whole.
    expecting = decoder.boosted([" ".join([word] * 8) for word in spoken.words[3:]], 2.0)
    rows = frames(seed, 12, 4)
    plain, said = decoder.advance(decoder.start(), rows)
    state, _ = expecting.advance(expecting.adopt(decoder.start(), decoder), rows)
    back = decoder.adopt(state, expecting)
    assert decoder.restore(decoder.dump(back)) == back
    assert not said
    found = totals(decoder, back)
    for key, score in totals(decoder, plain).items():
        if score > -8 * 1024:
            assert found[key] == pytest.approx(score, abs=60)


def totals(decoder: BeamDecoder, state: BeamState) -> dict[tuple[int, int], int]:
    """Score of each hypothesis against the best, by node and state."""
    search = decoder.search(state)
    return {(h.node, h.lm): search.total(h) for h in search.hypotheses}


def test_a_stream_expects_phrases_and_other_ones_later() -> None:
    """Through the recogniser: given at the start, changed, written down, read back."""
    made = recognizer("plain", "beam")
    heard = sound(6.0, 4)
    plain = [word.text for word in made.transcribe(heard).words]
    phrases = ("w2", "w6")
    state = made.start(asr.Options(phrases=phrases))
    state, _ = made.step(state, heard[:40_000])
    restored = made.restore(state.dump())
    assert restored.options.phrases == phrases
    assert made.finish(restored)[1] == made.finish(state)[1]
    one, events = made.step(state, heard[40_000:])
    assert made.step(restored, heard[40_000:])[1] == events
    changed = made.expect(state, ())
    assert changed.codec is made.decoder
    assert made.restore(changed.dump()).dump() == changed.dump()
    changed, _ = made.step(made.expect(changed, phrases), heard[40_000:])
    made.finish(changed)
    said = [w.text for w in words([*events, *made.finish(one)[1]])]
    assert sum(word in phrases for word in said) >= sum(word in phrases for word in plain)


def test_streams_that_expect_the_same_share_what_that_takes() -> None:
    """Tables of a large lexicon are a megabyte; they go when others were wanted since."""
    made = recognizer("plain", "beam")
    options = asr.Options(phrases=("w1",))
    one, two = made.start(options), made.start(options)
    other = made.start(asr.Options(phrases=("w2",)))
    assert one.codec is two.codec is made.expect(made.start(), ["w1"]).codec
    assert other.codec is not one.codec
    kept = weakref.ref(one.codec)
    del one, two
    for word in range(1, 2 + RECENT):
        assert kept() is made.start(asr.Options(phrases=("w1",))).codec or word > 1
        made.start(asr.Options(phrases=(f"w{word} w{word}",)))
    assert kept() is None


def test_phrases_of_unknown_words_are_refused() -> None:
    """In silence they would never be recognised, and nobody would know why."""
    made = recognizer("plain", "beam")
    with pytest.raises(ConfigError, match="does not say how 'xylophone' sounds"):
        made.start(asr.Options(phrases=("w1 xylophone",)))
    with pytest.raises(ConfigError, match="does not say how '<s>' sounds"):
        made.expect(made.start(), ["<s>"])
    with pytest.raises(ConfigError, match="only a model with a language"):
        recognizer("plain", "numpy").start(asr.Options(phrases=("a",)))
    with pytest.raises(ConfigError, match="must be a tuple of texts"):
        asr.Options(phrases=["a"])  # type: ignore[arg-type]


def test_a_decoder_knows_which_phrases_it_can_expect() -> None:
    """Whoever has a list of names can leave out those that would be refused."""
    spoken = language(1, words=9)
    decoder = spoken.decoder(BeamSettings())
    known = [word for word in spoken.words if word not in SPECIAL]
    assert decoder.knows(" ".join(known))
    for word in (*SPECIAL, "", "w", "w10", "\uffff"):
        assert decoder.knows(f"{known[0]} {word}") == (not word)


def test_too_many_phrases_are_refused() -> None:
    """They would not fit beside the state of a large language model."""
    decoder = language(1, words=3).decoder(BeamSettings())
    tables = decoder.tables
    decoder.tables = tables._replace(parameters=tables.parameters._replace(lm_bits=30))
    with pytest.raises(ConfigError, match="2 words in all; at most 1"):
        decoder.boosted(["w0 w1"])
