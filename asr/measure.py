"""Measure a recogniser on one recording, fed the way a live client feeds it.

The words and the counts depend on recogniser, recording and chunking alone, the times on the
machine, too.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from asr import audio, metrics, resampling
from asr.emission import Emission, Flicker, emissions, flicker
from asr.errors import ConfigError
from asr.metrics import Call, ErrorCounts
from asr.state import Options
from asr.together import StreamingRecognizer, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from asr.audio import Samples
    from asr.manifest import Utterance
    from asr.transcript import Word

SAMPLE_RATE = 16_000
MAX_RANDOM_MS = 500  # random chunks have 1 sample … this length: 250 ms on average
MAX_CHUNK_MS = 600_000

Chunking = int | Literal["random", "whole"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How recordings are fed.

    Attributes:
        chunk: milliseconds of audio per chunk, 1 … 600,000; or `random`: every chunk has another
            length, uniform in 1 … 8,000 samples; or `whole`: the recording is one chunk.
        seed: ≥ 0, of the random lengths, which depend on it and on the utterance's id alone.
    """

    chunk: Chunking = 80
    seed: int = 0

    def __post_init__(self) -> None:
        known = self.chunk in ("random", "whole")
        if not known and not (isinstance(self.chunk, int) and 1 <= self.chunk <= MAX_CHUNK_MS):
            raise ConfigError(
                f"chunk {self.chunk!r}: give random, whole, or an integer of 1 … {MAX_CHUNK_MS} ms"
            )
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed}: give 0 or more")


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured on one recording.

    Attributes:
        utterance: the recording and what was said.
        words: what was recognised, with times in samples at 16 kHz.
        counts: the errors in it.
        samples: length of the audio at 16 kHz.
        seconds: wall time in the recogniser.
        cpu_seconds: processor time meanwhile, of all threads of the process.
        chunk_ms: wall time of every chunk.
        late: chunks that took longer to compute than they last.
        first_partial_ms: see `metrics.first_partial_ms`; None also for a recording of one chunk.
        end_to_final_ms: see `metrics.end_to_final_ms`.
        emissions: see `asr.emission`; none for a recording of one chunk, or of unknown word times.
        flicker: see `asr.emission`.
    """

    utterance: Utterance
    words: tuple[Word, ...]
    counts: ErrorCounts
    samples: int
    seconds: float
    cpu_seconds: float
    chunk_ms: tuple[float, ...]
    late: int
    first_partial_ms: float | None
    end_to_final_ms: float
    emissions: tuple[Emission, ...] = ()
    flicker: Flicker = field(default_factory=Flicker)

    @property
    def text(self) -> str:
        """The recognised words joined by single spaces."""
        return " ".join(word.text for word in self.words)


def read_samples(path: Path) -> Samples:
    """A whole recording as the recogniser takes it: float32 [n], 16 kHz mono.

    Raises:
        AudioError: it cannot be read.
    """
    recording = audio.read(path)
    return resampling.resample(recording.samples, recording.sample_rate)


def hear(utterance: Utterance) -> Samples:
    """The samples of an utterance as they were recorded; see `read_samples`."""
    return read_samples(utterance.path)


def chunk_lengths(samples: int, settings: Settings, name: str) -> list[int]:
    """How a recording is cut.

    Args:
        samples: its length, ≥ 0.
        settings: the chunking and its seed.
        name: what tells one recording's random lengths from another's, such as its id.

    Returns:
        Lengths ≥ 1 whose sum is `samples`; only the last is cut short. None for no samples.
    """
    if settings.chunk == "random":
        generator = np.random.default_rng([settings.seed, zlib.crc32(name.encode())])
        most = MAX_RANDOM_MS * SAMPLE_RATE // 1000
        lengths, left = [], samples
        while left > 0:
            lengths.append(min(left, int(generator.integers(1, most + 1))))
            left -= lengths[-1]
        return lengths
    size = samples if settings.chunk == "whole" else int(settings.chunk) * SAMPLE_RATE // 1000
    return [min(size, samples - begin) for begin in range(0, samples, max(size, 1))]


def stream(recognizer: StreamingRecognizer, samples: Samples, lengths: Iterable[int]) -> list[Call]:
    """Feed a recording chunk by chunk, with partials, as a live client would; then finish.

    Args:
        recognizer: any.
        samples: float32 [n], 16 kHz mono.
        lengths: of the chunks, with the sum n.

    Returns:
        One call per chunk and one for `finish`.
    """
    state, calls, position = recognizer.start(Options(partials=True)), [], 0
    for length in lengths:
        chunk = samples[position : position + length]
        position += length
        begin = time.perf_counter()
        state, events = recognizer.step(state, chunk)
        calls.append(Call(position, time.perf_counter() - begin, tuple(events)))
    begin = time.perf_counter()
    _, events = recognizer.finish(state)
    calls.append(Call(position, time.perf_counter() - begin, tuple(events)))
    return calls


def measure(
    recognizer: StreamingRecognizer,
    utterance: Utterance,
    settings: Settings,
    hear: Callable[[Utterance], Samples] = hear,
) -> Result:
    """Recognise one recording and measure it.

    Args:
        recognizer: any.
        utterance: the recording.
        settings: how it is fed.
        hear: its samples, float32 [n], 16 kHz mono; by default as they were recorded.

    Raises:
        AudioError: it cannot be read.
        DataError: its word times are those of another text.
    """
    samples = hear(utterance)
    lengths = chunk_lengths(len(samples), settings, utterance.id)
    cpu = time.process_time()
    calls = stream(recognizer, samples, lengths)
    cpu = time.process_time() - cpu
    words = words_of(event for call in calls for event in call.events)
    pairs = zip(lengths, calls, strict=False)  # `finish` has no length
    live = len(lengths) > 1
    return Result(
        utterance=utterance,
        words=words,
        counts=metrics.count_errors(utterance.text, " ".join(word.text for word in words)),
        samples=len(samples),
        seconds=metrics.compute_seconds(calls),
        cpu_seconds=cpu,
        chunk_ms=tuple(1000 * call.seconds for call in calls[:-1]),
        late=sum(call.seconds * SAMPLE_RATE > length for length, call in pairs),
        first_partial_ms=metrics.first_partial_ms(calls) if live else None,
        end_to_final_ms=metrics.end_to_final_ms(calls),
        emissions=(
            emissions(calls, utterance.words, utterance.text) if live and utterance.words else ()
        ),
        flicker=flicker(calls),
    )
