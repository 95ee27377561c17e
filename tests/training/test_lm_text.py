"""Book text to sentences: what is read aloud is written out, what is no prose is gone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError
from training.language_model.books import author_key, read_book, title_key
from training.language_model.normalisation import sentences_of
from training.language_model.numbers import LARGEST, cardinal, decade, ordinal, roman, year
from training.language_model.paragraphs import paragraphs_of
from training.language_model.text import create_text, line_blocks, sentence_blocks
from training.language_model.vocabulary import Vocabulary, choose, count_words, lexicon_words

if TYPE_CHECKING:
    from pathlib import Path

SENTENCE = re.compile(r"[A-Z]+(?:'[A-Z]+)*(?: [A-Z]+(?:'[A-Z]+)*)*")
SMALL = {cardinal(n): n for n in range(1000)}


@given(text=st.lists(st.text(max_size=200), max_size=5))
def test_whatever_comes_in_words_come_out(text: list[str]) -> None:
    """Capitals, single spaces, apostrophes inside words only, whatever a file holds."""
    for sentence in sentences_of([" ".join(part.split()) for part in text]):
        assert SENTENCE.fullmatch(sentence)


@given(text=st.text(alphabet="ab I.'?!VX1 3/$£%:,-\"()&cMrStno", max_size=80))
def test_rules_that_meet_leave_nothing_half_done(text: str) -> None:
    """The same with the characters that the rules are about."""
    for sentence in sentences_of([text]):
        assert SENTENCE.fullmatch(sentence)


@given(words=st.lists(st.from_regex(r"[a-z]{2,8}", fullmatch=True), min_size=1, max_size=12))
def test_plain_words_stay_as_they_are(words: list[str]) -> None:
    """Nothing is spelled out that needs no spelling out (small roman numerals do)."""
    words = [word for word in words if not re.fullmatch(r"[ivxl]+", word)]
    assert sentences_of([" ".join(words)]) == ([" ".join(words).upper()] if words else [])


@pytest.mark.parametrize(
    ("printed", "read"),
    [
        ("Mr. and Mrs Smith met Dr. Brown.", "MISTER AND MISSUS SMITH MET DOCTOR BROWN"),
        ("At St. Paul's, Capt. Jones said so.", "AT SAINT PAUL'S CAPTAIN JONES SAID SO"),
        ("'Tis the boys' fault, isn't it?", "TIS THE BOYS FAULT ISN'T IT"),
        ("He paid $3.50 and £5.", "HE PAID THREE DOLLARS AND FIFTY CENTS AND FIVE POUNDS"),
        ("It was $1.01, or $1.", "IT WAS ONE DOLLAR AND ONE CENT OR ONE DOLLAR"),
        ("The 5:30 left at 6:05, 7:00.", "THE FIVE THIRTY LEFT AT SIX O FIVE SEVEN"),
        ("In 1872, 1805 and 1900.", "IN EIGHTEEN SEVENTY TWO EIGHTEEN O FIVE AND NINETEEN HUNDRED"),
        (
            "There were 1,872 of them.",
            "THERE WERE ONE THOUSAND EIGHT HUNDRED AND SEVENTY TWO OF THEM",
        ),
        ("On the 21st of May, the 2d.", "ON THE TWENTY FIRST OF MAY THE SECOND"),
        ("In the 1840s or 1840's.", "IN THE EIGHTEEN FORTIES OR EIGHTEEN FORTIES"),
        ("For 2 1/2 hours, or 1/2.", "FOR TWO AND A HALF HOURS OR A HALF"),
        ("For 2½ hours.", "FOR TWO AND A HALF HOURS"),
        ("From 10-12 men, 30%.", "FROM TEN TO TWELVE MEN THIRTY PER CENT"),
        ("The years 1861-1865.", "THE YEARS EIGHTEEN SIXTY ONE TO EIGHTEEN SIXTY FIVE"),
        ("Henry VIII and Louis XIV ruled.", "HENRY THE EIGHTH AND LOUIS THE FOURTEENTH RULED"),
        ("See Chapter IV, and act V.", "SEE CHAPTER FOUR AND ACT FIVE"),
        ("The part I played.", "THE PART I PLAYED"),
        ("He had XII of them.", "HE HAD TWELVE OF THEM"),
        ("Take No. 5, no. 6.", "TAKE NUMBER FIVE NUMBER SIX"),
        ("Tea & cakes, &c.", "TEA AND CAKES ET CETERA"),
        ("At 3 a.m. yesterday, i.e. early.", "AT THREE A M YESTERDAY I E EARLY"),
        ("J. K. Smith of the U.S.A. came.", "J K SMITH OF THE U S A CAME"),
        ("Well--you know—the ill-fated ship.", "WELL YOU KNOW THE ILL FATED SHIP"),
        ("The café of Cæsar\u2019s “naïve” Œdipus.", "THE CAFE OF CAESAR'S NAIVE OEDIPUS"),
        ("An _emphasised_ *word*.", "AN EMPHASISED WORD"),
        ("Jones & Co. sold lbs. of it, etc.", "JONES AND COMPANY SOLD POUNDS OF IT ET CETERA"),
    ],
)
def test_sentences_are_written_as_they_are_read(printed: str, read: str) -> None:
    """Each rule by one example."""
    assert sentences_of([printed]) == [read]


@pytest.mark.parametrize(
    "printed",
    [
        "It is 3.14 long.",
        "A third is 1/3 of it.",
        "See page xii there.",
        "The λόγος was with him.",
        "So a + b = c.",
        "It cost £3.10 then.",
        "Founded in MDCCCXL by him.",
        "A number like 1234567890123 has no name.",
        "It was 5.30.7 or so.",
    ],
)
def test_what_cannot_be_read_for_certain_is_dropped(printed: str) -> None:
    """A wrong reading would teach the model words that nobody says; the neighbours stay."""
    assert sentences_of([f"All is well. {printed} So it ends."]) == ["ALL IS WELL", "SO IT ENDS"]


def test_sentences_end_where_they_should() -> None:
    """Behind . ! ? and before a capital, a figure or a quote; abbreviations do not end one."""
    text = '"Go!" he cried. "What?" It was I. He saw Mr. Hyde. \'Oh!\' 12 men... and then one? yes.'
    assert sentences_of([text]) == [
        "GO HE CRIED",
        "WHAT",
        "IT WAS I",
        "HE SAW MISTER HYDE",
        "OH",
        "TWELVE MEN AND THEN ONE YES",
    ]


def test_endless_sentences_are_split_at_their_clauses() -> None:
    """Counting n-grams needs no sentence of three hundred words, and a decoder never meets one."""
    clause = " ".join(["word"] * 100)
    assert sentences_of([f"{clause}; {clause}: {clause}."]) == [clause.upper()] * 3
    assert len(sentences_of([f"short; {'word ' * 100}."])) == 1


@given(number=st.integers(0, LARGEST))
def test_cardinals_can_be_read_back(number: int) -> None:
    """Every number has its own name, and the name its parts."""
    total = rest = 0
    words = cardinal(number).split()
    part: list[str] = []
    for word in [*words, "UNITS"]:
        if word in {"BILLION", "MILLION", "THOUSAND", "UNITS"}:
            if part:
                rest = SMALL[" ".join(part).removeprefix("AND ")]
                size = {"BILLION": 10**9, "MILLION": 10**6, "THOUSAND": 1000, "UNITS": 1}[word]
                total += rest * size
            part = []
        else:
            part.append(word)
    assert total == number
    assert ordinal(number).split()[:-1] == words[:-1]


def test_numbers_by_example() -> None:
    """British, with AND, as the lists of the corpus have them."""
    assert cardinal(0) == "ZERO"
    assert cardinal(101) == "ONE HUNDRED AND ONE"
    assert cardinal(1_000_001) == "ONE MILLION AND ONE"
    assert cardinal(342_000) == "THREE HUNDRED AND FORTY TWO THOUSAND"
    assert [ordinal(n) for n in (1, 12, 20, 23, 100)] == [
        "FIRST",
        "TWELFTH",
        "TWENTIETH",
        "TWENTY THIRD",
        "ONE HUNDREDTH",
    ]
    assert year(2005) == "TWO THOUSAND AND FIVE"
    assert year(2015) == "TWENTY FIFTEEN"
    assert year(1066) == "ONE THOUSAND AND SIXTY SIX"
    assert decade(1800) == "EIGHTEEN HUNDREDS"
    with pytest.raises(ValueError, match="no name"):
        cardinal(LARGEST + 1)


def test_roman_numerals_are_well_formed_or_words() -> None:
    """IIX and MIXED are no numbers."""
    assert [roman(x) for x in ("I", "IV", "XIX", "XLIV", "XC", "MCMXIV")] == [
        1,
        4,
        19,
        44,
        90,
        1914,
    ]
    assert [roman(x) for x in ("", "IIX", "VV", "MIXED", "IC")] == [None] * 5


BOOK = """The Project Gutenberg EBook of A Tale, by Ann Other

