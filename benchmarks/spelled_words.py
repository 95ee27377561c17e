"""What spelling gains and costs, word by word: part of `benchmarks.beam_search`.

A word of the references is unknown if the lexicon does not say how it sounds. References and
hypotheses are aligned as for the word error rate; a word that was recognised as another one is the
pair that this alignment makes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jiwer

from asr import metrics
from asr.decoding.beam import BeamDecoder
from asr.decoding.ngram import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from asr.decoding.language import Language
    from asr.decoding.reference import Committed, Entry
    from asr.decoding.settings import BeamSettings

NEAR = 0.3  # share of a word's letters that may be wrong


@dataclass(frozen=True, slots=True)
class SpelledWords:
    """Counts over all recordings.

    Attributes:
        words: in the references.
        unknown: of them, those that the lexicon lacks.
        right: of these, those recognised.
        near: of these, those recognised as a word with at most 0.3 of their letters wrong, the
            right ones among them.
        spelled: words of the hypotheses that were spelled.
        false: of them, those that stand for a known word or for none.
        lost: known words that are recognised without spelling and are not with it.
    """

    words: int
    unknown: int
    right: int
    near: int
    spelled: int
    false: int
    lost: int

    def line(self) -> str:
        """For people."""
        return (
            f"unknown words: {self.right} of {self.unknown} right, {self.near} near; "
            f"{self.spelled} words spelled, {1000 * self.false / max(1, self.words):.1f} false "
            f"per 1000 words, {self.lost} known ones lost"
        )


class _Marker(BeamDecoder):
    """A search that notes of each word it makes whether it was spelled."""

    marks: list[bool]

    def confidence(self, said: Entry | Committed, share: int, *, tentative: bool = False) -> float:
        """As the search's."""
        self.marks.append(said.word == UNKNOWN)
        return super().confidence(said, share, tentative=tentative)


def spelled_words(
    language: Language,
    settings: BeamSettings,
    frames: Sequence[NDArray[np.float32]],
    texts: Sequence[str],
) -> SpelledWords:
    """Decode with and without spelling, and count.

    Args:
        language: one that can spell.
        settings: with `spelling`.
        frames: log-probabilities [T, V] of each recording.
        texts: what is said in each.
    """
    spelling = _Marker(language, settings, frames[0].shape[1])
    plain = _Marker(language, replace(settings, spelling=None), frames[0].shape[1])
    spoken = [metrics.normalise(text).split() for text in texts]
    known = {word for word in {word for line in spoken for word in line} if plain.knows(word)}
    words = unknown = right = near = spelled = false = lost = 0
    for rows, said in zip(frames, spoken, strict=True):
        before, _ = _heard(plain, rows)
        after, marks = _heard(spelling, rows)
        found, found_before = _pairs(said, after), _pairs(said, before)
        strange = {place for place, word in enumerate(said) if word not in known}
        words += len(said)
        unknown += len(strange)
        right += sum(said[place] == found.get(place, (0, ""))[1] for place in strange)
        near += sum(_wrong(said[p], found[p][1]) <= NEAR for p in strange & found.keys())
        spelled += sum(marks)
        false += sum(marks) - sum(marks[found[place][0]] for place in strange & found.keys())
        lost += sum(
            found_before[p][1] == said[p] != found.get(p, (0, ""))[1]
            for p in found_before.keys() - strange
        )
    return SpelledWords(words, unknown, right, near, spelled, false, lost)


def _heard(decoder: _Marker, rows: NDArray[np.float32]) -> tuple[list[str], list[bool]]:
    """The words of a recording as they are scored, and whether each was spelled."""
    decoder.marks = []
    state, words = decoder.advance(decoder.start(), rows)
    words += decoder.finish(state)
    scored = [
        (token, spelled)
        for word, spelled in zip(words, decoder.marks, strict=True)
        for token in metrics.normalise(word.text).split()
    ]
    return [token for token, _ in scored], [spelled for _, spelled in scored]


def _pairs(said: list[str], heard: list[str]) -> dict[int, tuple[int, str]]:
    """The place and the word that each word said was recognised as, if it was as one."""
    if not said or not heard:
        return {}
    aligned = jiwer.process_words(" ".join(said), " ".join(heard)).alignments[0]
    return {
        part.ref_start_idx + k: (part.hyp_start_idx + k, heard[part.hyp_start_idx + k])
        for part in aligned
        if part.type in {"equal", "substitute"}
        for k in range(part.ref_end_idx - part.ref_start_idx)
    }


def _wrong(said: str, heard: str) -> float:
    """Share of a word's letters that are wrong, as of a character error rate."""
    return metrics.count_errors(said, heard).characters.rate
