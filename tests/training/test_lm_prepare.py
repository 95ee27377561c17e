"""Books become one text: each once, in English, without what references have; also resumed."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError, Error
from training.language_model import prepare as module
from training.language_model.fingerprints import line_hashes, words_of
from training.language_model.overlap import (
    LENGTH,
    Overlap,
    References,
    books_in,
    purge,
    read_transcripts,
)
from training.language_model.prepare import Preparation, Prepared, find_books
from training.language_model.selection import Exclusions, select
from training.language_model.survey import Survey, survey

FUNCTION = "the and of to a in that he was it his with as for had is her not but at".split()  # noqa: SIM905 - as it is read
WORDS = st.lists(st.sampled_from("ab cd ef gh".split()), max_size=40)  # noqa: SIM905
NONE = References.of([])


def prose(seed: int, sentences: int = 300) -> str:
    """English as the survey sees it: half function words, the rest made up, in paragraphs."""
    rng = random.Random(seed)  # noqa: S311 - a test's text
    made_up = ["".join(rng.choices("abcdefgopqrstu", k=6)) for _ in range(2000)]
    lines = []
    for _ in range(sentences):
        words = [rng.choice(FUNCTION if rng.random() < 0.5 else made_up) for _ in range(12)]
        lines.append(" ".join(words).capitalize() + ".")
    return "\n\n".join(lines) + "\n"


def shelf(folder: Path, books: dict[str, str]) -> list[Path]:
    """Write books by their file names."""
    for name, text in books.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return find_books([folder])


def prepared(out: Path, files: list[Path], references: References = NONE) -> Prepared:
    """Make a text without a word about it."""
    return Preparation(out, references, lambda _: None).run(files, Exclusions())


def titles(out: Path) -> list[str]:
    """The books in a text."""
    return [line[2:] for line in out.read_text().splitlines() if line.startswith("# ")]


@given(text=st.text(max_size=200))
def test_words_are_hashed_as_they_are_read(text: str) -> None:
    """Equal words have equal hashes, others others; case, apostrophes and the rest do not count."""
    plain = "".join(
        c if c.isascii() and (c.isalpha() or c == "\n") else "" if c == "'" else " " for c in text
    ).lower()
    words = [(word, i) for i, line in enumerate(plain.split("\n")) for word in line.split()]
    found = words_of(text)
    assert found.lines.tolist() == [i for _, i in words]
    by_hash = dict(zip(found.hashes.tolist(), (word for word, _ in words), strict=True))
    assert [by_hash[h] for h in found.hashes.tolist()] == [word for word, _ in words]
    assert len(by_hash) == len({word for word, _ in words})


@given(lines=st.lists(WORDS, max_size=6), length=st.integers(1, 9), across=st.booleans())
def test_sequences_are_equal_where_their_words_are(
    lines: list[list[str]], length: int, *, across: bool
) -> None:
    """And go over the ends of lines only where they may."""
    words = [(word, i) for i, line in enumerate(lines) for word in line]
    expected = [
        (i, tuple(w for w, _ in words[i : i + length]))
        for i in range(len(words) - length + 1)
        if across or words[i][1] == words[i + length - 1][1]
    ]
    text = "\n".join(" ".join(line) for line in lines)
    hashes, begins = words_of(text).sequences(length, across_lines=across)
    assert begins.tolist() == [i for i, _ in expected]
    pairs = set(zip(hashes.tolist(), (s for _, s in expected), strict=True))
    assert len(pairs) == len({h for h, _ in pairs}) == len({s for _, s in pairs})


@given(lines=st.lists(WORDS, max_size=8))
def test_lines_are_equal_where_their_words_are(lines: list[list[str]]) -> None:
    """Duplicates are found by these hashes."""
    numbers, hashes, sizes = line_hashes(words_of("\n".join(" ".join(line) for line in lines)))
    filled = [(i, tuple(line)) for i, line in enumerate(lines) if line]
    assert numbers.tolist() == [i for i, _ in filled]
    assert sizes.tolist() == [len(line) for _, line in filled]
    pairs = set(zip(hashes.tolist(), (line for _, line in filled), strict=True))
    assert len(pairs) == len({h for h, _ in pairs}) == len({line for _, line in pairs})


@given(lines=st.lists(WORDS, max_size=10), spoken=st.lists(WORDS, min_size=1, max_size=4))
def test_nothing_that_is_left_is_shared_within_a_line(
    lines: list[list[str]], spoken: list[list[str]]
) -> None:
    """What the purge is for, and that it takes no line without need."""
    transcripts = [" ".join(words) for words in spoken]
    sequences = {
        tuple(words[i : i + LENGTH]) for words in spoken for i in range(len(words) - LENGTH + 1)
    }
    text = [" ".join(line) for line in lines if line]
    running = [word for line in text for word in line.split()]
    shared = {tuple(running[i : i + LENGTH]) for i in range(len(running) - LENGTH + 1)} & sequences
    found = purge(text, References.of(transcripts), limit=10)
    assert found.shared == len(shared)
    if len(shared) > 10:
        assert found.lines == []
    else:
        assert set(found.lines) <= set(text)
        assert (found.lines == text) == (not shared)
        for line in found.lines:
            words = line.split()
            assert not any(tuple(words[i : i + LENGTH]) in sequences for i in range(len(words)))


def test_a_shared_sequence_over_two_lines_takes_both() -> None:
    """Readers do not stop where our sentences end."""
    references = References.of(["one two three four five six seven eight"])
    lines = ["before", "zero one two three", "four five six seven eight nine", "behind"]
    assert purge(lines, references).lines == ["before", "behind"]
    assert purge(lines, references).shared == 1


def test_two_transcripts_are_no_sequence() -> None:
    """Utterances that follow each other in a list do not in a book."""
    assert len(References.of(["a b c d", "e f g h"]).sequences[LENGTH]) == 0


def test_a_text_is_made_of_books(tmp_path: Path) -> None:
    """Title, then sentences; lines of five words only once; what is left out is counted."""
    one = prose(1, 600)
    books = {
        "Ann Other/One.txt": one + "\n\nThis line of five words stands in both. So short.\n",
        "Ann Other/Two.txt": prose(2) + "\n\nThis line of five words stands in both. So short.\n",
        "Ann Other/Two; or, again.txt": prose(3),
        "Copyist/Another name.txt": prose(4, 20) + one,
        "Short/Story.txt": prose(5, 20),
        "Other tongue/Buch.txt": "Das ist kein englisches Buch. " * 400,
        "Ann Other/.hidden.txt": prose(6),
        "Ann Other/picture.png": "no text",
    }
    out = tmp_path / "text.txt"
    result = prepared(out, shelf(tmp_path / "books", books))
    assert titles(out) == ["Ann Other: One", "Ann Other: Two"]
    lines = out.read_text().splitlines()
    assert lines.count("THIS LINE OF FIVE WORDS STANDS IN BOTH") == 1
    assert lines.count("SO SHORT") == 2
    assert result.left_out == {
        "same author and title": 1,
        "same content": 1,
        "too short": 1,
        "not English": 1,
    }
    assert (result.files, result.books, result.repeated) == (6, 2, 1)
    assert result.sentences == len(lines) - 2 > 850
    assert result.words == sum(len(line.split()) for line in lines if not line.startswith("# "))


def test_books_that_were_read_out_are_kept_out(tmp_path: Path) -> None:
    """And their other editions; of others only the lines."""
    read_out, edition, innocent = prose(1), prose(2), prose(3)
    spoken = [line.strip(".").upper() for line in read_out.split("\n\n")[:3]]
    spoken.append(" ".join(innocent.split("\n\n")[7].upper().split()[2:11]))
    books = {"A/Read.txt": read_out, "A/Read, Volume 2.txt": edition, "B/Innocent.txt": innocent}
    out = tmp_path / "text.txt"
    result = prepared(out, shelf(tmp_path / "books", books), References.of(spoken))
    assert titles(out) == ["B: Innocent"]
    assert result.left_out == {
        "shares sequences with the references": 1,
        "another edition shares sequences with the references": 1,
    }
    assert result.shared == 1
    assert spoken[3] not in out.read_text()
    found = Overlap({"spoken": References.of(spoken, Overlap.LENGTHS)})
    found.add(out, lambda _: None)
    assert found.report()["spoken: shared sequences of 8 words"] == 0


def test_a_book_that_only_spelling_out_shows_is_purged(tmp_path: Path) -> None:
    """Figures hide sequences from the survey; the sentences are looked at again."""
    hidden = "".join(f"In {1800 + i} they sailed with 7 men and {i} dogs.\n\n" for i in range(9))
    text = hidden + prose(1)
    words = ["SAILED WITH SEVEN MEN AND", "DOGS"]
    spoken = [f"{words[0]} {n} {words[1]} IN" for n in ("ONE", "TWO", "THREE", "FOUR")]
    out = tmp_path / "text.txt"
    files = shelf(tmp_path / "books", {"A/Ships.txt": text, "B/Other.txt": prose(2)})
    result = prepared(out, files, References.of(spoken))
    assert result.purged == 1
    assert titles(out) == ["B: Other"]


def test_lines_of_another_language_are_left_out(tmp_path: Path) -> None:
    """English books quote."""
    german = "Wer reitet so spaet durch Nacht und Wind es ist der Vater mit seinem Kind."
    out = tmp_path / "text.txt"
    prepared(out, shelf(tmp_path / "books", {"A/B.txt": prose(1) + f"\n{german} Ja doch.\n"}))
    assert german.strip(".").upper() not in out.read_text()
    assert "JA DOCH" in out.read_text()


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what was surveyed nor what was normalised is done twice; the text is the same."""
    files = shelf(tmp_path / "books", {f"A/Book {i}.txt": prose(i) for i in range(4)})
    prepared(tmp_path / "whole.txt", files)
    whole_survey, whole_normalise = module.Work.survey, module.Work.normalise
    looked: list[str] = []

    def stopping_survey(self: module.Work, file: str) -> Survey:
        looked.append(file)
        if len(looked) == 3:
            raise KeyboardInterrupt
        return whole_survey(self, file)

    def stopping_normalise(self: module.Work, file: str) -> tuple[str, str]:
        looked.append(file)
        if len(looked) == 6:
            raise KeyboardInterrupt
        return whole_normalise(self, file)

    monkeypatch.setattr(module.Work, "survey", stopping_survey)
    monkeypatch.setattr(module.Work, "normalise", stopping_normalise)
    out = tmp_path / "text.txt"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            prepared(out, files)
        assert not out.exists()
    prepared(out, files)
    names = [Path(file).stem[-1] for file in looked]
    assert names == ["0", "1", "2", "2", "3", "0", "0", "1", "2", "3"]
    assert out.read_bytes() == (tmp_path / "whole.txt").read_bytes()