Title: A Tale
Author: Ann Other
Language: English

Release Date: May, 2001 [EBook #123]

*** START OF THIS PROJECT GUTENBERG EBOOK A TALE ***

Produced by a transcriber

CHAPTER I

It was a dark
night.[1] He was
there, and waited.

  Contents ......... 12

A      1      2
B      3      4

[Illustration: the night]

THE NIGHT, AND ALL THAT

"Well," said he.

*** END OF THIS PROJECT GUTENBERG EBOOK A TALE ***

You may copy it.
"""


def test_a_book_is_its_prose(tmp_path: Path) -> None:
    """Header, licence, headings, tables, notes and pictures are not read aloud."""
    path = tmp_path / "123.txt"
    path.write_bytes(b"\xef\xbb\xbf" + BOOK.replace("\n", "\r\n").encode())
    book = read_book(path)
    assert (book.author, book.title, book.number, book.language) == (
        "Ann Other",
        "A Tale",
        "123",
        "English",
    )
    assert book.name == "123 Ann Other: A Tale"
    assert paragraphs_of(book.text) == [
        "It was a dark night. He was there, and waited.",
        '"Well," said he.',
    ]


def test_short_lines_end_paragraphs_where_nothing_else_does() -> None:
    """Some collections have no empty lines at all."""
    line = "a line that goes on for long enough to be a full one of its column,"
    text = "\n".join([line, "and ends here.", line, line, "and here!"] * 3)
    assert paragraphs_of(text) == [f"{line} and ends here.", f"{line} {line} and here!"] * 3


@pytest.mark.parametrize(
    ("path", "author", "title"),
    [
        ("Jacob Abbott___Queen Elizabeth.txt", "abbott", "queenelizabeth"),
        ("Alger, Horatio, Jr./Julius; or, Out West.txt", "alger", "julius"),
        ("H.P. Lovecraft/Pickman's Model.md", "lovecraft", "pickmansmodel"),
        ("corpus/Kipling_Kim_1901.txt", "kipling", "kim"),
        ("books/1303.txt", "", ""),
    ],
)
def test_files_without_a_header_tell_by_their_names(
    tmp_path: Path, path: str, author: str, title: str
) -> None:
    """In the forms that collections use."""
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text("Some text in caf\xe9.", encoding="cp1252")
    book = read_book(file)
    assert book.key == (author, title)
    assert book.text == "Some text in café."


def test_editions_of_a_book_have_the_same_key() -> None:
    """Volumes, subtitles and the ways of writing a name."""
    keys = {title_key(t) for t in ("The Moonstone", "Moonstone, Complete", "The Moonstone: a tale")}
    assert keys == {"moonstone"}
    names = ("Collins, Wilkie, 1824-1889", "Wilkie Collins", "Wilkie Collins [Editor]", "COLLINS")
    assert {author_key(name) for name in names} == {"collins"}
    assert author_key("Horatio Alger Jr.") == "alger"


def test_texts_are_read_packed_or_plain_without_titles(tmp_path: Path) -> None:
    """Titles, empty lines and case are gone."""
    for name in ("a.txt", "a.txt.gz", "a.txt.xz"):
        with create_text(tmp_path / name) as file:
            file.write("# 1 Ann Other: A Tale\nIT WAS\n\nA NIGHT\n")
        assert list(sentence_blocks([tmp_path / name])) == [["it was", "a night"]]


def test_texts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Absent, damaged, not UTF-8."""
    (tmp_path / "a.gz").write_bytes(b"no gzip")
    (tmp_path / "a.xz").write_bytes(b"no xz")
    (tmp_path / "a.txt").write_bytes(b"caf\xe9\n")
    for name in ("a.gz", "a.xz", "a.txt", "absent"):
        with pytest.raises(DataError, match=name):
            list(line_blocks(tmp_path / name))


def test_the_vocabulary_is_what_is_frequent_and_can_be_said(tmp_path: Path) -> None:
    """Falling counts, ties by the alphabet, nothing that the lexicon lacks."""
    text, lexicon = tmp_path / "text", tmp_path / "lexicon"
    text.write_text("B A A\nC C D QUX QUX QUX\n")
    lexicon.write_text("A\tAH\nA\tEY\nB\tB IY\nC\tS IY\nD\tD IY\n")
    counts = count_words([text])
    allowed = lexicon_words([lexicon])
    assert choose(counts, 9, allowed).words[3:] == ("a", "c", "b", "d")
    assert choose(counts, 2).words[3:] == ("qux", "a")
    assert choose(counts, 9, least=2).words[3:] == ("qux", "a", "c")
    with pytest.raises(DataError, match="no word"):
        choose(counts, 9, set())


def test_sentences_become_ids_between_their_marks(tmp_path: Path) -> None:
    """Unknown words are 0; a literal `<s>` in a text is no mark but an unknown word."""
    vocabulary = Vocabulary(("<unk>", "<s>", "</s>", "a", "b"))
    assert vocabulary.encode(["a b", "x a", "<s> </s> <unk>"]).tolist() == [
        1, 3, 4, 2, 1, 0, 3, 2, 1, 0, 0, 0, 2,
    ]  # fmt: skip
    assert vocabulary.encode([]).tolist() == []
    vocabulary.save(tmp_path / "words")
    assert Vocabulary.load(tmp_path / "words") == vocabulary
    with pytest.raises(DataError, match="begins with"):
        Vocabulary(("a",))
    with pytest.raises(DataError, match="once"):
        Vocabulary(("<unk>", "<s>", "</s>", "a", "a"))
