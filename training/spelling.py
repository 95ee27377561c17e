"""Learn from a lexicon how phones are written: the joint n-gram of `asr.decoding.spelling`.

1. Letters and phones are aligned: a pair is one or two phones and one to four letters that write
   them, and each pair's probability is found by expectation maximisation over all ways to divide
   words into pairs (Jiampojamarn et al. 2007, "Applying many-to-many alignments and hidden Markov
   models to letter-to-phoneme conversion").
2. Every word is divided in its likeliest way, and a trigram of pairs is made of these sentences as
   of any text (`training.language_model`).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from asr.decoding.spelling import MODEL, PAIRS
from asr.errors import DataError
from training.language_model.build import Builder, Settings
from training.language_model.compact import write_compact
from training.language_model.vocabulary import choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Phones and letters of a pair, and how likely such pairs are thought to be before any was seen.
SHAPES = {(1, 1): 1.0, (1, 2): 0.2, (2, 1): 0.05, (1, 3): 0.02, (2, 2): 0.001, (1, 4): 0.001}
ROUNDS = 6  # of expectation maximisation
SAMPLE = 15_000  # words that are aligned in all rounds
SELDOM = 0.01  # a pair that is expected less often is none
MOST = 1 << 16  # pairs; English has a thousand
SETTINGS = Settings(order=3, memory=50_000_000)
MARKS = set("=.") | {" "}  # what a name of a phone or a word cannot hold

Pair = tuple[tuple[str, ...], str]
Said = tuple[str, tuple[str, ...]]  # letters and phones


class _Edge(NamedTuple):
    """A pair in its place: phones and letters before it, phones and letters up to its end."""

    begin: tuple[int, int]
    end: tuple[int, int]
    pair: Pair


def write_speller(
    pronunciations: Iterable[tuple[str, Sequence[str]]], units: Sequence[str], folder: Path
) -> None:
    """Write `spelling.ngram` and `spelling.pairs.txt`.

    Args:
        pronunciations: words and their phones; those with a phone that is no unit are left out.
        units: of the head, the blank first.
        folder: of the bundle in the making.

    Raises:
        DataError: nothing can be learned from them.
    """
    known = set(units[1:])
    said = sorted(
        {
            (word, tuple(phones))
            for word, phones in pronunciations
            if phones and known.issuperset(phones) and not MARKS & set(word)
        }
    )
    probable = pair_probabilities(said[:: -(-len(said) // SAMPLE) or 1])
    divided = [pairs for one in said if (pairs := division(one, probable))]
    if not divided:
        raise DataError("the lexicon teaches no spelling: no word of it has phones that are units")
    lines = [
        " ".join(".".join(phones) + "=" + letters for phones, letters in one) for one in divided
    ]
    vocabulary = choose(Counter(" ".join(lines).split()), MOST)
    with TemporaryDirectory() as work:
        model = Builder(vocabulary, SETTINGS, Path(work)).build([vocabulary.encode(lines)])
        write_compact(model, folder / MODEL, folder / PAIRS)


def pair_probabilities(said: Sequence[Said]) -> dict[Pair, float]:
    """The probability of each pair, such that all words together are likeliest (nearly)."""
    probable: dict[Pair, float] = {}
    for _ in range(ROUNDS):
        expected: dict[Pair, float] = defaultdict(float)
        for one in said:
            _expect(one, probable, expected)
        whole = sum(expected.values())
        probable = {pair: n / whole for pair, n in expected.items() if n > SELDOM}
    return probable


def _edges(said: Said) -> list[_Edge]:
    """All pairs in all places of a word, by their beginning."""
    letters, phones = said
    P, L = len(phones), len(letters)
    return [
        _Edge((i, j), (i + a, j + b), (phones[i : i + a], letters[j : j + b]))
        for i in range(P)
        for j in range(L)
        for a, b in SHAPES
        if i + a <= P and j + b <= L
    ]


def _expect(said: Said, probable: dict[Pair, float], expected: dict[Pair, float]) -> None:
    """Add how often each pair is expected in a word; without probabilities by shape alone."""
    weighed = [
        (e, probable.get(e.pair, 0.0) if probable else SHAPES[len(e.pair[0]), len(e.pair[1])])
        for e in _edges(said)
    ]
    before = defaultdict(float, {(0, 0): 1.0})
    for edge, weight in weighed:
        before[edge.end] += before[edge.begin] * weight
    end = len(said[1]), len(said[0])
    behind = defaultdict(float, {end: 1.0})
    whole = before[end]
    for edge, weight in reversed(weighed) if whole else ():
        behind[edge.begin] += weight * behind[edge.end]
        if often := before[edge.begin] * weight * behind[edge.end] / whole:
            expected[edge.pair] += often


def division(said: Said, probable: dict[Pair, float]) -> list[Pair]:
    """A word in pairs, the likeliest way; none if there is no way."""
    best: dict[tuple[int, int], tuple[float, _Edge | None]] = {(0, 0): (0.0, None)}
    for edge in _edges(said):
        if edge.begin in best and edge.pair in probable:
            score = best[edge.begin][0] + math.log(probable[edge.pair])
            if edge.end not in best or score > best[edge.end][0]:
                best[edge.end] = score, edge
    pairs: list[Pair] = []
    _, last = best.get((len(said[1]), len(said[0])), (0.0, None))
    while last:
        pairs.append(last.pair)
        _, last = best[last.begin]
    return pairs[::-1]
