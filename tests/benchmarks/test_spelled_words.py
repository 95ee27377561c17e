"""What spelling gains and costs is counted as `docs/decisions/beam-search.md` says."""

from __future__ import annotations

from asr.decoding.language import Language
from asr.decoding.settings import BeamSettings
from benchmarks.spelled_words import SpelledWords, spelled_words
from tests.asr.small_language import speller
from tests.asr.test_spelling import UNITS, clear, small

SILENCE = [0] * 6
CDC = [0, 3, 4, 3]  # sounds that are no word of the lexicon: written `cdc`
B = [0, 2]


def counted(spelling: float, said: list[tuple[list[int], str]]) -> SpelledWords:
    """Counts of recordings of these units, in which that is said."""
    spoken = small()
    parts = Language(spoken.lexicon, spoken.lm, spoken.words, speller(UNITS))
    chosen = BeamSettings(spelling=spelling, beam=60)
    rows = [clear([*units, *SILENCE]) for units, _ in said]
    return spelled_words(parts, chosen, rows, [text for _, text in said])


def test_an_unknown_word_is_right_near_or_neither() -> None:
    """Near is what a reader still guesses: at most 0.3 of its letters are wrong."""
    found = counted(0.0, [(CDC, "cdc"), (CDC, "cdce"), (CDC, "xyz"), (B, "b")])
    assert found == SpelledWords(words=4, unknown=3, right=1, near=2, spelled=3, false=0, lost=0)


def test_what_is_spelled_where_a_known_word_was_said_is_false() -> None:
    """And a word that only spelling lost is counted apart."""
    assert counted(0.0, [(CDC, "b")]) == SpelledWords(1, 0, 0, 0, 1, 1, 0)
    aa_b = ([0, 1, 0, 1, *B], "aa b")
    assert counted(50.0, [aa_b]) == SpelledWords(2, 0, 0, 0, 0, 0, 0)
    assert counted(-2.0, [aa_b]) == SpelledWords(2, 0, 0, 0, 1, 1, 2)


def test_the_line_for_people_has_every_count() -> None:
    """One for each row of the table."""
    line = SpelledWords(2000, 67, 1, 8, 23, 3, 5).line()
    assert line == (
        "unknown words: 1 of 67 right, 8 near; 23 words spelled, 1.5 false per 1000 words, "
        "5 known ones lost"
    )


def test_silence_and_recordings_of_nothing_count_nothing() -> None:
    """No alignment, no division by zero."""
    assert counted(0.0, [([0], ""), ([0], "b")]) == SpelledWords(1, 0, 0, 0, 0, 0, 0)
    assert "0.0 false" in SpelledWords(0, 0, 0, 0, 0, 0, 0).line()
