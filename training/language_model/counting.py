"""Counts of packed keys in bounded memory: sorted runs on disk, merged in ascending order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Keys = NDArray[np.uint64]
    Counts = NDArray[np.uint32]

SMALLEST_BUFFER = 1 << 10


class Spool:
    """An array that grows on disk and is mapped into memory when it is done."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        """Begin an empty array in a new file."""
        self._path, self._dtype = path, np.dtype(dtype)
        self._file = path.open("wb")
        self.length = 0

    def append(self, values: NDArray[Any]) -> None:
        """Write more values behind those already there."""
        np.ascontiguousarray(values, self._dtype).tofile(self._file)
        self.length += len(values)

    def done(self) -> NDArray[Any]:
        """The whole array, read only, straight from the file."""
        self._file.close()
        if not self.length:
            return np.zeros(0, self._dtype)
        return np.memmap(self._path, self._dtype, "r")


def reduce_ones(keys: Keys) -> tuple[Keys, Counts]:
    """Distinct keys, ascending, and how often each stands there."""
    ordered = np.sort(keys)
    starts = _starts(ordered)
    return ordered[starts], np.diff(starts, append=len(ordered)).astype(np.uint32)


def reduce_counts(keys: Keys, counts: Counts) -> tuple[Keys, Counts]:
    """Distinct keys, ascending, and the sum of each one's counts."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = _starts(ordered)
    if len(starts) == 0:
        return ordered, counts
    return ordered[starts], np.add.reduceat(counts[order], starts, dtype=np.uint32)


def _starts(ordered: Keys) -> NDArray[np.intp]:
    """Where each distinct value of a sorted array begins."""
    if len(ordered) == 0:
        return np.zeros(0, np.intp)
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))


class KeyCounter:
    """How often each key was added.

    Keys wait in a buffer; a full one is sorted, counted and spilled as a run. Memory: about
    40 bytes per key of the buffer, whatever the number of keys added.
    """

    def __init__(self, folder: Path, name: str, buffer: int) -> None:
        """Begin with nothing counted.

        Args:
            folder: where the runs go.
            name: first part of their names.
            buffer: keys to hold in memory.
        """
        self._folder, self._name = folder, name
        self._buffer = max(buffer, SMALLEST_BUFFER)
        self._waiting: list[Keys] = []
        self._waiting_keys = 0
        self._runs: list[tuple[Keys, Counts]] = []

    @property
    def runs(self) -> int:
        """Runs that were spilled to disk."""
        return len(self._runs)

    def add(self, keys: Keys) -> None:
        """Count each of these keys once more."""
        for start in range(0, len(keys), self._buffer):
            part = keys[start : start + self._buffer]
            if self._waiting_keys + len(part) > self._buffer:
                self._spill()
            self._waiting.append(part)
            self._waiting_keys += len(part)

    def add_counts(self, keys: Keys, counts: Counts) -> None:
        """Take in keys, ascending and distinct, that were counted elsewhere."""
        self._runs.append((keys, counts))

    def merged(self) -> Iterator[tuple[Keys, Counts]]:
        """Distinct keys, ascending over all parts, and their counts, part after part."""
        if not self._runs:
            if self._waiting:
                yield reduce_ones(np.concatenate(self._waiting))
            return
        self._spill()
        share = max(self._buffer // len(self._runs), 1)
        at = [0] * len(self._runs)
        while True:
            # up to the least of the last keys of the runs' next blocks everything is at hand
            ends = [
                keys[min(i + share, len(keys)) - 1]
                for (keys, _), i in zip(self._runs, at, strict=True)
                if i < len(keys)
            ]
            if not ends:
                return
            last = min(ends)
            parts = []
            for r, (keys, counts) in enumerate(self._runs):
                block = keys[at[r] : at[r] + share]
                stop = at[r] + int(np.searchsorted(block, last, "right"))
                parts.append((keys[at[r] : stop], counts[at[r] : stop]))
                at[r] = stop
            yield reduce_counts(
                np.concatenate([keys for keys, _ in parts]),
                np.concatenate([counts for _, counts in parts]),
            )

    def stored(self) -> tuple[Keys, Counts]:
        """All distinct keys, ascending, and their counts, mapped from files."""
        keys = Spool(self._folder / f"{self._name}.keys", np.uint64)
        counts = Spool(self._folder / f"{self._name}.counts", np.uint32)
        for some_keys, some_counts in self.merged():
            keys.append(some_keys)
            counts.append(some_counts)
        for run in range(len(self._runs)):
            for kind in ("keys", "counts"):
                (self._folder / f"{self._name}.{run}.{kind}").unlink(missing_ok=True)
        self._runs, self._waiting = [], []
        return keys.done(), counts.done()

    def _spill(self) -> None:
        if not self._waiting:
            return
        keys, counts = reduce_ones(np.concatenate(self._waiting))
        self._waiting, self._waiting_keys = [], 0
        stem = f"{self._name}.{len(self._runs)}"
        key_file = Spool(self._folder / f"{stem}.keys", np.uint64)
        count_file = Spool(self._folder / f"{stem}.counts", np.uint32)
        key_file.append(keys)
        count_file.append(counts)
        self._runs.append((key_file.done(), count_file.done()))
