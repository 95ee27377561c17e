"""What is spoken is what the transcript says, in an order that only the seed decides."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError
from training.synthesis.script import (
    LONGEST,
    SHORTEST,
    SPEAKER_UTTERANCES,
    covering,
    passages,
    readable,
    script_of_passages,
    script_of_phrases,
    transcript,
)

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["the", "cat", "sat", "upon", "a", "mat", "I", "don't", "know"]
SENTENCES = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A hundred sentences that name their number."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    lines = [f"He said {words[n // 10]} {words[n % 10]}." for n in range(100)]
    (tmp_path / "book.txt").write_text("# A. Author: A Book\n" + "\n".join(lines))
    return tmp_path / "book.txt"


@settings(max_examples=25)
@given(sentences=SENTENCES, seed=st.integers(0, 99))
def test_passages_are_neighbouring_sentences(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[str], seed: int
) -> None:
    """In order, none twice, all whole, 2 to 38 words; what is longer or shorter is left out."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(sentences))
    found = list(passages([path], np.random.default_rng(seed)))
    assert all(SHORTEST <= len(passage.split()) <= LONGEST for passage in found)
    joined, rest = " ".join(sentences), ""
    for passage in found:
        before, _, joined = joined.partition(passage)
        rest += before
    left_out = len(f"{rest} {joined}".split())
    assert left_out + sum(len(p.split()) for p in found) == len(" ".join(sentences).split())


def test_a_doubtful_sentence_and_a_title_part_their_neighbours(tmp_path: Path) -> None:
    """What stood between them would be missing in the middle of a passage."""
    lines = ["He sat.", "In 1870 he rose.", "She left.", "# Another: Book", "They met."]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    found = list(passages([tmp_path / "text.txt"], np.random.default_rng(0)))
    assert found == ["He sat.", "She left.", "They met."]


@pytest.mark.parametrize(
    "doubtful",
    [
        "It was 1870.",
        "Mr. Smith",
        "the U.S.",
        "J. Smith",
        "NASA flew",
        "£5",
        "plan b",
        "...",
        "αβγ",
    ],
)
def test_what_can_be_read_in_several_ways_is_not_read(doubtful: str) -> None:
    """The transcript would be a guess, and the model would learn it."""
    assert readable(doubtful) == ""


@pytest.mark.parametrize("sure", ["I don't", "He'd gone.", "It's Ann's", "o'clock", "a boys' room"])
def test_an_apostrophe_makes_no_doubt(sure: str) -> None:
    """Without them a model would never hear how people talk."""
    assert readable(sure) == sure


def test_capitals_are_read_as_words() -> None:
    """`asr lm prepare` writes nothing else; a voice would spell them letter by letter."""
    assert readable("THEN I SAID I'M HERE") == "then I said I'm here"
    assert readable("\u201cIt\u2019s Zoë\u2019s,\u201d he said") == "\"It's Zoe's,\" he said"


def test_a_transcript_has_words_alone() -> None:
    """Capitals and inner apostrophes, as LibriSpeech has them."""
    said = "'Tis the boys' half-way house, isn't it? -- 'Yes!'"
    assert transcript(said) == "TIS THE BOYS HALF WAY HOUSE ISN'T IT YES"


def test_the_order_is_the_seeds_and_begins_alike_however_much_is_wanted(book: Path) -> None:
    """So a longer run goes on with a shorter one."""
    whole = script_of_passages([book], 1)
    assert [line.number for line in whole] == list(range(len(whole)))
    assert sum(len(line.text.split()) for line in whole) == 400
    for words in (0, 10, 100):
        short = script_of_passages([book], 1, most_words=words)
        assert short == whole[: len(short)]
        assert sum(len(line.text.split()) for line in short) >= words
    texts = {line.text for line in script_of_passages([book], 2)}
    assert [line.text for line in script_of_passages([book], 2)] != [line.text for line in whole]
    assert len(texts) > 10


@given(texts=st.lists(st.lists(st.sampled_from(WORDS), min_size=1).map(" ".join), max_size=30))
def test_covering_leaves_out_only_what_was_spoken_often(texts: list[str]) -> None:
    """Every word that there is stays as often as was asked for, or as often as it occurs."""
    kept = list(covering(texts, 2))
    assert list(covering(texts, 0)) == texts
    before, after = (
        Counter(word for text in some for word in set(text.upper().split()))
        for some in (texts, kept)
    )
    assert all(after[word] >= min(2, number) for word, number in before.items())


def test_each_phrase_is_spoken_by_as_many_speakers_as_it_is_spoken_times(tmp_path: Path) -> None:
    """However short the list is."""
    path = tmp_path / "phrases.txt"
    path.write_text("# mine\nkubernetes\nGriffon Hoverwork\n\nkubernetes\nHTTP 404\n")
    script, refused = script_of_phrases([path], 0, 7)
    assert refused == ["HTTP 404"]
    assert Counter(line.text for line in script) == {"kubernetes": 7, "Griffon Hoverwork": 7}
    for text in ("kubernetes", "Griffon Hoverwork"):
        assert len({line.speaker for line in script if line.text == text}) == 7


def test_no_speaker_has_more_than_his_share(tmp_path: Path) -> None:
    """A model must not learn one voice by heart."""
    (tmp_path / "text.txt").write_text("He sat down.\n# \n" * 60)
    (tmp_path / "words.txt").write_text("\n".join(f"{'a' * n}b" for n in range(1, 60)))
    for script in (
        script_of_passages([tmp_path / "text.txt"], 1),
        script_of_phrases([tmp_path / "words.txt"], 1, 2)[0],
    ):
        counts = Counter(line.speaker for line in script)
        assert len(script) > SPEAKER_UTTERANCES
        assert max(counts.values()) <= SPEAKER_UTTERANCES


def test_a_text_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Before anything is loaded."""
    with pytest.raises(DataError, match=r"none\.txt"):
        script_of_passages([tmp_path / "none.txt"], 0)