def test_a_survey_cut_off_in_the_middle_is_made_again(tmp_path: Path) -> None:
    """As after a full disk."""
    files = shelf(tmp_path / "books", {"A/One.txt": prose(1), "A/Two.txt": prose(2)})
    out = tmp_path / "text.txt"
    prepared(out, files)
    whole = out.read_bytes()
    store = tmp_path / "text.txt.parts" / "surveys.jsonl"
    store.write_text(store.read_text()[:-40])
    prepared(out, files)
    assert out.read_bytes() == whole


def test_a_book_that_has_changed_is_prepared_again(tmp_path: Path) -> None:
    """Or the text would hold the old one without a word."""
    files = shelf(tmp_path / "books", {"A/One.txt": prose(1)})
    out = tmp_path / "text.txt"
    prepared(out, files)
    files[0].write_text(prose(1) + "\nA new line of many words stands at its end.\n")
    prepared(out, files)
    assert "A NEW LINE OF MANY WORDS" in out.read_text()


def test_several_processes_make_the_same_text(tmp_path: Path) -> None:
    """In the same order."""
    files = shelf(tmp_path / "books", {f"A/Book {i}.txt": prose(i, 150) for i in range(3)})
    prepared(tmp_path / "one.txt", files)
    Preparation(tmp_path / "two.txt", NONE, lambda _: None, jobs=2).run(files, Exclusions())
    assert (tmp_path / "one.txt").read_bytes() == (tmp_path / "two.txt").read_bytes()


