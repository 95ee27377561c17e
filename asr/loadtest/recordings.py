"""What load clients say: recordings in pieces of a bounded length, cut into chunks for the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asr import audio
from asr.errors import AudioError
from asr.manifest import read_utterances

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CHUNK_MS: Final = 80
PIECE_SECONDS: Final = 30.0
SAMPLE_BYTES: Final = 2  # of s16le, in which clients speak
RATES: Final = range(8_000, 48_001)  # that a server takes
MANIFESTS: Final = frozenset({".jsonl", ".json"})


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Speech that a client sends in one session.

    Attributes:
        name: of the file, and the second at which the piece begins where the file was cut.
        sample_rate: samples per second, 8,000 to 48,000.
        samples: n ≥ 1.
        chunks: signed 16-bit little-endian, 80 ms each, the last one shorter.
    """

    name: str
    sample_rate: int
    samples: int
    chunks: tuple[bytes, ...]

    @property
    def chunk_samples(self) -> int:
        """Samples in every chunk but the last."""
        return self.sample_rate * CHUNK_MS // 1000

    def due(self, chunk: int) -> float:
        """Seconds from the beginning until all of a chunk has been spoken."""
        return min(self.samples, (chunk + 1) * self.chunk_samples) / self.sample_rate

    def chunk_of(self, position: int) -> int:
        """The chunk that carries the last of the first `position` samples, position ≥ 1."""
        return (min(position, self.samples) - 1) // self.chunk_samples


def read(paths: Iterable[Path], limit: int | None = None) -> list[Recording]:
    """The recordings that these paths name.

    Args:
        paths: audio files, manifests (`.jsonl`), LibriSpeech trees, folders of audio with texts.
        limit: pieces at most.

    Returns:
        At least one.

    Raises:
        DataError: a manifest or folder is unsound.
        AudioError: a recording cannot be read, its rate is none that a server takes, or there is no
            sample in any.
    """
    found: list[Recording] = []
    for path in _files(paths):
        if limit is not None and len(found) >= limit:
            break
        found += pieces(path.name, audio.read(path))
    if not found:
        raise AudioError("the recordings hold no sample; give some in which there is speech")
    return found[:limit]


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir() or path.suffix.lower() in MANIFESTS:
            yield from (utterance.path for utterance in read_utterances(path))
        else:
            yield path


def pieces(name: str, recording: audio.Audio) -> list[Recording]:
    """A recording in pieces of at most `PIECE_SECONDS`, so that sessions end in the window.

    Raises:
        AudioError: its rate is none that a server takes.
    """
    rate = recording.sample_rate
    if rate not in RATES:
        raise AudioError(
            f"{name}: {rate} samples per second; a server takes {RATES[0]} to {RATES[-1]}: "
            "convert it with ffmpeg"
        )
    size = round(PIECE_SECONDS * rate)
    cut = [recording.samples[at : at + size] for at in range(0, len(recording.samples), size)]
    step = SAMPLE_BYTES * (rate * CHUNK_MS // 1000)
    found = []
    for number, samples in enumerate(cut):
        data = audio.to_s16le(samples)
        chunks = tuple(data[at : at + step] for at in range(0, len(data), step))
        second = f" at {number * PIECE_SECONDS:g} s" if len(cut) > 1 else ""
        found.append(Recording(f"{name}{second}", rate, len(samples), chunks))
    return found
