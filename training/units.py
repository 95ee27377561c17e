"""What a CTC head writes: characters, pieces of words, or phones. Unit 0 is always the blank.

A list of unit strings is all there is to know: text is turned into units with that list alone, so
a bundle's `units.<head>.txt` is enough to go on training.
"""

from __future__ import annotations

import lzma
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from asr.decoding import WORD_BEGIN
from asr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BLANK_UNIT = "<blank>"
ALPHABET = "abcdefghijklmnopqrstuvwxyz'"


class Units(Protocol):
    """Turns text into numbers of units.

    Attributes:
        units: the unit strings; number 0 is `<blank>`.
    """

    units: list[str]

    def encode(self, text: str) -> list[int]:
        """Numbers of the units that spell a text of lower-case words with single spaces.

        Raises:
            DataError: the text holds something that these units cannot write.
        """
        ...


class Pieces:
    """Parts of words; single characters are the case of parts of length one.

    A word is cut into the fewest parts, and among those the one whose first parts are longest: a
    rule that needs nothing but the list.
    """

    def __init__(self, units: Sequence[str]) -> None:
        self.units = list(units)
        # without the blank: a text may hold the very characters of its name
        self._number = {unit: number for number, unit in enumerate(self.units) if number}
        self._longest = max(map(len, self._number), default=0)
        self._lone = WORD_BEGIN in self._number and not any(
            len(unit) > 1 for unit in self.units[1:]
        )
        self._cut = lru_cache(maxsize=200_000)(self._cut_word)

    def encode(self, text: str) -> list[int]:
        """See `Units.encode`."""
        numbers = [number for word in text.split() for number in self._cut(word)]
        return numbers[1:] if self._lone else numbers

    def _cut_word(self, word: str) -> tuple[int, ...]:
        if WORD_BEGIN in word:
            raise DataError(f"the word {word!r} holds {WORD_BEGIN}, the mark of a word's beginning")
        marked = WORD_BEGIN + word
        best: list[tuple[int, ...] | None] = [None] * len(marked) + [()]
        for start in range(len(marked) - 1, -1, -1):
            for end in range(min(len(marked), start + self._longest), start, -1):
                number, rest = self._number.get(marked[start:end]), best[end]
                if number is None or rest is None:
                    continue
                current = best[start]
                if current is None or len(rest) + 1 < len(current):
                    best[start] = (number, *rest)
        if best[0] is None:
            raise DataError(f"the word {word!r} has characters that no unit writes")
        return best[0]


class Phones:
    """Phones of a pronunciation lexicon, the first pronunciation of each word."""

    def __init__(self, units: Sequence[str], lexicon: dict[str, list[str]]) -> None:
        self.units = list(units)
        number = {unit: n for n, unit in enumerate(self.units)}
        self._words = {
            word: [number[phone] for phone in phones]
            for word, phones in lexicon.items()
            if all(phone in number for phone in phones)
        }

    def encode(self, text: str) -> list[int]:
        """See `Units.encode`."""
        try:
            return [number for word in text.split() for number in self._words[word]]
        except KeyError as error:
            raise DataError(f"the word {error} has no pronunciation in the lexicon") from error


def characters() -> Pieces:
    """The letters, the apostrophe and the space between words."""
    return Pieces([BLANK_UNIT, WORD_BEGIN, *ALPHABET])


def pieces(texts: Iterable[str], size: int) -> Pieces:
    """Parts of words chosen by byte-pair encoding (Sennrich et al. 2016) from texts.

    Args:
        texts: lower-case words with single spaces.
        size: number of units without the blank.

    Raises:
        ConfigError: the texts are too few for so many pieces, or hold too many characters for so
            few.
    """
    import sentencepiece

    model = BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=size + 1,
            required_chars=ALPHABET,
            character_coverage=1.0,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigError(
            f"heads: these transcripts do not give {size} pieces; choose another size, or the kind "
            f"characters ({str(error).strip().splitlines()[0]})"
        ) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    learnt = [processor.id_to_piece(n) for n in range(1, processor.get_piece_size())]
    return Pieces([BLANK_UNIT, *learnt])


def phones(lexicon: dict[str, list[str]], units: Sequence[str] | None = None) -> Phones:
    """The phones of a lexicon in alphabetical order (or in that of given units)."""
    if units is None:
        units = [BLANK_UNIT, *sorted({phone for phones in lexicon.values() for phone in phones})]
    return Phones(units, lexicon)


def read_lexicon(paths: Sequence[str]) -> dict[str, list[str]]:
    """First pronunciation of each word, in lower case; earlier files win.

    Args:
        paths: files of `WORD<TAB>PH ON ES` lines, UTF-8, plain or .xz.

    Raises:
        DataError: a file that is missing, damaged, or has another line in it.
    """
    words: dict[str, list[str]] = {}
    for path in map(Path, paths):
        try:
            opener = lzma.open if path.suffix == ".xz" else open
            with opener(path, "rt", encoding="utf-8") as lines:
                for line in lines:
                    word, _, sounds = line.rstrip("\n").partition("\t")
                    if not sounds.split():
                        raise DataError(f"{path}: the line {line.strip()!r} is not WORD<TAB>phones")
                    words.setdefault(word.lower(), sounds.split())
        except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path}: cannot be read: {reason}") from error
    return words