class Deadly(References):
    """References that end the process to which they are sent."""

    def __reduce__(self) -> tuple[object, ...]:
        """Call `os._exit` there, as the system's killer would."""
        return os._exit, (9,)


def test_a_process_that_dies_ends_the_work(tmp_path: Path) -> None:
    """With a line; it would wait for ever for the books that the process had in hand."""
    files = shelf(tmp_path / "books", {f"A/Book {i}.txt": prose(i, 50) for i in range(3)})
    preparation = Preparation(tmp_path / "text.txt", Deadly({}), lambda _: None, jobs=2)
    with pytest.raises(Error, match="a worker process died"):
        preparation.run(files, Exclusions())


def test_where_no_book_is_wanted_none_is_lost(tmp_path: Path) -> None:
    """A text that is there is not replaced by one without a word; it is told why."""
    out = tmp_path / "text.txt"
    out.write_text("WHAT THERE WAS\n")
    files = shelf(tmp_path / "books", {"A/One.txt": prose(1, 5), "B/Two.txt": "Zu kurz."})
    with pytest.raises(DataError, match="none of 2 files is a book to take: 2 too short"):
        prepared(out, files)
    assert out.read_text() == "WHAT THERE WAS\n"


def test_authors_and_titles_can_be_excluded(tmp_path: Path) -> None:
    """By a table; a title of * means all of an author."""
    table = tmp_path / "out.tsv"
    table.write_text("Other, Ann\tThe Tale\t12\n\nNobody\t*\n")
    exclusions = Exclusions.read([table])
    assert exclusions.name(("other", "tale"))
    assert exclusions.name(("nobody", "whatever"))
    assert not exclusions.name(("other", "another"))
    table.write_text("no tab\n")
    with pytest.raises(DataError, match=r"out\.tsv:1"):
        Exclusions.read([table])


