"""Measure a recogniser on a set of recordings with transcripts, the way it is used: streaming.

Rule for recordings that fail: one that cannot be read is named, counted and left out of every
figure, and the others go on. Whoever asks for figures is told (`Evaluation.failures`).

The words and the counts depend on model, recordings and chunking alone, never on the number of
processes or on who else is being recognised. The times do depend on the machine.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from asr import metrics, parallel
from asr.emission import Flicker
from asr.errors import DataError, Error
from asr.measure import SAMPLE_RATE, hear, measure, read_samples
from asr.metrics import ErrorCounts, Percentiles
from asr.together import StreamingRecognizer, transcribe_together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from asr.audio import Samples
    from asr.manifest import Utterance
    from asr.measure import Result, Settings


@dataclass(frozen=True, slots=True)
class Failure:
    """A recording that could not be measured, and why, in one line."""

    utterance: Utterance
    message: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured on a set.

    Attributes:
        settings: how the recordings were fed.
        results: those measured, at least one, in the order of the set.
        failures: the others, in that order.
    """

    settings: Settings
    results: tuple[Result, ...]
    failures: tuple[Failure, ...]

    @property
    def counts(self) -> ErrorCounts:
        """The errors of all recordings that were measured."""
        return metrics.total(result.counts for result in self.results)

    @property
    def audio_seconds(self) -> float:
        """Audio that was measured."""
        return sum(result.samples for result in self.results) / SAMPLE_RATE

    @property
    def flicker(self) -> Flicker:
        """What was taken back of all that was shown, and the words of all transcripts."""
        return sum((result.flicker for result in self.results), Flicker())

    def interval(self) -> metrics.Interval | None:
        """95 % interval of the WER, by speaker where every recording names one, else by utterance.

        See `metrics.wer_interval`; None where there is nothing to resample.
        """
        utterances = [result.utterance for result in self.results]
        known = all(utterance.speaker for utterance in utterances)
        groups = [utterance.speaker if known else utterance.id for utterance in utterances]
        return metrics.wer_interval([result.counts.words for result in self.results], groups)

    def summary(self) -> dict[str, object]:
        """The figures as JSON values: rates as fractions, latencies in milliseconds.

        A figure that does not exist is None: a rate without references, latencies without words,
        emission latencies (`asr.emission`) without word times, the interval of a single group.
        """
        counts, results, duration = self.counts, self.results, self.audio_seconds
        chunks = [ms for result in results for ms in result.chunk_ms]
        firsts = [r.first_partial_ms for r in results if r.first_partial_ms is not None]
        emitted = [emission for result in results for emission in result.emissions]
        interval = self.interval()
        return {
            "wer": counts.wer if counts.words.length else None,
            "cer": counts.cer if counts.characters.length else None,
            "substitutions": counts.words.substitutions,
            "deletions": counts.words.deletions,
            "insertions": counts.words.insertions,
            "words": counts.words.length,
            "wer_interval": None if interval is None else asdict(interval),
            "characters": asdict(counts.characters) | {"length": counts.characters.length},
            "utterances": counts.utterances,
            "wrong_utterances": counts.wrong,
            "failed": len(self.failures),
            "audio_seconds": duration,
            "rtf": sum(r.seconds for r in results) / duration if duration else None,
            "rtf_cpu": sum(r.cpu_seconds for r in results) / duration if duration else None,
            "chunk_ms": _percentiles(chunks),
            "late_chunks": sum(r.late for r in results) / len(chunks) if chunks else None,
            "first_partial_ms": _percentiles(firsts),
            "end_to_final_ms": _percentiles([r.end_to_final_ms for r in results]),
            "emission_first_ms": _emission([e.first_ms for e in emitted]),
            "emission_ms": _emission([e.shown_ms for e in emitted]),
            "emission_stable_ms": _emission([e.stable_ms for e in emitted]),
            "flicker": _flicker(self.flicker),
            "chunk": self.settings.chunk,
            "seed": self.settings.seed,
            "normaliser": metrics.NORMALISER,
        }


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    found = Percentiles.of(values)
    return None if found is None else asdict(found)


