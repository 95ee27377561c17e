"""The words of a model, and texts as their ids."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import DataError
from training.language_model.text import line_blocks, sentence_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

UNKNOWN, START, END = 0, 1, 2
SPECIAL = ("<unk>", "<s>", "</s>")
# Marks of a sentence's ends while it is text. No whitespace, so they survive splitting; a literal
# `<s>` in a text is then a word like another, and unknown.
_START_MARK, _END_MARK = "\x01", "\x02"


@dataclass(frozen=True)
class Vocabulary:
    """W words by id; the first three are `<unk>`, `<s>` and `</s>`."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[:3] != SPECIAL:
            raise DataError(f"a vocabulary begins with {' '.join(SPECIAL)}, in this order")
        if len(set(self.words)) != len(self.words):
            raise DataError("a vocabulary holds every word once")

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Id by word, of all words but the special ones, which no text can hold."""
        return {word: i for i, word in enumerate(self.words) if i >= len(SPECIAL)}

    @cached_property
    def _marked(self) -> dict[str, int]:
        return {**self.ids, _START_MARK: START, _END_MARK: END}

    def encode(self, sentences: list[str]) -> NDArray[np.uint32]:
        """`<s>`, the words' ids (`<unk>` for others) and `</s>` of each sentence, in a row."""
        if not sentences:
            return np.zeros(0, np.uint32)
        joined = f" {_END_MARK} {_START_MARK} ".join(sentences)
        tokens = f"{_START_MARK} {joined} {_END_MARK}".split()
        return np.fromiter(map(self._marked.get, tokens, repeat(UNKNOWN)), np.uint32, len(tokens))

    def encoded(self, paths: Iterable[Path]) -> Iterator[NDArray[np.uint32]]:
        """The sentences of texts as ids, block after block; sentences are never cut."""
        for sentences in sentence_blocks(paths):
            yield self.encode(sentences)

    def save(self, path: Path) -> None:
        """Write one word a line, the line's number (from 0) being its id."""
        path.write_text("".join(f"{word}\n" for word in self.words), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises:
            DataError: the file is absent or no such list.
        """
        return cls(tuple(word for lines in line_blocks(path) for word in lines))


def count_words(
    paths: Iterable[Path], progress: Callable[[str], None] | None = None
) -> Counter[str]:
    """How often each word stands in the texts, in lower case."""
    counts: Counter[str] = Counter()
    total = 0
    for sentences in sentence_blocks(paths):
        words = "\n".join(sentences).split()
        total += len(words)
        counts.update(words)
        if progress:
            progress(f"words: {total / 1e6:,.1f} million, {len(counts):,} different")
    return counts


def choose(
    counts: Counter[str], size: int, allowed: set[str] | None = None, least: int = 1
) -> Vocabulary:
    """The most frequent words, ties in alphabetical order.

    Args:
        counts: of the words in a text.
        size: largest number of words, without the special ones.
        allowed: only words of this set, such as those that a lexicon can pronounce.
        least: only words seen this often.

    Raises:
        DataError: no word is left.
    """
    known = [
        (-count, word)
        for word, count in counts.items()
        if count >= least and (allowed is None or word in allowed) and word not in SPECIAL
    ]
    if not known:
        raise DataError("the vocabulary is empty: no word of the text is allowed")
    return Vocabulary((*SPECIAL, *(word for _, word in sorted(known)[:size])))


def lexicon_words(paths: Iterable[Path]) -> set[str]:
    """The first word of every line, in lower case: of a lexicon, those it can pronounce."""
    return {
        line.split()[0].lower()
        for path in paths
        for lines in line_blocks(path)
        for line in lines
        if line.strip()
    }