def test_short_files_are_duplicates_by_name_only(tmp_path: Path) -> None:
    """A sample of one in 256 sequences says little about a few thousand words."""
    text = prose(1, 200)
    files = shelf(tmp_path, {"A/One.txt": text, "B/Two.txt": text})
    selection = select([survey(str(path), NONE) for path in files], Exclusions())
    assert len(selection.books) == 2


def test_transcripts_are_texts_or_manifests(tmp_path: Path) -> None:
    """One a line, or the key `text` of JSON."""
    (tmp_path / "a.txt").write_text("# title\nONE TWO\n\nTHREE\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "ONE"}) + "\n")
    assert read_transcripts(tmp_path / "a.txt") == ["ONE TWO", "THREE"]
    assert read_transcripts(tmp_path / "a.jsonl") == ["ONE"]
    (tmp_path / "a.jsonl").write_text('{"words": "ONE"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:1"):
        read_transcripts(tmp_path / "a.jsonl")


def test_books_of_a_text_are_told_apart(tmp_path: Path) -> None:
    """By their titles; a text without any is one book."""
    path = tmp_path / "text"
    path.write_text("A\n# one\nB\nC\n\n# two\nD\n")
    assert list(books_in(path)) == [("", ["A"]), ("# one", ["B", "C"]), ("# two", ["D"])]


def test_an_empty_shelf_is_an_error(tmp_path: Path) -> None:
    """A wrong folder would else give an empty text."""
    with pytest.raises(DataError, match="no book"):
        find_books([tmp_path])
    with pytest.raises(DataError, match="no such"):
        find_books([tmp_path / "absent"])


def test_the_report_counts_distinct_sequences(tmp_path: Path) -> None:
    """By hand: a text that has one of two transcripts, twice."""
    spoken = ["a b c d e f g h i", "z y x w v u t s"]
    path, out = tmp_path / "text", tmp_path / "left"
    path.write_text(f"# one\n{spoken[0]}\nq\n# two\n{spoken[0]}\nr s\n")
    found = Overlap({"set": References.of(spoken, Overlap.LENGTHS)})
    found.add(path, lambda _: None)
    found.drop([path], References.of(spoken), out, lambda _: None)
    report = found.report()
    assert report["set: sequences of 8 words"] == 3
    assert report["set: shared sequences of 8 words"] == 2
    assert report["set: shared sequences of 7 words"] == 3
    assert report["books with shared sequences"] == 2
    assert report["most shared sequences in a book"] == 2
    assert (report["books_dropped"], report["lines_dropped"], report["lines_kept"]) == (0, 2, 2)
    assert out.read_text() == "# one\nq\n# two\nr s\n"
    assert np.array_equal(words_of("").hashes, [])
