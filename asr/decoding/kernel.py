"""What runs the beam search: the compiled kernel, or Python where it was not built.

Both give the same results to the bit (tests/asr/test_kernel.py); the kernel is some hundred times
faster. The environment variable `ASR_PURE_PYTHON=1` forces Python.
"""

from __future__ import annotations

import os
import struct
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from asr.decoding.reference import Committed, Entry, Hypothesis, Search

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from asr.decoding.reference import Tables

MOST_FRAMES = 64  # of one call into the kernel: bounds its memory
PURE = "ASR_PURE_PYTHON"
HYPOTHESIS = struct.Struct("=8i")
ENTRY = struct.Struct("=6i")
_COMMITTED = struct.Struct("=6i")

try:
    from asr.decoding import _kernel  # type: ignore[attr-defined]  # it has no stub
except ImportError:
    _kernel = None
native: Any = _kernel  # the compiled module, or None


class Advanced(NamedTuple):
    """What became of a state.

    Attributes:
        score: what was taken from all scores, in 1/1024 nat.
        hypotheses: packed as `HYPOTHESIS`, best first.
        arena: packed as `ENTRY`.
        committed: words committed meanwhile.
    """

    score: int
    hypotheses: bytes
    arena: bytes
    committed: tuple[Committed, ...]


class Engine(Protocol):
    """Takes frames in. Safe to be used from several threads at once."""

    def advance(
        self, frame: int, frames: NDArray[np.int32], hypotheses: bytes, arena: bytes
    ) -> Advanced:
        """Take in frames [T, V], 0 ≤ T ≤ 64, of scores in 1/1024 nat; `frame` came before."""
        ...


def engine(tables: Tables) -> Engine:
    """The fastest engine there is. Warns, once a process, where that is Python."""
    if os.environ.get(PURE, "") not in {"", "0"}:
        return PythonEngine(tables)
    if native is None:
        # Explicitly, since the place in the source would make a second line of it.
        warnings.warn_explicit(
            "the beam search was not compiled and runs in Python, slowly; install asr where there "
            "is a C compiler",
            RuntimeWarning,
            "asr",
            1,
            registry=_REGISTRY,
        )
        return PythonEngine(tables)
    return CompiledEngine(tables)


_REGISTRY: dict[str | tuple[str, type[Warning], int], int] = {}  # remembers that it was said


class PythonEngine:
    """The search of `asr.decoding.reference`."""

    def __init__(self, tables: Tables) -> None:
        # Views give Python's own numbers, twice as fast as NumPy's and without copying the tables.
        names = tables._fields[1:-2]
        arrays: dict[str, Any] = {
            name: np.ascontiguousarray(getattr(tables, name)).data for name in names
        }
        self._tables = tables._replace(**arrays)
        self._memo: dict[tuple[int, int], tuple[int, int]] = {}

    def search(self, frame: int, hypotheses: bytes, arena: bytes) -> Search:
        """The search at that state."""
        return Search(
            self._tables, self._memo, frame, unpack_hypotheses(hypotheses), unpack_arena(arena)
        )

    def advance(
        self, frame: int, frames: NDArray[np.int32], hypotheses: bytes, arena: bytes
    ) -> Advanced:
        """See `Engine.advance`."""
        search = self.search(frame, hypotheses, arena)
        for row in frames.tolist():
            search.take_frame(row)
        return Advanced(
            search.score,
            pack(HYPOTHESIS, search.hypotheses),
            pack(ENTRY, search.arena),
            tuple(search.committed),
        )


class CompiledEngine:
    """The search of `_kernel.c`."""

    def __init__(self, tables: Tables) -> None:
        lm = tables.lm
        books = np.stack([lm.bigram_prob_book, lm.bigram_back_off_book, lm.trigram_prob_book])
        parameters = np.array(tables.parameters, np.int32)
        self._tables = (
            np.ascontiguousarray(tables.phone, np.uint8),
            *(np.ascontiguousarray(t, np.uint32) for t in tables[2:5]),
            *(np.ascontiguousarray(t, np.int32) for t in tables[5:8]),
            parameters,
            *(np.ascontiguousarray(t, np.int32) for t in (lm.unigram_prob, lm.unigram_back_off)),
            np.ascontiguousarray(lm.first_bigram, np.uint32),
            *map(np.ascontiguousarray, (lm.bigram_word, lm.bigram_prob, lm.bigram_back_off)),
            np.ascontiguousarray(lm.first_trigram, np.uint32),
            *map(np.ascontiguousarray, (lm.trigram_word, lm.trigram_prob)),
            np.ascontiguousarray(books, np.int32),
            *(getattr(tables.boost, name) for name in type(tables.boost).__slots__),
        )
        self._scratch_bytes = native.scratch_bytes(parameters, MOST_FRAMES)
        self._scratches: list[bytearray] = []  # one for each thread that ever was in the kernel

    def advance(
        self, frame: int, frames: NDArray[np.int32], hypotheses: bytes, arena: bytes
    ) -> Advanced:
        """See `Engine.advance`."""
        try:
            scratch = self._scratches.pop()
        except IndexError:
            scratch = bytearray(self._scratch_bytes)
        frames = np.ascontiguousarray(frames, np.int32)
        score, after, history, committed = native.advance(
            self._tables, MOST_FRAMES, frame, frames, hypotheses, arena, scratch
        )
        self._scratches.append(scratch)
        words = tuple(map(Committed._make, _COMMITTED.iter_unpack(committed)))
        return Advanced(score, after, history, words)


def pack(layout: struct.Struct, rows: Iterable[tuple[Any, ...]]) -> bytes:
    """Rows as bytes."""
    return b"".join(layout.pack(*row) for row in rows)


def unpack_hypotheses(packed: bytes) -> list[Hypothesis]:
    """Hypotheses out of bytes."""
    return list(map(Hypothesis._make, HYPOTHESIS.iter_unpack(packed)))


def unpack_arena(packed: bytes) -> list[Entry]:
    """Entries out of bytes."""
    return list(map(Entry._make, ENTRY.iter_unpack(packed)))
