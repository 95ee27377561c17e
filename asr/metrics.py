"""Error rates and latencies, each defined once, for `asr evaluate`, training and the benchmarks.

Nothing here knows a model, a file or a clock: texts, events and measured seconds come in, figures
go out. N is the number of words (or characters) in the references; rates are fractions, latencies
milliseconds.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jiwer
import numpy as np

from asr.transcript import Event, Final, Partial

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

NORMALISER = 1  # version of the rules of `normalise`; a change of them makes figures incomparable
SAMPLES_PER_MS = 16
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u201b\uff07`\u00b4", "'"))
_BOOTSTRAP_CELLS = 4_000_000  # drawn indices held in memory at a time: 32 MB


def normalise(text: str) -> str:
    """The form of a text in which it is scored, for reference and hypothesis alike.

    1. Unicode composed (NFC), letters lower case.
    2. Typographic apostrophes (U+2018, U+2019, U+02BC, U+201B, U+FF07, grave, acute) become `'`.
    3. Letters, digits and combining marks are kept. So is an apostrophe between two of them
       (`don't`, not the ones of `'tis` and `boys'`), and a point or comma between two digits
       (`3.5`).
    4. Everything else, hyphens included, separates words; words are joined by single spaces.

    Nothing is spelled out, expanded or corrected: `3`, `three` and `Mr` stay what they are.

    Args:
        text: any text.

    Returns:
        The normalised text; normalising it again changes nothing.
    """
    lowered = unicodedata.normalize("NFC", text).lower()
    text = unicodedata.normalize("NFC", lowered).translate(_APOSTROPHES)
    padded = f" {text} "
    around = zip(padded[:-2], text, padded[2:], strict=True)
    kept = "".join(c if _belongs(before, c, after) else " " for before, c, after in around)
    return " ".join(kept.split())


def _belongs(before: str, character: str, after: str) -> bool:
    if character == "'":
        return _is_word(before) and _is_word(after)
    if character in ".,":
        return before.isdecimal() and after.isdecimal()
    return _is_word(character)


def _is_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


@dataclass(frozen=True, slots=True)
class EditCounts:
    """What turns references into hypotheses, in words or in characters.

    Attributes:
        hits: units that agree.
        substitutions: units replaced by another, S.
        deletions: units of the reference that are missing, D.
        insertions: units of the hypothesis that nobody said, I.
    """

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def length(self) -> int:
        """N, the units in the references."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """S + D + I, the Levenshtein distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """(S + D + I) / N, ≥ 0 and possibly above 1.

        Without a reference (N = 0) no rate is defined: 0 if nothing was inserted, else infinity, so
        that no comparison takes invented words for the better result.
        """
        if self.length == 0:
            return math.inf if self.insertions else 0.0
        return self.errors / self.length

    def __add__(self, other: EditCounts) -> EditCounts:
        return EditCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """The errors of one utterance or, added up, of many.

    Rates are those of the sums, never means of the utterances' rates.

    Attributes:
        words: counted in words of the normalised texts.
        characters: counted in their characters, the single spaces between words included.
        utterances: how many were counted.
        wrong: how many of them have at least one word error.
    """

    words: EditCounts = EditCounts()
    characters: EditCounts = EditCounts()
    utterances: int = 0
    wrong: int = 0

    @property
    def wer(self) -> float:
        """Word error rate; see `EditCounts.rate`."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate; see `EditCounts.rate`."""
        return self.characters.rate

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.words + other.words,
            self.characters + other.characters,
            self.utterances + other.utterances,
            self.wrong + other.wrong,
        )


def count_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """The errors of one utterance, from one Levenshtein alignment by jiwer with unit costs.

    Both texts are normalised first. The sum S + D + I is unique; where several alignments reach it,
    the division into S, D and I is that of jiwer's, which is deterministic. An empty hypothesis is
    N deletions; an empty reference makes every word of the hypothesis an insertion; two empty texts
    agree.

    Args:
        reference: what was said.
        hypothesis: what was recognised.

    Returns:
        The counts of this one utterance.
    """
    reference, hypothesis = normalise(reference), normalise(hypothesis)
    words = _counts(jiwer.process_words(reference, hypothesis))
    characters = _counts(jiwer.process_characters(reference, hypothesis))
    return ErrorCounts(words, characters, utterances=1, wrong=int(words.errors > 0))


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> EditCounts:
    return EditCounts(output.hits, output.substitutions, output.deletions, output.insertions)


def hits(reference: str, hypothesis: str) -> list[tuple[int, int]]:
    """The words that agree, by the alignment that `count_errors` counts.

    Args:
        reference: what was said.
        hypothesis: what was recognised.

    Returns:
        Number of the word in the normalised reference and in the normalised hypothesis, rising.
    """
    aligned = jiwer.process_words(normalise(reference), normalise(hypothesis)).alignments[0]
    return [
        (part.ref_start_idx + k, part.hyp_start_idx + k)
        for part in aligned
        if part.type == "equal"
        for k in range(part.ref_end_idx - part.ref_start_idx)
    ]


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The sum of the counts; all zero for none."""
    return sum(counts, ErrorCounts())


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: lower bound, a fraction.
        high: upper bound.
        groups: how many independent groups were resampled.
    """

    low: float
    high: float
    groups: int


