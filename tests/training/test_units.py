"""Units: what is written can be read back, and the blank is never written."""

from __future__ import annotations

import itertools
import lzma
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from asr.errors import ConfigError, DataError
from training.units import ALPHABET, Pieces, characters, phones, pieces, read_lexicon

if TYPE_CHECKING:
    from pathlib import Path

WORDS = st.text(ALPHABET, min_size=1, max_size=9)
TEXTS = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
SYLLABLES = ("ba", "ing", "the", "er", "cat", "o'", "qu", "st", "an", "z")
LIST = ["<blank>", "▁", *ALPHABET, "▁a", "▁th", "th", "the", "he", "ing", "in", "▁the", "er"]


def corpus() -> list[str]:
    """Sentences enough to learn pieces from."""
    choose = random.Random(3)  # noqa: S311 - no secret
    return [
        " ".join(
            "".join(choose.choices(SYLLABLES, k=choose.randint(1, 3))) + choose.choice(ALPHABET)
            for _ in range(8)
        )
        for _ in range(150)
    ]


LEARNT = pieces(corpus(), 90)


def spelled(kind: Pieces, numbers: list[int]) -> str:
    """What a recogniser would write for these units."""
    return " ".join("".join(kind.units[number] for number in numbers).replace("▁", " ").split())


@pytest.mark.parametrize("kind", [characters(), Pieces(LIST), LEARNT], ids=["abc", "list", "bpe"])
@given(text=TEXTS)
def test_what_is_encoded_spells_the_text(kind: Pieces, text: str) -> None:
    """Targets that spell something else would teach something else; the blank never is one."""
    numbers = kind.encode(text)
    assert spelled(kind, numbers) == text
    assert 0 not in numbers


@given(word=WORDS)
def test_a_word_is_cut_into_the_fewest_pieces(word: str) -> None:
    """Fewer units are fewer frames that must be filled; compared with every possible cut."""
    kind, marked = Pieces(LIST), "▁" + word
    assume(len(marked) <= 8)
    fewest = min(
        count + 1
        for count in range(len(marked))
        for cuts in itertools.combinations(range(1, len(marked)), count)
        if all(marked[a:b] in kind.units for a, b in itertools.pairwise((0, *cuts, len(marked))))
    )
    assert len(kind.encode(word)) == fewest


def test_among_equal_cuts_the_first_parts_are_longest() -> None:
    """The rule leaves no choice, so that training and transfer agree for ever."""
    kind = Pieces(["<blank>", "▁", "a", "b", "c", "▁a", "▁ab", "bc", "c"])
    assert [kind.units[n] for n in kind.encode("abc")] == ["▁ab", "c"]


@pytest.mark.parametrize("text", ["<blank>", "a <blank> b", "naïve", "a▁b", "7"])
def test_what_cannot_be_written_is_refused(text: str) -> None:
    """Not even the blank's own name becomes a blank."""
    for kind in (characters(), Pieces([*LIST, "<", ">", "<blan"])):
        if "<" in text and "<" in kind.units:
            assert 0 not in kind.encode(text)
        else:
            with pytest.raises(DataError, match=r"characters that no unit writes|mark of a word"):
                kind.encode(text)


def test_characters_put_the_space_between_words_only() -> None:
    """A space before the first word would be asked for where nothing sounds."""
    kind = characters()
    assert [kind.units[n] for n in kind.encode("is it")] == ["i", "s", "▁", "i", "t"]


def test_pieces_are_learnt_the_same_every_time() -> None:
    """Processes that train together learn them apart; the size is what was asked for."""
    assert pieces(corpus(), 90).units == LEARNT.units
    assert len(LEARNT.units) == 91
    assert {"<blank>", "▁", *ALPHABET} <= set(LEARNT.units)


def test_more_pieces_than_the_texts_hold_are_refused() -> None:
    """One line instead of a C++ trace."""
    with pytest.raises(ConfigError, match="do not give 5000 pieces; choose another size"):
        pieces(["one two three"] * 5, 5000)


def test_phones_follow_the_first_pronunciation(tmp_path: Path) -> None:
    """Earlier files win; the file may be compressed."""
    with lzma.open(tmp_path / "a.xz", "wt") as file:
        file.write("TWO\tT UW\nTWO\tT AH\n")
    (tmp_path / "b.txt").write_text("two\tX\nONE\tW AH N\n")
    lexicon = read_lexicon([str(tmp_path / "a.xz"), str(tmp_path / "b.txt")])
    kind = phones(lexicon)
    assert kind.units == ["<blank>", "AH", "N", "T", "UW", "W"]
    assert [kind.units[n] for n in kind.encode("one two")] == ["W", "AH", "N", "T", "UW"]
    with pytest.raises(DataError, match="the word 'three' has no pronunciation"):
        kind.encode("three")
    assert phones(lexicon, ["<blank>", "T", "UW"]).encode("two") == [1, 2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.txt", None, "no.txt: cannot be read: No such file"),
        ("bad.xz", b"this is not xz", "bad.xz: cannot be read"),
        ("cut.xz", lzma.compress(b"ONE\tW AH N\n" * 99)[:40], "cut.xz: cannot be read"),
        ("latin.txt", "é\tE".encode("latin-1"), "latin.txt: cannot be read"),
        ("spaces.txt", b"ONE W AH N\n", "'ONE W AH N' is not WORD<TAB>phones"),
        ("empty.txt", b"ONE\t\n", "'ONE' is not WORD<TAB>phones"),
    ],
)
def test_a_bad_lexicon_is_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """The file and what is wrong with it, in one line."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_lexicon([str(tmp_path / name)])
