"""The pronunciation lexicon as a tree of phones, in flat arrays that are read in place.

Node 0 is the root; a path from it spells the beginning of words, and every node lists the words
that are complete there. Nodes are numbered breadth first, so that the children of a node are
neighbours and every child's number is larger than its parent's.

The file `lexicon.tree`, little-endian, is mapped into memory and shared by all processes: a header
of 64 bytes (magic `ASRLEXI1`, then uint32 V, N, E, W, CRC-32 of the units, CRC-32 of the words),
then, each aligned to 64 bytes: first_child uint32[N + 1], first_word uint32[N + 1], words
uint32[E], phone uint8[N].

Sizes: V units of the head with the blank at 0, N nodes, E words at nodes, W words of the language
model.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asr.errors import BundleError, DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

MAGIC = b"ASRLEXI1"
HEADER = struct.Struct("<8s6I")
ALIGNMENT = 64
MAX_UNITS = 256
MAX_HOMOPHONES = 64  # words at one node: bounds the work of a frame

Numbers = NDArray[np.uint32]
Scores = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """A lexicon tree.

    Attributes:
        phone: unit that leads to each node, uint8 [N]; 0 for the root.
        first_child: the children of node n are first_child[n] … first_child[n + 1] - 1.
        first_word: the words at node n are words[first_word[n] … first_word[n + 1] - 1].
        words: their numbers in the language model, ascending at each node.
        units_check: CRC-32 of the units that the phones count in.
        words_check: CRC-32 of the words that the numbers count in.
    """

    phone: NDArray[np.uint8]
    first_child: Numbers
    first_word: Numbers
    words: Numbers
    units_check: int
    words_check: int

    @property
    def homophones(self) -> int:
        """The most words at one node."""
        return int(_counts(self.first_word).max())

    def path(self, word: int) -> list[int]:
        """The nodes below the root on the way to a word, in all its pronunciations."""
        places = np.flatnonzero(self.words == word)
        nodes = (np.searchsorted(self.first_word, places, "right") - 1).tolist()
        found: list[int] = []
        for node in nodes:
            at = node
            while at:
                found.append(at)
                at = int(np.searchsorted(self.first_child, at, "right")) - 1
        return found

    def demand(self, units: Sequence[str], words: Sequence[str]) -> None:
        """Refuse to be used with other units or words than it was made for.

        Raises:
            BundleError: they differ.
        """
        if self.units_check != check(units):
            raise BundleError("the lexicon was made for other units than the head has")
        if self.words_check != check(words):
            raise BundleError("the lexicon was made for other words than the language model has")


@dataclass(frozen=True, slots=True, eq=False)
class LookAhead:
    """What is known of the words below each node.

    Attributes:
        score: best unigram score of a word at or below the node, int32 [N]; 0 for the root.
        word: that word, int32 [N].
    """

    score: Scores
    word: Scores


def check(lines: Sequence[str]) -> int:
    """CRC-32 by which lists of units and words are told apart."""
    return zlib.crc32("\n".join(lines).encode())


def build(
    pronunciations: Iterable[tuple[str, Sequence[str]]], words: Sequence[str], units: Sequence[str]
) -> Lexicon:
    """Make the tree.

    Args:
        pronunciations: word and phones, any number of lines a word; those of words that the
            language model lacks and those with a phone that is no unit are left out.
        words: of the language model in the order of their numbers.
        units: of the head, the blank first, at most 256.

    Raises:
        DataError: nothing is left, or more than 64 words sound alike.
    """
    number = {word: n for n, word in enumerate(words)}
    unit = {name: n for n, name in enumerate(units) if n}
    children: list[dict[int, int]] = [{}]
    at: list[set[int]] = [set()]
    for word, phones in pronunciations:
        if word not in number or not phones or not all(name in unit for name in phones):
            continue
        node = 0
        for name in phones:
            if unit[name] not in children[node]:
                children[node][unit[name]] = len(children)
                children.append({})
                at.append(set())
            node = children[node][unit[name]]
        at[node].add(number[word])
    if len(children) == 1 or len(units) > MAX_UNITS:
        raise DataError(
            "the lexicon has no word that the language model knows and the units can write"
        )
    if max(map(len, at)) > MAX_HOMOPHONES:
        raise DataError(f"the lexicon has more than {MAX_HOMOPHONES} words of one pronunciation")
    order, phone = [0], [0]
    for node in order:  # grows meanwhile: breadth first
        for number_of_phone, child in sorted(children[node].items()):
            order.append(child)
            phone.append(number_of_phone)
    return Lexicon(
        np.array(phone, np.uint8),
        _starts([len(children[node]) for node in order], 1),
        _starts([len(at[node]) for node in order], 0),
        np.array([word for node in order for word in sorted(at[node])], np.uint32),
        check(units),
        check(words),
    )


def read_pronunciations(paths: Iterable[str | os.PathLike[str]]) -> list[tuple[str, list[str]]]:
    """All pronunciations of `WORD<TAB>PH ON ES` files, plain or .xz, the words in lower case.

    Raises:
        DataError: a file is missing, damaged, or has another line in it.
    """
    found: list[tuple[str, list[str]]] = []
    for path in map(Path, paths):
        try:
            opener = lzma.open if path.suffix == ".xz" else open
            with opener(path, "rt", encoding="utf-8") as lines:
                for line in lines:
                    word, _, phones = line.rstrip("\n").partition("\t")
                    if not phones.split():
                        raise DataError(f"{path}: the line {line.strip()!r} is not WORD<TAB>phones")
                    found.append((word.lower(), phones.split()))
        except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path}: cannot be read: {reason}") from error
    return found


def write(lexicon: Lexicon, path: str | os.PathLike[str], units: int, words: int) -> None:
    """Write `lexicon.tree`.

    Args:
        lexicon: what to write.
        path: of the file.
        units: V.
        words: W.
    """
    numbers = (lexicon.first_child, lexicon.first_word, lexicon.words)
    parts = [*(part.astype("<u4").tobytes() for part in numbers), lexicon.phone.tobytes()]
    sizes = (units, len(lexicon.phone), len(lexicon.words), words)
    head = HEADER.pack(MAGIC, *sizes, lexicon.units_check, lexicon.words_check)
    with Path(path).open("wb") as file:
        file.writelines(part + bytes(-len(part) % ALIGNMENT) for part in (head, *parts))


def read(path: str | os.PathLike[str]) -> Lexicon:
    """Map `lexicon.tree` into memory and check that every number in it makes sense.

    Raises:
        BundleError: the file is missing, cut off, damaged or of another kind.
    """
    path = Path(path)
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "empty"
        raise BundleError(f"{path}: the lexicon cannot be read ({reason})") from error
    if len(data) < HEADER.size or bytes(data[:8]) != MAGIC:
        raise BundleError(f"{path}: not a lexicon: the first bytes differ")
    _, v, n, e, w, units_check, words_check = HEADER.unpack(bytes(data[: HEADER.size]))
    parts: list[NDArray[np.uint8]] = []
    offset = ALIGNMENT
    for length in (4 * (n + 1), 4 * (n + 1), 4 * e, n):
        parts.append(data[offset : offset + length])
        offset += -(-length // ALIGNMENT) * ALIGNMENT
    if offset != len(data):
        raise BundleError(f"{path}: the lexicon has {len(data)} bytes; its header says {offset}")
    first_child, first_word, words = (part.view("<u4") for part in parts[:3])
    lexicon = Lexicon(parts[3], first_child, first_word, words, units_check, words_check)
    if not _sound(lexicon, v, w):
        raise BundleError(f"{path}: the lexicon is damaged: it holds numbers that cannot be")
    return lexicon


def look_ahead(lexicon: Lexicon, unigrams: Scores) -> LookAhead:
    """Smear the unigram scores over the tree (Ortmanns and Ney 2000, "Look-ahead techniques").

    Args:
        lexicon: the tree.
        unigrams: score of each word, int32 [W], in 1/1024 nat.
    """
    N = len(lexicon.phone)
    parent = np.repeat(np.arange(N), _counts(lexicon.first_child))
    home = np.repeat(np.arange(N), _counts(lexicon.first_word))
    scores = unigrams[lexicon.words].astype(np.int64)
    # Score and word in one number, so that the larger is the better word, or the lower-numbered.
    best = np.full(N, np.iinfo(np.int64).min)
    np.maximum.at(best, home, (scores << 24) + (0xFFFFFF - lexicon.words.astype(np.int64)))
    for first, end in reversed(_levels(lexicon)[1:]):
        above = parent[first - 1 : end - 1]  # the root has no parent
        np.maximum.at(best, above, best[first:end])
    score = best >> 24
    score[0] = 0
    return LookAhead(score.astype(np.int32), (0xFFFFFF - (best & 0xFFFFFF)).astype(np.int32))


def phone_bigrams(lexicon: Lexicon, units: int) -> NDArray[np.int64]:
    """How often each phone follows each in the words of the tree [V, V]; 0 is a word's outside."""
    N = len(lexicon.phone)
    parent = np.repeat(np.arange(N), _counts(lexicon.first_child))  # of nodes 1 … N - 1
    at = _counts(lexicon.first_word)
    below = at.copy()
    for first, end in reversed(_levels(lexicon)[1:]):
        np.add.at(below, parent[first - 1 : end - 1], below[first:end])
    phone = lexicon.phone.astype(np.int64)
    counts = np.zeros((units, units), np.int64)
    np.add.at(counts, (phone[parent], phone[1:]), below[1:])
    np.add.at(counts, (phone, np.zeros_like(phone)), at)
    return counts