def wer_interval(
    counts: Sequence[EditCounts],
    groups: Sequence[str],
    *,
    samples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Bootstrap confidence interval of the word error rate (Bisani and Ney 2004, percentile form).

    Whole groups are drawn with replacement: speakers where they are known, since the utterances of
    one speaker depend on each other, else single utterances. A draw without a reference word has no
    rate and is left out.

    Args:
        counts: word counts of each utterance.
        groups: the group of each utterance, of the same length: its speaker, or its own id.
        samples: B, how many times the set is drawn anew.
        level: share of the drawn rates that lie in the interval, in (0, 1).
        seed: of the generator; the same seed gives the same interval.

    Returns:
        The interval between the percentiles 50 (1 - level) and 50 (1 + level) of the drawn rates,
        or None where there are fewer than two groups, or no reference words.

    Raises:
        ValueError: `counts` and `groups` differ in length.
    """
    sums: dict[str, EditCounts] = {}
    for group, count in zip(groups, counts, strict=True):
        sums[group] = sums.get(group, EditCounts()) + count
    table = np.array([[count.errors, count.length] for count in sums.values()], dtype=np.int64)
    if len(table) < 2 or not table[:, 1].any():
        return None
    rates = _drawn_rates(table, samples, np.random.default_rng(seed)).tolist()
    tail = 50 * (1 - level)
    return Interval(percentile(rates, tail), percentile(rates, 100 - tail), len(table))


def _drawn_rates(
    table: NDArray[np.int64], samples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Rates [B] of B draws from a table [G, 2] of errors and words per group."""
    G = len(table)
    step = max(1, _BOOTSTRAP_CELLS // G)
    rates = []
    for begin in range(0, samples, step):
        drawn = generator.integers(0, G, size=(min(step, samples - begin), G))
        errors, words = table[drawn, 0].sum(1), table[drawn, 1].sum(1)
        rates.append(errors[words > 0] / words[words > 0])
    return np.concatenate(rates)


def percentile(values: Sequence[float], p: float) -> float:
    """The nearest-rank percentile: the smallest value that p % of all values do not exceed.

    It is always one of the values; nothing is interpolated.

    Args:
        values: at least one number, in any order.
        p: in [0, 100]; 0 gives the smallest value, 100 the largest.

    Returns:
        The value of rank ceil(p / 100 · n), counted from 1 and at least 1.

    Raises:
        ValueError: there is no value, or p lies outside its range.
    """
    if not values:
        raise ValueError("a percentile of no values")
    if not 0 <= p <= 100:
        raise ValueError(f"a percentile lies in 0 … 100, got {p}")
    # 1e-9 keeps products such as 0.07 · 100 from stepping over a whole number by a rounding error.
    rank = math.ceil(p * len(values) / 100 - 1e-9)
    return sorted(values)[max(rank, 1) - 1]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles of many values, and the largest, in the unit of the values."""

    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles | None:
        """Those of the values, in any order; None where there is no value."""
        if not values:
            return None
        p50, p95, p99 = (percentile(values, p) for p in (50, 95, 99))
        return cls(p50, p95, p99, max(values))


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a recogniser for a stream: a chunk that was fed, or the `finish` at its end.

    Attributes:
        position: samples (16 kHz) of the stream that had been fed when it returned.
        seconds: wall time from handing over the chunk to its return.
        events: what it returned.
    """

    position: int
    seconds: float
    events: tuple[Event, ...]


def compute_seconds(calls: Sequence[Call]) -> float:
    """Seconds spent in all calls; divided by the seconds of audio this is the real-time factor.

    Loading the model and reading the audio are left out. It is that of one core where the
    recogniser and its libraries use one thread.
    """
    return sum(call.seconds for call in calls)


def first_partial_ms(calls: Sequence[Call]) -> float | None:
    """First-partial latency on the audio clock: how long after a speaker's first word text is seen.

    The samples that had been fed when the first `Partial` with text (or `Final`) came, minus the
    start of the first word as the first final tells it. Waiting for the chunk to fill and the
    network's look-ahead are inside, the time to compute is not (see `chunk_ms`): so the figure is
    exactly reproducible. It is negative where the first text shown was taken back and lay before
    the first word. A network that hears a word late also tells its start late: only times from an
    alignment of the reference would show that part.

    Args:
        calls: all calls of one stream in order, `finish` the last.

    Returns:
        Milliseconds, or None where no word was recognised.
    """
    start = next((event.start for event in _events(calls) if isinstance(event, Final)), None)
    if start is None:
        return None
    shown = next(call.position for call in calls if any(_has_text(e) for e in call.events))
    return (shown - start) / SAMPLES_PER_MS


def end_to_final_ms(calls: Sequence[Call]) -> float:
    """End-of-audio-to-final latency: from handing over the last chunk until `finish` returned.

    Args:
        calls: all calls of one stream in order: at least `finish`.

    Returns:
        Milliseconds of wall time spent in the two calls; no socket and no queue is in it.
    """
    return 1000 * compute_seconds(calls[-2:])


def _events(calls: Sequence[Call]) -> Iterable[Event]:
    return (event for call in calls for event in call.events)


def _has_text(event: Event) -> bool:
    return not isinstance(event, Partial) or bool(event.stable or event.tentative)
