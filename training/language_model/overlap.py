"""What a text shares with reference transcripts: so that what is tested is not in what was read.

Counted are distinct sequences of words, as in the card of a model: 7 words tell how much is
common phrase, 8 words decide. A book that shares more than a few sequences is a book that was read
out; in another the lines with a shared sequence are enough.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import DataError
from training.language_model.fingerprints import Words, words_of
from training.language_model.text import TITLE, create_text, line_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

LENGTH = 8  # words of a sequence that is no coincidence
FILTER_BITS = 23
_FILTER_MASK = np.uint64((1 << FILTER_BITS) - 1)
LIMIT = 3  # distinct shared sequences that a book may have


@dataclass(frozen=True)
class References:
    """The distinct sequences of words in reference transcripts, ascending hashes by length."""

    sequences: dict[int, Hashes]

    @classmethod
    def of(cls, transcripts: Iterable[str], lengths: tuple[int, ...] = (LENGTH,)) -> References:
        """Take in transcripts; no sequence goes from one into the next."""
        words = words_of("\n".join(transcripts))
        return cls(
            {n: np.unique(words.sequences(n, across_lines=False)[0]) for n in lengths},
        )

    def shared(self, words: Words, length: int = LENGTH) -> tuple[Hashes, NDArray[np.intp]]:
        """The hashes of a text's sequences that are in here, and where they begin."""
        hashes, begins = words.sequences(length)
        known = self.sequences[length]
        if len(known) == 0 or len(hashes) == 0:
            return hashes[:0], begins[:0]
        likely = np.flatnonzero(self._filters[length][hashes & _FILTER_MASK])
        hashes, begins = hashes[likely], begins[likely]
        there = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes
        return hashes[there], begins[there]

    @cached_property
    def _filters(self) -> dict[int, NDArray[np.bool_]]:
        """Which low bits occur: rules out most sequences at a fraction of a search's cost."""
        filters = {}
        for length, known in self.sequences.items():
            filters[length] = np.zeros(1 << FILTER_BITS, np.bool_)
            filters[length][known & _FILTER_MASK] = True
        return filters


@dataclass(frozen=True)
class Purged:
    """What is left of a book.

    Attributes:
        lines: those without a shared sequence; none of a book with more than LIMIT of them.
        shared: number of distinct shared sequences that the book had.
    """

    lines: list[str]
    shared: int


def purge(lines: list[str], references: References, limit: int = LIMIT) -> Purged:
    """Take what references share out of a book."""
    words = words_of("\n".join(lines))
    hashes, begins = references.shared(words)
    number = len(np.unique(hashes))
    if number > limit:
        return Purged([], number)
    touched: set[int] = set()
    for begin in begins:
        touched.update(words.lines[begin : begin + LENGTH].tolist())
    return Purged([line for i, line in enumerate(lines) if i not in touched], number)


def read_transcripts(path: Path) -> list[str]:
    """The transcripts of a text (one a line) or of a manifest (.jsonl, their key `text`).

    Raises:
        DataError: the file cannot be read, or a line of the manifest has no text.
    """
    lines = [line for block in line_blocks(path) for line in block if line.strip()]
    if path.suffix != ".jsonl":
        return [line for line in lines if not line.startswith(TITLE)]
    found = []
    for number, line in enumerate(lines, 1):
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number}: no JSON object with a text") from error
        found.append(str(text))
    return found


def books_in(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Title line and lines of each book of a text; one book of no title if there are no titles."""
    title, lines = "", list[str]()
    for block in line_blocks(path):
        for line in block:
            if line.startswith(TITLE):
                if lines:
                    yield title, lines
                title, lines = line, []
            elif line.strip():
                lines.append(line)
    if lines:
        yield title, lines


class Overlap:
    """How much of some references stands in a text, sequence by sequence and book by book."""

    LENGTHS = (7, 8)

    def __init__(self, references: dict[str, References]) -> None:
        """Begin with a text of nothing.

        Args:
            references: by name, with sequences of all LENGTHS.
        """
        self._references = references
        self._found: dict[tuple[str, int], list[Hashes]] = {}
        self._books: Counter[int] = Counter()
        self._most = (0, "")
        self._dropped: dict[str, int] = {}

    def add(self, path: Path, say: Callable[[str], None]) -> None:
        """Look at a text more, book by book."""
        for number, (title, lines) in enumerate(books_in(path), 1):
            words = words_of("\n".join(lines))
            shared = np.zeros(0, np.uint64)
            for name, references in self._references.items():
                for length in self.LENGTHS:
                    hashes = np.unique(references.shared(words, length)[0])
                    self._found.setdefault((name, length), []).append(hashes)
                    if length == LENGTH:
                        shared = np.union1d(shared, hashes)
            self._books[len(shared)] += 1
            self._most = max(self._most, (len(shared), title))
            say(f"{path.name}: {number:,} books, {sum(self._books.values()):,} in all")

    def drop(
        self,
        texts: Iterable[Path],
        references: References,
        out: Path,
        say: Callable[[str], None],
    ) -> None:
        """Write texts without the books and lines that share too much.

        Args:
            texts: as they were added.
            references: all of them together.
            out: .txt, .gz or .xz.
            say: told what goes on.
        """
        books = lines_dropped = kept = 0
        with create_text(out) as file:
            for path in texts:
                for title, lines in books_in(path):
                    left = purge(lines, references).lines
                    if not left:
                        books += 1
                        continue
                    lines_dropped += len(lines) - len(left)
                    kept += len(left)
                    file.writelines(f"{line}\n" for line in ([title] if title else []) + left)
                    say(f"{out.name}: {kept:,} lines kept")
        self._dropped = {"books_dropped": books, "lines_dropped": lines_dropped, "lines_kept": kept}

    def report(self) -> dict[str, object]:
        """Distinct sequences of each reference that the text has, and how they lie in books."""
        told: dict[str, object] = {}
        for name, references in self._references.items():
            for length in self.LENGTHS:
                parts = self._found.get((name, length), [])
                number = len(np.unique(np.concatenate(parts))) if parts else 0
                told[f"{name}: sequences of {length} words"] = len(references.sequences[length])
                told[f"{name}: shared sequences of {length} words"] = number
        told["books"] = sum(self._books.values())
        told["books with shared sequences"] = sum(self._books.values()) - self._books[0]
        told["most shared sequences in a book"], told["that book"] = self._most
        return told | self._dropped
