"""Small languages for tests of the search: a lexicon, a word n-gram in its compact form, frames."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asr.decoding import lexicon as lexicons
from asr.decoding.beam import BeamDecoder
from asr.decoding.kernel import engine
from asr.decoding.language import Language
from asr.decoding.ngram import NGram
from asr.decoding.spelling import Speller

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from asr.decoding.kernel import Engine
    from asr.decoding.lexicon import Lexicon
    from asr.decoding.reference import Tables
    from asr.decoding.settings import BeamSettings

SPECIAL = ["<unk>", "<s>", "</s>"]


@dataclass(frozen=True)
class SmallLanguage:
    """Units, words with pronunciations, and a language model over them."""

    units: list[str]
    words: list[str]
    pronunciations: list[tuple[str, list[str]]]
    lexicon: Lexicon
    lm: NGram
    model: bytes

    def decoder(
        self, settings: BeamSettings, make_engine: Callable[[Tables], Engine] = engine
    ) -> BeamDecoder:
        """A decoder of this language."""
        spells = None if settings.spelling is None else speller(self.units)
        parts = Language(self.lexicon, self.lm, self.words, spells)
        return BeamDecoder(parts, settings, len(self.units), make_engine)


def language(
    seed: int, words: int = 6, phones: int = 3, longest: int = 3, order: int = 3
) -> SmallLanguage:
    """A random language; homophones, repeated phones and words within words are frequent."""
    random = np.random.default_rng(seed)
    units = ["<blank>", *(f"P{n}" for n in range(phones))]
    names = SPECIAL + [f"w{n}" for n in range(words)]
    pronunciations = [
        (name, [units[p] for p in random.integers(1, phones + 1, random.integers(1, longest + 1))])
        for name in names[3:]
        for _ in range(random.integers(1, 3))
    ]
    model = ngram_bytes(random, len(names), order)
    lexicon = lexicons.build(pronunciations, names, units)
    lm = NGram(np.frombuffer(model, np.uint8), "random")
    return SmallLanguage(units, names, pronunciations, lexicon, lm, model)


def speller(units: list[str], order: int = 3) -> Speller:
    """Writes P0 as `a`, P1 as `b`, …, any two of them as one letter, too."""
    single = [f"{unit}={chr(97 + n)}" for n, unit in enumerate(units[1:])]
    double = [f"{a}.{b}=x" for a in units[1:3] for b in units[1:3]]
    pairs = [*SPECIAL, *single, *double]
    lm = NGram(
        np.frombuffer(ngram_bytes(np.random.default_rng(1), len(pairs), order), np.uint8), ""
    )
    return Speller(pairs, lm, units)


def ngram_bytes(random: np.random.Generator, words: int, order: int = 3) -> bytes:
    """A language model of random n-grams and scores. It is no distribution: no search minds."""

    def grams(contexts: int, share: float) -> tuple[list[int], list[int]]:
        found, starts = [], [0]
        for _ in range(contexts):
            found += [w for w in range(words) if random.random() < share]
            starts.append(len(found))
        return found, starts

    def three_bytes(found: list[int]) -> NDArray[np.uint8]:
        return np.array(found, "<u4").view(np.uint8).reshape(-1, 4)[:, :3]

    second, first_bigram = grams(words, 0.3 if order > 1 else 0.0)
    third, first_trigram = grams(len(second), 0.3 if order > 2 else 0.0)
    n2, n3 = len(second), len(third)
    sections = [
        -random.integers(0, 6000, (3, 256)).astype("<i4"),
        -random.integers(100, 6000, words).astype("<i4"),
        -random.integers(0, 2000, words).astype("<i4"),
        np.array(first_bigram, "<u4"),
        three_bytes(second),
        random.integers(0, 256, n2).astype(np.uint8),
        random.integers(0, 256, n2).astype(np.uint8),
        np.array(first_trigram, "<u4"),
        three_bytes(third),
        random.integers(0, 256, n3).astype(np.uint8),
    ]
    body, offsets = b"", []
    for section in sections:
        offsets.append(256 + len(body))
        data = section.tobytes()
        body += data + bytes(-len(data) % 64)
    header = b"ASRNGRM1" + struct.pack("<6I", order, words, n2, n3, 1024, 0)
    header += struct.pack("<11Q", *offsets, 256 + len(body))
    return header.ljust(256, b"\0") + body


def frames(seed: int, count: int, units: int, sharpness: float = 2.0) -> NDArray[np.float32]:
    """Random log-probabilities [T, V], some frames of them mostly blank."""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((count, units)) * sharpness
    logits[:, 0] += random.choice([0.0, 1.0, 3.0], count)
    rows = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return np.asarray(rows, np.float32)