def _levels(lexicon: Lexicon) -> list[tuple[int, int]]:
    """First and end of the nodes of each depth."""
    levels, first, end = [], 0, 1
    while first < end:
        levels.append((first, end))
        first, end = end, int(lexicon.first_child[end])
    return levels


def _starts(counts: list[int], first: int) -> Numbers:
    return (first + np.cumsum([0, *counts])).astype(np.uint32)


def _counts(starts: Numbers) -> NDArray[np.int64]:
    return np.diff(starts.astype(np.int64)).astype(np.int64)


def _sound(lexicon: Lexicon, units: int, words: int) -> bool:
    """Whether no number leads out of the arrays, and every node leads to a word."""
    child, word = lexicon.first_child.astype(np.int64), lexicon.first_word.astype(np.int64)
    N = len(lexicon.phone)
    if N < 2 or not 2 <= units <= MAX_UNITS or len(lexicon.words) == 0:
        return False
    ends = (child[0], child[-1], word[0], word[-1]) == (1, N, 0, len(lexicon.words))
    rising = (np.diff(child) >= 0).all() and (child[:-1] > np.arange(N)).all()
    leaves = np.diff(child) == 0
    counts = np.diff(word)
    full = (counts >= 0).all() and counts.max() <= MAX_HOMOPHONES and (counts[leaves] > 0).all()
    phones = lexicon.phone[0] == 0 and lexicon.phone[1:].min() > 0 and lexicon.phone.max() < units
    return bool(
        ends and rising and full and phones and counts[0] == 0 and lexicon.words.max() < words
    )