def _emission(values: Sequence[float]) -> dict[str, float] | None:
    """Percentiles of emission latencies and how many words they are of; None for none."""
    if not values:
        return None
    figures = {f"p{p}": metrics.percentile(values, p) for p in (50, 90, 95)}
    return figures | {"words": len(values)}


def _flicker(found: Flicker) -> dict[str, float] | None:
    """What was taken back and what of it returned, for each word; None without words."""
    if not found.words:
        return None
    rates = {name: getattr(found, name) / found.words for name in ("taken_back", "returned")}
    return rates | {"words": found.words}


def evaluate(
    load: Callable[[], StreamingRecognizer],
    utterances: Sequence[Utterance],
    settings: Settings,
    *,
    jobs: int = 1,
    progress: Callable[[int, ErrorCounts], None] = lambda _done, _counts: None,
    hear: Callable[[Utterance], Samples] = hear,
) -> Evaluation:
    """Measure a recogniser on a set.

    Args:
        load: makes the recogniser, with one thread. With several jobs it is called in each of
            their processes, so it must be picklable, such as a partial of a module's function.
        utterances: the set, at least one.
        settings: how recordings are fed.
        jobs: processes, ≥ 1, each with one thread; 1 works in this process. Figures of time are
            those of one core only while there are as many idle cores.
        progress: called after each recording with the number done and the errors so far.
        hear: the samples of an utterance, float32 [n], 16 kHz mono; by default as they were
            recorded. With several jobs it must be picklable.

    Returns:
        The same words and counts for any number of jobs.

    Raises:
        DataError: no recording could be measured; the first reason is named.
        Error: the recogniser cannot be made, or a process died.
    """
    results: list[Result] = []
    failures: list[Failure] = []
    counts = ErrorCounts()
    work = functools.partial(_attempt, settings, hear)
    for done, outcome in enumerate(parallel.each(load, work, utterances, jobs), 1):
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            results.append(outcome)
            counts += outcome.counts
        progress(done, counts)
    if not results:
        raise DataError(
            f"none of {len(utterances)} recordings could be measured: {failures[0].message}"
            if failures
            else "no recordings to measure"
        )
    return Evaluation(settings, tuple(results), tuple(failures))


def _attempt(
    settings: Settings,
    hear: Callable[[Utterance], Samples],
    recognizer: StreamingRecognizer,
    utterance: Utterance,
) -> Result | Failure:
    try:
        return measure(recognizer, utterance, settings, hear)
    except Error as error:
        return Failure(utterance, str(error))


class Spoken(Protocol):
    """A recording and its transcript, such as `asr.manifest.Utterance`."""

    @property
    def path(self) -> Path:
        """The audio file."""
        ...

    @property
    def text(self) -> str:
        """What is said."""
        ...


def validate(
    recognizer: StreamingRecognizer,
    utterances: Sequence[Spoken],
    *,
    read: Callable[[Path], Samples] = read_samples,
    streams: int = 64,
) -> ErrorCounts:
    """The errors of a recogniser on a set, quickly: many recordings at once in this process.

    The counts are those of `evaluate`, for neither company nor chunking changes a word.

    Args:
        recognizer: any.
        utterances: the set.
        read: how a recording is read, such as from a cache; float32 [n], 16 kHz mono.
        streams: recordings that are recognised together, ≥ 1.

    Raises:
        AudioError: a recording cannot be read. Nothing is left out.
    """
    recordings = (read(utterance.path) for utterance in utterances)
    heard = transcribe_together(recognizer, recordings, streams=streams)
    return metrics.total(
        metrics.count_errors(utterance.text, " ".join(word.text for word in words))
        for utterance, words in zip(utterances, heard, strict=True)
    )
