"""Many books to one text of sentences: chosen, cleaned, spelled out, each line once.

First every file is surveyed, then the books that are wanted are normalised, then they become one
text. The first two steps leave their results beside the output, so that a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from asr import parallel
from asr.errors import DataError
from training.language_model.books import SUFFIXES, read_book
from training.language_model.fingerprints import line_hashes, words_of
from training.language_model.normalisation import sentences_of
from training.language_model.overlap import References, purge
from training.language_model.paragraphs import paragraphs_of
from training.language_model.selection import Exclusions, select
from training.language_model.survey import Survey, is_function_word, survey
from training.language_model.text import TITLE, create_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Say = Callable[[str], None]

Result = TypeVar("Result")

LINE_WORDS = 10  # from so many words on a line must have
LINE_SHARE = 0.2  # this share of function words, else it is no English
SINGLE = 5  # from so many words on a line is kept only at its first place


@dataclass(frozen=True)
class Prepared:
    """What came of it.

    Attributes:
        files: found.
        left_out: how many were left out, by reason.
        books: in the text, with their sentences and words.
        sentences: see books.
        words: see books.
        repeated: lines left out because they stood somewhere before.
        shared: lines left out because references share sequences with them.
        purged: books that turned out to share too much only when they were normalised.
    """

    files: int
    left_out: dict[str, int]
    books: int
    sentences: int
    words: int
    repeated: int
    shared: int
    purged: int


@dataclass(frozen=True)
class Work:
    """What is done to one file, in this process or another."""

    references: References

    def survey(self, file: str) -> Survey:
        """Look at the file."""
        return survey(file, self.references)

    def normalise(self, file: str) -> tuple[str, str]:
        """The name of the file's part, and its text: a line of facts, then sentences."""
        sentences = sentences_of(paragraphs_of(read_book(Path(file)).text))
        english = [
            line for line, good in zip(sentences, _are_english(sentences), strict=True) if good
        ]
        purged = purge(english, self.references)
        facts = {
            "file": file,
            "shared_sequences": purged.shared,
            "shared_lines": len(english) - len(purged.lines) if purged.lines else 0,
            "purged": int(bool(english) and not purged.lines),
        }
        return part_name(file, Path(file).stat().st_size), "".join(
            f"{line}\n" for line in [json.dumps(facts), *purged.lines]
        )


def part_name(file: str, size: int) -> str:
    """The name of the file that keeps a book's sentences; a book of another size has another."""
    return f"{hashlib.sha256(f'{size} {file}'.encode()).hexdigest()[:20]}.part"


def _are_english(sentences: list[str]) -> NDArray[np.bool_]:
    """Which sentences are short or have the function words that English needs."""
    good = np.ones(len(sentences), np.bool_)
    words = words_of("\n".join(sentences))
    if len(words.hashes) == 0:
        return good
    sizes = np.bincount(words.lines, minlength=len(sentences))
    function = np.bincount(words.lines, is_function_word(words), len(sentences))
    return np.asarray((sizes < LINE_WORDS) | (function >= LINE_SHARE * sizes))


