"""How a word is written that the lexicon lacks: what was heard of it, as letters.

A joint n-gram (Bisani and Ney 2008, "Joint-sequence models for grapheme-to-phoneme conversion",
the other way round): a word is a sequence of **pairs** of one or two phones and the letters that
write them, `K=c` or `K.S=x`, and an n-gram over pairs says how they follow each other. The
likeliest sequence of pairs whose phones are those heard gives the letters.

In a bundle these are two files: `spelling.ngram`, in the compact form of a language model, and
`spelling.pairs.txt`, the pairs by number, one a line. Both are learned from a lexicon by
`asr export --spelling`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.decoding.lexicon import phone_bigrams
from asr.decoding.ngram import END, NGram
from asr.errors import BundleError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from asr.decoding.lexicon import Lexicon

MODEL = "spelling.ngram"
PAIRS = "spelling.pairs.txt"
SPECIAL = 3  # pairs that are none: unknown, beginning and end of a word
MOST_PHONES = 2  # of a pair
BEAM = 4  # ways to write the phones so far that are followed up; 8 take twice the time for 1 %
REMEMBERED = 1024  # beginnings of words
RIGHT = 0.45  # share of a lexicon's words that are written right by others of it, phones known

Way = tuple[int, int, str]  # minus the score, state of the n-gram, letters
Phones = tuple[int, ...]


class Speller:
    """Writes phones as letters. What it remembers changes no result."""

    def __init__(self, pairs: Sequence[str], lm: NGram, units: Sequence[str]) -> None:
        """Read the pairs.

        Args:
            pairs: by number, `PHONE=letters` or `PHONE.PHONE=letters` from the fourth on.
            lm: says how they follow each other.
            units: of the head that phones are units of.

        Raises:
            BundleError: a pair is none, or of other units.
        """
        number = {unit: n for n, unit in enumerate(units) if n}
        self._pairs: dict[Phones, list[tuple[int, str]]] = {}
        for n, pair in enumerate(pairs[SPECIAL:], SPECIAL):
            names, _, letters = pair.partition("=")
            phones = tuple(number.get(name, 0) for name in names.split("."))
            if not letters or 0 in phones or len(phones) > MOST_PHONES:
                raise BundleError(f"{PAIRS}: {pair!r} is no pair of the head's units and letters")
            self._pairs.setdefault(phones, []).append((n, letters))
        self._lm = lm
        self._units = units
        self._ways = lru_cache(REMEMBERED)(self._written)

    def spell(self, phones: Phones) -> str:
        """The likeliest letters for phones; empty for none."""
        for n in range(len(phones)):  # shorter ones first, since the longer are made of them
            self._ways(phones[:n])
        ends = [
            (score - self._lm.score(state, END)[0], text)
            for score, state, text in self._ways(phones)
        ]
        return min(ends)[1]

    def _written(self, phones: Phones) -> list[Way]:
        """The best ways to write phones that begin a word, best first."""
        if not phones:
            return [(0, self._lm.start, "")]
        best: dict[int, Way] = {}
        for size in range(1, min(MOST_PHONES, len(phones)) + 1):
            pairs = self._pairs.get(phones[-size:], [])
            for score, state, text in self._ways(phones[:-size]) if pairs else ():
                for pair, letters in pairs:
                    more, after = self._lm.score(state, pair)
                    way = (score - more, after, text + letters)
                    best[after] = min(way, best.get(after, way))
        if not best:  # no pair writes the last phone: its own name does
            name = self._units[phones[-1]].lower()
            return [(score, state, text + name) for score, state, text in self._ways(phones[:-1])]
        return sorted(best.values())[:BEAM]


def read_speller(folder: str | os.PathLike[str], units: Sequence[str]) -> Speller | None:
    """What spells words in a bundle; None where nothing does.

    Args:
        folder: of the bundle.
        units: of the head that phones are units of.

    Raises:
        BundleError: a file is missing or damaged, or they do not belong together.
    """
    folder = Path(folder)
    if not (folder / MODEL).is_file() and not (folder / PAIRS).is_file():
        return None
    try:
        pairs = (folder / PAIRS).read_bytes().decode().removesuffix("\n").split("\n")
    except OSError as error:
        raise BundleError(f"{folder / PAIRS}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{folder / PAIRS}: damaged: it is not UTF-8") from error
    lm = NGram.open(folder / MODEL)
    if len(pairs) != lm.words:
        raise BundleError(
            f"{folder}: {PAIRS} has {len(pairs)} pairs and {MODEL} {lm.words}; they do not belong "
            "together"
        )
    return Speller(pairs, lm, units)


def tolls(lexicon: Lexicon, units: int, weight: int) -> NDArray[np.int32]:
    """What each phone of an unknown word costs behind the one before, int32 [V, V], ≤ 0.

    A phone bigram of the lexicon's words (Witten and Bell 1991). Row 0 is for the first phone of a
    word. That a word ends costs nothing: what follows from it is in the cost of a word.

    Args:
        lexicon: the tree.
        units: V.
        weight: of the logarithms, in 1/1024.
    """
    counts = phone_bigrams(lexicon, units).astype(np.float64)
    single = (counts.sum(0) + 1) / (counts.sum() + units)
    kinds = np.maximum(1, (counts > 0).sum(1, keepdims=True))
    probable = (counts + kinds * single) / (counts.sum(1, keepdims=True) + kinds)
    made: NDArray[np.int32] = np.rint(weight * np.log(probable)).astype(np.int32)
    made[:, 0] = 0
    return made


def heard(sounds: bytes) -> Phones:
    """The phones of frames, whose likeliest units are given: repeats merged, blanks dropped."""
    before = b"\0" + sounds
    return tuple(unit for last, unit in zip(before, sounds, strict=False) if unit and unit != last)
