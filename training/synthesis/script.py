"""What is to be spoken: passages of running text, or phrases as they are, in random order.

Only what can be read in one way is taken: the transcript must be what is said, and nobody listens.
So numerals, abbreviations, initials and foreign letters are out; `asr lm prepare` spells the former
out.
"""

from __future__ import annotations

import heapq
import re
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.language_model.normalisation import plain_characters
from training.language_model.text import TITLE, line_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

PASSAGE_WORDS = (6, 12, 18, 24, 30, 34)  # a passage has about one of these numbers
SHORTEST, LONGEST = 2, 38  # words of a passage; a phrase may have one
SPEAKER_UTTERANCES = 24  # in a row by one speaker, at most

_TITLES = "Mr|Mrs|Messrs|Mme|Mlle|Dr|Prof|Rev|Hon|Esq|St|Mt|Ft|Co|Vol|No|Jr|Sr"
_RANKS = "Capt|Col|Gen|Lieut|Lt|Sergt|Maj|Gov"
_DOUBTFUL = re.compile(
    r"[^A-Za-z ,.;:!?'\"-]"
    rf"|\b(?:{_TITLES}|{_RANKS})\b"
    r"|\b[A-Z]{2,}\b"  # of letters or a word?
    r"|(?<![A-Za-z]')\b[b-hj-zB-HJ-Z]\b(?!'[A-Za-z])"  # initials and letters, not `don't`, `o'er`
)
_SPEAKER_I = re.compile(r"\bi\b")
_NOT_SPOKEN = re.compile(r"[^A-Z' ]")
_OUTER_APOSTROPHE = re.compile(r"(?<![A-Z])'|'(?![A-Z])")


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance to be.

    Attributes:
        number: its place in the script, from 0.
        speaker: number of who speaks it, from 0.
        text: with what case and punctuation there was.
    """

    number: int
    speaker: int
    text: str


def script_of_passages(
    paths: Sequence[Path], seed: int, *, most_words: int = sys.maxsize, cover: int = 0
) -> list[Line]:
    """A script of running text: neighbouring sentences put together to passages of many lengths.

    Args:
        paths: texts, one sentence a line, with case and punctuation or in capitals; `# ` begins the
            title of a book, which is not spoken.
        seed: of lengths and order.
        most_words: about so many words at least, where there are as many; a longer script begins
            with the lines of a shorter one.
        cover: leave out what only has words that were spoken so often before; 0: nothing. Rare
            words then get a larger share.

    Raises:
        DataError: a text cannot be read.
    """
    rng = np.random.default_rng((seed, 1))
    found = ((float(rng.random()), passage) for passage in passages(paths, rng))
    bounded = not cover and most_words < sys.maxsize
    ordered = heapq.nsmallest(most_words // SHORTEST, found) if bounded else sorted(found)
    texts = _up_to(most_words, covering((text for _, text in ordered), cover))
    return [Line(n, n // SPEAKER_UTTERANCES, text) for n, text in enumerate(texts)]


def script_of_phrases(paths: Sequence[Path], seed: int, times: int) -> tuple[list[Line], list[str]]:
    """A script of phrases, one a line, each so many times and by another speaker each time.

    Args:
        paths: lists of words and phrases; `# ` begins a remark.
        seed: of the order.
        times: how often each is spoken.

    Returns:
        The script, and the phrases that are left out because they can be read in several ways.

    Raises:
        DataError: a list cannot be read.
    """
    rng = np.random.default_rng((seed, 1))
    given = [line.strip() for path in paths for block in line_blocks(path) for line in block]
    given = [phrase for phrase in dict.fromkeys(given) if phrase and not phrase.startswith(TITLE)]
    phrases = [text for phrase in given if (text := readable(phrase))]
    refused = [phrase for phrase in given if not readable(phrase)]
    speakers = -(-len(phrases) // SPEAKER_UTTERANCES)
    lines: list[Line] = []
    for round_ in range(times):
        for place, index in enumerate(rng.permutation(len(phrases)).tolist()):
            speaker = round_ * speakers + place // SPEAKER_UTTERANCES
            lines.append(Line(len(lines), speaker, phrases[index]))
    return lines, refused


def passages(paths: Iterable[Path], rng: np.random.Generator) -> Iterator[str]:
    """Runs of neighbouring sentences that can be read in one way, 2 to 38 words each."""
    for path in paths:
        run: list[str] = []
        for block in line_blocks(path):
            for line in block:
                text = "" if line.startswith(TITLE) else readable(line)
                if text:
                    run.append(text)
                else:
                    yield from _cut(run, rng)
                    run = []
        yield from _cut(run, rng)


def _cut(run: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    at = 0
    while at < len(run):
        wanted, end, words = int(rng.choice(PASSAGE_WORDS)), at, 0
        while end < len(run) and (not words or words + len(run[end].split()) <= wanted):
            words, end = words + len(run[end].split()), end + 1
        if SHORTEST <= words <= LONGEST:
            yield " ".join(run[at:end])
        at = end


def readable(line: str) -> str:
    """A line as a voice reads it, or nothing where it could be read in several ways.

    Text all in capitals (as `asr lm prepare` writes it) becomes lower case.
    """
    text = " ".join(plain_characters(line).split())
    if text.upper() == text:
        text = _SPEAKER_I.sub("I", text.lower())
    return "" if _DOUBTFUL.search(text) or not transcript(text) else text


def transcript(text: str) -> str:
    """What is said in a text: capitals and inner apostrophes, single spaces."""
    return " ".join(_OUTER_APOSTROPHE.sub("", _NOT_SPOKEN.sub(" ", text.upper())).split())


def covering(texts: Iterable[str], times: int) -> Iterator[str]:
    """Those texts that have a word which fewer than `times` texts before have; 0: all."""
    spoken: Counter[str] = Counter()
    for text in texts:
        words = set(transcript(text).split())
        if times and all(spoken[word] >= times for word in words):
            continue
        spoken.update(words)
        yield text


def _up_to(most_words: int, texts: Iterable[str]) -> Iterator[str]:
    words = 0
    for text in texts:
        if words >= most_words:
            return
        words += len(text.split())
        yield text