def find_books(paths: list[Path]) -> list[Path]:
    """The files given and those below folders, sorted, without hidden ones.

    Raises:
        DataError: a path is absent, or there is no book at all.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: there is no such file or folder")
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [
            p for p in inside
            if p == path or (p.suffix in SUFFIXES and p.is_file() and not p.name.startswith("."))
        ]  # fmt: skip
    if not found:
        raise DataError(f"no book ({' or '.join(SUFFIXES)}) in {', '.join(map(str, paths))}")
    return found


class Preparation:
    """Makes one text of many books.

    Attributes:
        out: the text, plain, .gz or .xz.
        parts: the folder beside it that keeps what is done.
    """

    def __init__(self, out: Path, references: References, say: Say, jobs: int = 1) -> None:
        """Prepare to prepare.

        Args:
            out: the text to make.
            references: whose sequences are kept out of it.
            say: told what goes on.
            jobs: processes.
        """
        self.out = out
        self.parts = out.with_name(f"{out.name}.parts")
        self._references = references
        self._say = say
        self._jobs = jobs

    def run(self, files: list[Path], exclusions: Exclusions) -> Prepared:
        """Survey, select, normalise, assemble.

        Args:
            files: of two that are the same book the first is taken.
            exclusions: authors and titles to leave out.

        Raises:
            DataError: a file cannot be read, or none is a book that is wanted.
            Error: a process died.
        """
        self.parts.mkdir(parents=True, exist_ok=True)
        surveys = self._survey(files)
        selection = select(surveys, exclusions)
        self._say(f"{len(selection.books):,} of {len(files):,} files are books to take")
        if not selection.books:
            reasons = ", ".join(f"{n} {why}" for why, n in selection.left_out.most_common())
            raise DataError(f"none of {len(files):,} files is a book to take: {reasons}")
        self._normalise(selection.books)
        return self._assemble(len(files), dict(selection.left_out), selection.books)

    def _survey(self, files: list[Path]) -> list[Survey]:
        """Look at each file once; those of a run before that have not changed are known."""
        store = self.parts / "surveys.jsonl"
        known = {(found.file, found.size): found for found in _read_surveys(store)}
        wanted = [(str(path), path.stat().st_size) for path in files]
        missing = [name for name, size in wanted if (name, size) not in known]
        with store.open("a", encoding="utf-8") as file:
            for found in self._map(Work.survey, missing, "surveyed"):
                known[found.file, found.size] = found
                file.write(json.dumps(asdict(found)) + "\n")
        return [known[key] for key in wanted]

    def _normalise(self, books: list[Survey]) -> None:
        """Write the sentences of each book that has no part yet."""
        missing = [book.file for book in books if not self._part(book).exists()]
        for name, text in self._map(Work.normalise, missing, "normalised"):
            unfinished = self.parts / f"{name}.new"
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(self.parts / name)

    def _map(
        self, work: Callable[[Work, str], Result], files: list[str], done: str
    ) -> Iterator[Result]:
        """The results of all files in order, with progress, in one process or several."""
        load = partial(Work, self._references)  # sent once to each process, for they are large
        for i, result in enumerate(parallel.each(load, work, files, self._jobs), 1):
            self._say(f"{done} {i:,} of {len(files):,} files")
            yield result

    def _part(self, book: Survey) -> Path:
        return self.parts / part_name(book.file, book.size)

    def _assemble(self, files: int, left_out: dict[str, int], books: list[Survey]) -> Prepared:
        """Write the text: of each book its title and the lines that stood nowhere before."""
        firsts = self._first_places(books)
        counts = dict.fromkeys(("books", "sentences", "words", "repeated", "shared", "purged"), 0)
        unfinished = self.out.with_name(f"new.{self.out.name}")
        with create_text(unfinished) as file:
            for book, first in zip(books, firsts, strict=True):
                facts, *lines = self._part(book).read_text("utf-8").split("\n")[:-1]
                told = json.loads(facts)
                kept = [line for line, is_first in zip(lines, first, strict=True) if is_first]
                counts["shared"] += told["shared_lines"]
                counts["purged"] += told["purged"]
                counts["repeated"] += len(lines) - len(kept)
                if not kept:
                    continue
                file.write(f"{TITLE}{book.name}\n")
                file.writelines(f"{line}\n" for line in kept)
                counts["books"] += 1
                counts["sentences"] += len(kept)
                counts["words"] += sum(line.count(" ") + 1 for line in kept)
                self._say(f"wrote {counts['books']:,} books, {counts['words'] / 1e6:,.1f} M words")
        unfinished.replace(self.out)
        return Prepared(files, left_out, **counts)

    def _first_places(self, books: list[Survey]) -> list[NDArray[np.bool_]]:
        """Of each line of each book whether it is short or stands there for the first time."""
        hashes: list[NDArray[np.uint64]] = []
        total = 0
        for book in books:
            text = self._part(book).read_text("utf-8").partition("\n")[2]
            _, found, sizes = line_hashes(words_of(text))
            own = np.arange(total, total + len(found), dtype=np.uint64)  # differs on every line
            hashes.append(np.where(sizes >= SINGLE, found, own))
            total += len(found)
            self._say(f"compared the lines of {len(hashes):,} of {len(books):,} books")
        if not books:
            return []
        first = np.zeros(total, np.bool_)
        first[np.unique(np.concatenate(hashes), return_index=True)[1]] = True
        return np.split(first, np.cumsum([len(part) for part in hashes])[:-1])


def _read_surveys(store: Path) -> Iterator[Survey]:
    """What a run before has seen; the last line may be cut off where it was stopped."""
    if not store.exists():
        return
    for line in store.read_text("utf-8").split("\n"):
        try:
            values = json.loads(line)
        except ValueError:
            continue
        values["key"], values["sample"] = tuple(values["key"]), tuple(values["sample"])
        yield Survey(**values)
