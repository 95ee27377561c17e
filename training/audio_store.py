"""The samples of utterances: decoded when needed, and kept on disk where a folder is given.

The folder may be shared by several processes and runs. Its files are named by what they hold (the
names, lengths and file sizes of a list of utterances), and an utterance in it counts only if its
checksum is right: neither a race, nor a crash in the middle of writing, nor a changed manifest can
make it serve wrong audio. A folder may be deleted at any time between runs.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from asr.errors import DataError
from training.data import SAMPLE_RATE, Utterance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FULL_SCALE = 32767  # of the 16-bit samples on disk


@dataclass(frozen=True, slots=True)
class Cache:
    """Decoded utterances on disk, mapped into memory.

    Attributes:
        samples: of all utterances, one behind the other, int16.
        checksums: of each utterance's samples; 0 where there are none yet.
    """

    samples: NDArray[np.int16]
    checksums: NDArray[np.uint32]


class AudioStore:
    """Samples of a list of utterances.

    Args:
        utterances: the list.
        folder: where decoded audio is kept as 16-bit integers, or None to decode every time.
        name: begins the names of the files there.

    Raises:
        DataError: the folder cannot be used.
    """

    def __init__(self, utterances: list[Utterance], folder: Path | None, name: str) -> None:
        self.utterances = utterances
        self.starts = np.concatenate([[0], np.cumsum([u.samples for u in utterances])])
        self._cache = self._open(folder, name) if folder else None

    @property
    def hours(self) -> float:
        """Length of all utterances together."""
        return float(self.starts[-1]) / SAMPLE_RATE / 3600

    def read(self, number: int) -> NDArray[np.float32]:
        """Samples of one utterance.

        Raises:
            DataError: see `decode`.
        """
        if self._cache is None:
            return decode(self.utterances[number])
        part = self._cache.samples[self.starts[number] : self.starts[number + 1]]
        if self._cache.checksums[number] != checksum(part):
            samples = np.rint(decode(self.utterances[number]) * FULL_SCALE)
            part[:] = np.clip(samples, -FULL_SCALE - 1, FULL_SCALE)
            self._cache.checksums[number] = checksum(part)
        return part.astype(np.float32) / np.float32(FULL_SCALE)

    def _open(self, folder: Path, name: str) -> Cache:
        stem = f"{name}.{fingerprint(self.utterances)}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            samples = shared_array(folder / f"{stem}.i16", np.int16, int(self.starts[-1]))
            checksums = shared_array(folder / f"{stem}.crc", np.uint32, len(self.utterances))
        except OSError as error:
            raise DataError(
                f"{folder}: cannot keep decoded audio here: {error.strerror}"
            ) from error
        return Cache(samples, checksums)


def fingerprint(utterances: Sequence[Utterance]) -> str:
    """What tells one list of recordings from another: names, lengths and file sizes, in order."""
    digest = sha256()
    for utterance in utterances:
        size = utterance.path.stat().st_size
        digest.update(f"{utterance.name}\0{utterance.samples}\0{size}\n".encode())
    return digest.hexdigest()[:16]


def checksum(part: NDArray[np.int16]) -> int:
    """CRC-32 of samples, never 0."""
    return zlib.crc32(part.data) or 1


def shared_array(path: Path, kind: type, length: int) -> Any:
    """An array in a file, zeros at first, that several processes may make and map at once.

    A file only ever grows to its one length, so it does not matter who makes it; the room on the
    disk is reserved at once, for a full disk would kill whoever writes to the mapping.

    Raises:
        DataError: there is a longer file.
        OSError: the file cannot be made.
    """
    size = length * np.dtype(kind).itemsize
    with path.open("ab") as file:
        if file.tell() > size:
            raise DataError(f"{path}: {file.tell()} bytes where {size} belong; delete it")
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, kind, "r+", shape=(length,))


def decode(utterance: Utterance) -> NDArray[np.float32]:
    """Read an utterance's file: samples in [-1, 1], float32 [n], channels averaged.

    Raises:
        DataError: the file cannot be read, has another rate or length than was announced, or
            samples that are not finite.
    """
    try:
        samples, rate = soundfile.read(str(utterance.path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{utterance.name}: {utterance.path} cannot be read: {error}") from error
    if rate != SAMPLE_RATE:
        raise DataError(f"{utterance.name}: {rate} Hz, but {SAMPLE_RATE} Hz is needed; convert it")
    mono = samples.mean(1)
    if len(mono) != utterance.samples:
        raise DataError(f"{utterance.name}: {len(mono)} samples, {utterance.samples} announced")
    if not np.isfinite(mono).all():
        raise DataError(f"{utterance.name}: {utterance.path} has samples that are not finite")
    return np.asarray(mono, np.float32)
