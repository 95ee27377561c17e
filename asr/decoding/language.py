"""A language that can be searched: its words, how they sound, and how they follow each other.

In a bundle these are three files, all mapped into memory or read once: `lm.ngram`, `lm.words.txt`
(one word a line, the line's number is the word's) and `lexicon.tree`; two more where other words
can be spelled (`asr.decoding.spelling`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from asr.decoding import lexicon as lexicons
from asr.decoding.ngram import NGram
from asr.decoding.spelling import Speller, read_speller
from asr.errors import BundleError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from asr.decoding.lexicon import Lexicon

MODEL = "lm.ngram"
WORDS = "lm.words.txt"
LEXICON = "lexicon.tree"
FILES = (MODEL, WORDS, LEXICON)


class Language(NamedTuple):
    """Words, how they sound, and how they follow each other.

    Attributes:
        lexicon: made for the words of the language model.
        lm: the language model.
        words: its words, by number.
        speller: writes words that are not among them; None where nothing does.
    """

    lexicon: Lexicon
    lm: NGram
    words: Sequence[str]
    speller: Speller | None = None


def read_language(folder: str | os.PathLike[str], units: Sequence[str]) -> Language:
    """The language that lies in a bundle.

    Args:
        folder: of the bundle.
        units: of the head that the lexicon spells words in.

    Raises:
        BundleError: a file is missing or damaged, or they do not belong together.
    """
    folder = Path(folder)
    lm, words = read_model(folder)
    lexicon = lexicons.read(folder / LEXICON)
    lexicon.demand(units, words)
    return Language(lexicon, lm, words, read_speller(folder, units))


def read_model(folder: Path) -> tuple[NGram, list[str]]:
    """A language model and its words.

    Raises:
        BundleError: a file is missing or damaged, or they do not belong together.
    """
    try:
        words = (folder / WORDS).read_bytes().decode().removesuffix("\n").split("\n")
    except OSError as error:
        raise BundleError(f"{folder / WORDS}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{folder / WORDS}: damaged: it is not UTF-8") from error
    lm = NGram.open(folder / MODEL)
    if len(words) != lm.words:
        raise BundleError(
            f"{folder}: {WORDS} has {len(words)} words and {MODEL} {lm.words}; they do not belong "
            "together"
        )
    return lm, words
