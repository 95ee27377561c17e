"""Which of many files become part of a text: English books, each once, none that references read.

The rules: at least 1,500 words; 36 % of them function words, and English where a language is told;
not in a list of excluded authors and titles; at most 3 distinct 8-word sequences shared with the
references, and no other edition of a book that shares more; no duplicate, which is a file with the
author and title of one already taken, or more than 15 % of the smaller one's sample in common.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asr.errors import DataError
from training.language_model.books import author_key, title_key
from training.language_model.overlap import LIMIT
from training.language_model.text import line_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from training.language_model.survey import Survey

LEAST_WORDS = 1_500
LEAST_FUNCTION_SHARE = 0.36
DUPLICATE_SHARE = 0.15
SHORT = 5_000  # words; shorter files are no duplicates by content, their samples are too small
EVERY_TITLE = "*"


@dataclass(frozen=True)
class Exclusions:
    """Authors and titles that are not wanted, as `Book.key` has them.

    Attributes:
        pairs: author's surname and core of the title.
        authors: surnames of authors of whom nothing is wanted.
    """

    pairs: frozenset[tuple[str, str]] = frozenset()
    authors: frozenset[str] = frozenset()

    @classmethod
    def read(cls, paths: list[Path]) -> Exclusions:
        """Read tables whose first two columns are author and title; a title `*` means all.

        Raises:
            DataError: a line has no tab.
        """
        pairs, authors = set(), set()
        for path in paths:
            for number, line in enumerate((x for b in line_blocks(path) for x in b), 1):
                if not line.strip():
                    continue
                author, tab, rest = line.partition("\t")
                if not tab:
                    raise DataError(f"{path}:{number}: no tab between author and title")
                title = rest.split("\t")[0]
                if title == EVERY_TITLE:
                    authors.add(author_key(author))
                else:
                    pairs.add((author_key(author), title_key(title)))
        return cls(frozenset(pairs), frozenset(authors))

    def name(self, key: tuple[str, str]) -> bool:
        """Whether a book is among them."""
        return key in self.pairs or key[0] in self.authors


@dataclass
class Selection:
    """The books taken so far, in order, and why others were not."""

    books: list[Survey] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    _owners: dict[int, list[int]] = field(default_factory=dict)
    _keys: set[tuple[str, str]] = field(default_factory=set)

    def offer(self, book: Survey) -> None:
        """Take a book unless it is one already taken."""
        named = all(book.key)
        if named and book.key in self._keys:
            self.left_out["same author and title"] += 1
            return
        if book.words >= SHORT and self._is_known(book):
            self.left_out["same content"] += 1
            return
        for value in book.sample:
            self._owners.setdefault(value, []).append(len(self.books))
        self.books.append(book)
        if named:
            self._keys.add(book.key)

    def _is_known(self, book: Survey) -> bool:
        """Whether a book taken before has too much in common with this one."""
        common = Counter(owner for value in book.sample for owner in self._owners.get(value, ()))
        return any(
            number > DUPLICATE_SHARE * min(len(book.sample), len(self.books[owner].sample))
            for owner, number in common.items()
            if self.books[owner].words >= SHORT
        )


def select(surveys: list[Survey], exclusions: Exclusions) -> Selection:
    """Apply the rules, file after file in the given order."""
    selection = Selection()
    read_out = {book.key for book in surveys if book.shared > LIMIT and all(book.key)}
    for book in surveys:
        if reason := _refusal(book, exclusions, read_out):
            selection.left_out[reason] += 1
        else:
            selection.offer(book)
    return selection


def _refusal(book: Survey, exclusions: Exclusions, read_out: set[tuple[str, str]]) -> str | None:
    """Why a book is not wanted whatever else is there."""
    if book.words < LEAST_WORDS:
        return "too short"
    told = book.language.lower()
    if book.function_share < LEAST_FUNCTION_SHARE or (told and "english" not in told):
        return "not English"
    if book.shared > LIMIT:
        return "shares sequences with the references"
    if book.key in read_out:
        return "another edition shares sequences with the references"
    if exclusions.name(book.key):
        return "excluded by author or title"
    return None
