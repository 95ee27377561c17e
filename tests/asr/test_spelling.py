"""Words that the lexicon lacks are spelled: by the same laws as all others, or not at all."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import BundleError, ConfigError, StateError
from asr.decoding import lexicon as lexicons
from asr.decoding.beam import LONGEST
from asr.decoding.language import Language
from asr.decoding.lexicon import phone_bigrams
from asr.decoding.ngram import END, NGram
from asr.decoding.settings import BeamSettings
from asr.decoding.spelling import MODEL, PAIRS, Speller, heard, read_speller, tolls
from tests.asr.small_language import SPECIAL, SmallLanguage, frames, language, ngram_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from asr.decoding import DecodedWord
    from asr.decoding.beam import BeamDecoder, BeamState

UNITS = ["<blank>", "P0", "P1", "P2", "P3"]
SPELLS = BeamSettings(spelling=0.0, beam=60)
SEED = st.integers(0, 10**6)


def clear(units: list[int], width: int = 4) -> NDArray[np.float32]:
    """Frames of units that nobody doubts, some for each."""
    rows = np.full((len(units) * width, len(UNITS)), -12.0, np.float32)
    rows[np.arange(len(rows)), np.repeat(units, width)] = 0.0
    return rows


def small() -> SmallLanguage:
    """Two words, P0 P0 and P1, so that nothing else can be written."""
    said = [("aa", ["P0", "P0"]), ("b", ["P1"])]
    words = [*SPECIAL, "aa", "b"]
    model = ngram_bytes(np.random.default_rng(0), len(words), 1)
    tree = lexicons.build(said, words, UNITS)
    return SmallLanguage(UNITS, words, said, tree, NGram(np.frombuffer(model, np.uint8), ""), model)


def decode(
    decoder: BeamDecoder, rows: NDArray[np.float32], cuts: list[int], *, saved: bool = False
) -> tuple[BeamState, list[DecodedWord]]:
    """Take in rows in pieces that end at these places, saving and restoring at each if asked."""
    state = decoder.start()
    said: list[DecodedWord] = []
    for begin, end in pairwise([0, *cuts, len(rows)]):
        state, words = decoder.advance(state, rows[begin:end])
        said += words
        if saved:
            state = decoder.restore(json.loads(json.dumps(decoder.dump(state))))
    return state, said


def test_a_word_that_the_lexicon_lacks_is_spelled() -> None:
    """A name that nobody foresaw is written by its sound; without spelling it never could be."""
    rows = clear([0, 3, 4, 3, *[0] * 6])
    state, said = decode(small().decoder(SPELLS), rows, [])
    assert [word.text for word in said] == ["cdc"]
    assert (said[0].start, said[0].end) == (4, 16)
    assert said[0].confidence < 0.5
    plain = small().decoder(BeamSettings(beam=60))
    state, said = decode(plain, rows, [])
    assert not [word.text for word in (*said, *plain.finish(state)) if "c" in word.text]


def test_a_known_word_is_not_spelled() -> None:
    """What the lexicon has is cheaper: to spell costs phones and what unknown words cost."""
    decoder = small().decoder(BeamSettings(spelling=3.0, beam=60))
    _, said = decode(decoder, clear([0, 2, *[0] * 6]), [])
    assert [word.text for word in said] == ["b"]


def test_a_word_is_shown_while_it_is_being_spelled() -> None:
    """Partials and finals are made by one rule."""
    decoder = small().decoder(SPELLS)
    state, _ = decode(decoder, clear([0, 3, 4]), [])
    shown = decoder.tentative(state)
    assert [word.text for word in shown] == ["cd"]
    assert [word.text for word in decoder.finish(state)] == ["cd"]
    assert [[word.text for word in words] for _, words in decoder.n_best(state, 1)] == [["cd"]]


@settings(max_examples=40, deadline=None)
@given(seed=SEED, data=st.data(), horizon=st.sampled_from([13, 30]))
def test_spelled_words_depend_on_frames_alone(seed: int, data: st.DataObject, horizon: int) -> None:
    """Neither how frames are cut into calls nor saving in between changes a letter."""
    decoder = language(seed, words=3).decoder(BeamSettings(spelling=-3.0, beam=40, horizon=horizon))
    rows = frames(seed, data.draw(st.integers(0, 200)), decoder.units, 4.0)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=8)))
    whole = decode(decoder, rows, [])
    assert decode(decoder, rows, cuts) == whole
    assert decode(decoder, rows, cuts, saved=True) == whole
    assert len(whole[0].sounds) <= LONGEST + horizon


def test_of_a_word_without_end_the_last_frames_are_spelled() -> None:
    """A state stays small whatever is said, and cuts still change nothing."""
    decoder = small().decoder(SPELLS)
    rows = clear([*[3, 4] * 30, *[0] * 20])
    whole = decode(decoder, rows, [])
    assert decode(decoder, rows, list(range(1, len(rows)))) == whole
    assert [word.text for word in whole[1]] == ["cd" * (LONGEST // 8)]


@settings(max_examples=20, deadline=None)
@given(seed=SEED)
def test_without_the_setting_nothing_is_spelled(seed: int) -> None:
    """A bundle that could spell is searched as before until it is told to."""
    spoken = language(seed, words=5)
    rows = frames(seed, 80, len(spoken.units))
    plain = spoken.decoder(BeamSettings(beam=30))
    state, said = decode(plain, rows, [])
    assert "sounds" not in plain.dump(state)
    assert state.sounds == b""
    assert plain.restore(plain.dump(state)) == state
    assert "<unk>" not in {word.text for word in (*said, *plain.finish(state))}
    assert "spelling" not in BeamSettings().table()
    assert BeamSettings(spelling=2).table()["spelling"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"sounds": "AAA="},
        {"sounds": ""},
        {"sounds": "é"},
        {"sounds": 3},
        {"sounds": "////////////"},
        {"more": 1},
    ],
)
def test_a_damaged_saved_state_is_refused(change: dict[str, Any]) -> None:
    """The frames that are to be spelled are checked like all else in a state."""
    decoder = small().decoder(SPELLS)
    values = decoder.dump(decode(decoder, clear([0, 3], 4)[:9], [])[0])
    assert decoder.restore(dict(values)).frame == 8
    with pytest.raises(StateError):
        decoder.restore({**values, **change})


def test_states_with_and_without_spelling_are_not_mixed_up() -> None:
    """A state without the frames cannot spell the word that it is in the middle of."""
    plain, spelling = small().decoder(BeamSettings()), small().decoder(SPELLS)
    with pytest.raises(StateError, match="not one of beam search"):
        spelling.restore(plain.dump(plain.start()))
    with pytest.raises(StateError, match="not one of beam search"):
        plain.restore(spelling.dump(spelling.start()))


def test_a_setting_without_a_model_is_refused() -> None:
    """Whoever asks for spelling learns that this bundle cannot."""
    spoken = small()
    from asr.decoding.beam import BeamDecoder

    with pytest.raises(ConfigError, match=r"decoding\.spelling"):
        BeamDecoder(Language(spoken.lexicon, spoken.lm, spoken.words), SPELLS, len(UNITS))
    with pytest.raises(ConfigError, match=r"decoding\.spelling is not a number"):
        BeamSettings(spelling="much")  # type: ignore[arg-type]


def written(folder: Path, pairs: list[str], order: int = 2) -> NGram:
    """A spelling model in a folder."""
    model = ngram_bytes(np.random.default_rng(2), len(pairs), order)
    (folder / MODEL).write_bytes(model)
    (folder / PAIRS).write_text("".join(f"{pair}\n" for pair in pairs))
    return NGram(np.frombuffer(model, np.uint8), "")


PAIRS_OF_THREE = [*SPECIAL, "P0=a", "P0=b", "P1=c", "P0.P1=x"]


def test_a_model_is_read_where_there_is_one(tmp_path: Path) -> None:
    """Older bundles have none, and that is no fault."""
    assert read_speller(tmp_path, UNITS) is None
    written(tmp_path, PAIRS_OF_THREE)
    found = read_speller(tmp_path, UNITS)
    assert found is not None
    assert found.spell(()) == ""
    assert found.spell((3,)) == "p2"  # no pair writes it


@given(phones=st.lists(st.sampled_from([1, 2]), max_size=5))
def test_the_likeliest_pairs_are_found(phones: list[int]) -> None:
    """As an enumeration of all ways to divide a word into pairs finds them."""
    model = ngram_bytes(np.random.default_rng(4), len(PAIRS_OF_THREE), 1)
    lm = NGram(np.frombuffer(model, np.uint8), "")
    known = {(1,): {3: "a", 4: "b"}, (2,): {5: "c"}, (1, 2): {6: "x"}}

    def ways(left: tuple[int, ...], state: int) -> list[tuple[int, str]]:
        if not left:
            return [(-lm.score(state, END)[0], "")]
        found = []
        for size in (1, 2):
            for pair, letters in known.get(left[:size], {}).items() if size <= len(left) else ():
                score, after = lm.score(state, pair)
                found += [(more - score, letters + t) for more, t in ways(left[size:], after)]
        return found

    every = ways(tuple(phones), lm.start)
    likeliest = {text for score, text in every if score == min(every)[0]}
    assert Speller(PAIRS_OF_THREE, lm, UNITS).spell(tuple(phones)) in likeliest


@pytest.mark.parametrize(
    "pairs", [["P9=a"], ["P0.P1.P2=a"], ["P0="], ["P0"], ["=a"], ["<blank>=a"]]
)
def test_what_is_no_pair_is_refused(tmp_path: Path, pairs: list[str]) -> None:
    """A model for other units would write nonsense."""
    written(tmp_path, [*SPECIAL, *pairs])
    with pytest.raises(BundleError, match="is no pair"):
        read_speller(tmp_path, UNITS)


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    """Half a model, a cut one, pairs that are not its own, and bytes that are no text."""
    written(tmp_path, PAIRS_OF_THREE)
    whole = (tmp_path / MODEL).read_bytes()
    (tmp_path / MODEL).write_bytes(whole[:-64])
    with pytest.raises(BundleError, match="damaged"):
        read_speller(tmp_path, UNITS)
    (tmp_path / MODEL).write_bytes(whole)
    (tmp_path / PAIRS).write_text("\n".join(PAIRS_OF_THREE[:-1]))
    with pytest.raises(BundleError, match="do not belong together"):
        read_speller(tmp_path, UNITS)
    (tmp_path / PAIRS).write_bytes(b"\xff")
    with pytest.raises(BundleError, match="UTF-8"):
        read_speller(tmp_path, UNITS)
    (tmp_path / PAIRS).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        read_speller(tmp_path, UNITS)


def test_frames_are_heard_as_phones() -> None:
    """Repeats merged, blanks dropped, a blank between equal ones kept apart."""
    assert heard(bytes([0, 3, 3, 0, 3, 1, 1, 2, 0])) == (3, 3, 1, 2)
    assert heard(b"") == ()


def test_phones_follow_each_other_as_in_the_lexicon() -> None:
    """`aa` is P0 P0 and `b` is P1; what never follows costs more, and nothing is a gain."""
    counts = phone_bigrams(small().lexicon, len(UNITS))
    assert {(a, b): int(counts[a, b]) for a, b in np.argwhere(counts).tolist()} == {
        (0, 1): 1,
        (0, 2): 1,
        (1, 1): 1,
        (1, 0): 1,
        (2, 0): 1,
    }
    toll = tolls(small().lexicon, len(UNITS), 1024)
    assert toll.max() <= 0
    assert min(toll[0, 1], toll[0, 2]) > toll[0, 3]
    assert toll[1, 1] > toll[1, 2]
