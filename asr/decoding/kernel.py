"""What runs the beam search: the compiled kernel, or Python where it was not built.

Both give the same results to the bit (tests/asr/test_kernel.py); the kernel is some hundred times
faster. The environment variable `ASR_PURE_PYTHON=1` forces Python.
"""

from __future__ import annotations

import os
import struct
import warnings
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from asr.decoding.reference import Committed, Ending, Entry, Foremost, Hypothesis, Search

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from asr.decoding.reference import Tables

MOST_FRAMES = 64  # of one call into the kernel: bounds its memory
PURE = "ASR_PURE_PYTHON"
HYPOTHESIS = struct.Struct("=8i")
ENTRY = struct.Struct("=6i")
WORD = struct.Struct("=i")
_COMMITTED = struct.Struct("=6i")
_ENDING = struct.Struct("=5i")

try:
    from asr.decoding import _kernel  # type: ignore[attr-defined]  # it has no stub
except ImportError:
    _kernel = None
native: Any = _kernel  # the compiled module, or None
SOURCE = Path(__file__).with_name("_kernel.c")  # there where asr is used from its checkout


class Waiting(NamedTuple):
    """A state and what comes next.

    Attributes:
        frame: frames taken in before.
        frames: int32 [T, V], 0 ≤ T ≤ 64, scores in 1/1024 nat.
        hypotheses: packed as `HYPOTHESIS`.
        arena: packed as `ENTRY`.
        shown: packed as `WORD`.
    """

    frame: int
    frames: NDArray[np.int32]
    hypotheses: bytes
    arena: bytes
    shown: bytes


class Advanced(NamedTuple):
    """What became of a state.

    Attributes:
        score: what was taken from all scores, in 1/1024 nat.
        hypotheses: packed as `HYPOTHESIS`, best first.
        arena: packed as `ENTRY`.
        shown: packed as `WORD`.
        committed: words committed meanwhile.
    """

    score: int
    hypotheses: bytes
    arena: bytes
    shown: bytes
    committed: tuple[Committed, ...]


class Engine(Protocol):
    """Takes frames in. Safe to be used from several threads at once."""

    def advance(self, streams: Sequence[Waiting]) -> list[Advanced]:
        """Take in the frames of each stream; what becomes of one depends on no other."""
        ...

    def foremost(self, hypotheses: bytes, arena: bytes, shown: bytes) -> Foremost:
        """What has been said so far; see `Search.foremost`."""
        ...

    def endings(self, hypotheses: bytes, behind: int, within: int) -> list[Ending]:
        """The ways in which the speech so far may end; see `Search.endings`.

        Args:
            hypotheses: packed as `HYPOTHESIS`.
            behind: of hypotheses, in 1/1024 nat, 0 … 2**29.
            within: of endings, likewise.
        """
        ...

    def expecting(self, tables: Tables) -> Engine:
        """An engine for tables that differ in `parameters`, `look` and `boost` only."""
        ...


def engine(tables: Tables) -> Engine:
    """The fastest engine there is. Warns, once a process, where that is Python."""
    if os.environ.get(PURE, "") not in {"", "0"}:
        return PythonEngine(tables)
    if native is None:
        _warn(
            "the beam search was not compiled and runs in Python, slowly; install asr where there "
            "is a C compiler"
        )
        return PythonEngine(tables)
    if SOURCE.exists() and sha256(SOURCE.read_bytes()).hexdigest() != native.source:
        _warn(
            f"{SOURCE} has changed since it was compiled, so the beam search runs in Python, "
            "slowly; install the checkout again (pip install -e .)"
        )
        return PythonEngine(tables)
    return CompiledEngine(tables)


def _warn(text: str) -> None:
    # Explicitly, since the place in the source would make a second line of it.
    warnings.warn_explicit(text, RuntimeWarning, "asr", 1, registry=_REGISTRY)


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

    def search(self, frame: int, hypotheses: bytes, arena: bytes, shown: bytes) -> Search:
        """The search at that state."""
        return Search(
            self._tables,
            self._memo,
            frame,
            unpack_hypotheses(hypotheses),
            unpack_arena(arena),
            unpack_words(shown),
        )

    def advance(self, streams: Sequence[Waiting]) -> list[Advanced]:
        """See `Engine.advance`."""
        return [self._advance(*stream) for stream in streams]

    def _advance(self, frame: int, frames: NDArray[np.int32], *state: bytes) -> Advanced:
        search = self.search(frame, *state)
        for row in frames.tolist():
            search.take_frame(row)
        return Advanced(
            search.score,
            pack(HYPOTHESIS, search.hypotheses),
            pack(ENTRY, search.arena),
            pack(WORD, ((word,) for word in search.shown)),
            tuple(search.committed),
        )

    def foremost(self, hypotheses: bytes, arena: bytes, shown: bytes) -> Foremost:
        """See `Engine.foremost`."""
        return self.search(0, hypotheses, arena, shown).foremost()

    def endings(self, hypotheses: bytes, behind: int, within: int) -> list[Ending]:
        """See `Engine.endings`."""
        return self.search(0, hypotheses, b"", b"").endings(behind, within)

    def expecting(self, tables: Tables) -> Engine:
        """See `Engine.expecting`."""
        return PythonEngine(tables)


class CompiledEngine:
    """The search of `_kernel.c`.

    The tree is laid out anew for it, since it waits for memory more than it calculates: what is
    needed of a node at a time lies together.
    """

    def __init__(self, tables: Tables, like: CompiledEngine | None = None) -> None:
        """Lay out the tables; `like` has those that phrases do not change."""
        fixed = like._fixed if like else _fixed_tables(tables)  # noqa: SLF001  # its own kind
        self._fixed: tuple[NDArray[Any], ...] = fixed
        places, finals, *rest = fixed
        boost = tables.boost
        parameters = np.array(tables.parameters, np.int32)
        steps = np.asarray(tables.look, np.int32) << 8 | np.asarray(tables.phone, np.int32)
        self._tables = (
            places,
            steps,
            finals,
            parameters,
            *rest,
            *(getattr(boost, name) for name in type(boost).__slots__),
        )
        self._scratch_bytes = native.scratch_bytes(parameters, MOST_FRAMES)
        self._scratches: list[bytearray] = []  # one for each thread that ever was in the kernel

    def advance(self, streams: Sequence[Waiting]) -> list[Advanced]:
        """See `Engine.advance`. The interpreter lock is released once for all of them."""
        scratch = self._scratch()
        found = native.advance(self._tables, MOST_FRAMES, list(streams), scratch)
        self._scratches.append(scratch)
        return [
            Advanced._make([*state, tuple(map(Committed._make, _COMMITTED.iter_unpack(said)))])
            for *state, said in found
        ]

    def foremost(self, hypotheses: bytes, arena: bytes, shown: bytes) -> Foremost:
        """See `Engine.foremost`."""
        scratch = self._scratch()
        found = native.foremost(self._tables, MOST_FRAMES, hypotheses, arena, shown, scratch)
        self._scratches.append(scratch)
        return Foremost._make(found)

    def endings(self, hypotheses: bytes, behind: int, within: int) -> list[Ending]:
        """See `Engine.endings`. The interpreter lock is released meanwhile."""
        scratch = self._scratch()
        found = native.endings(self._tables, MOST_FRAMES, hypotheses, behind, within, scratch)
        self._scratches.append(scratch)
        return list(map(Ending._make, _ENDING.iter_unpack(found)))

    def expecting(self, tables: Tables) -> Engine:
        """See `Engine.expecting`."""
        return CompiledEngine(tables, self)

    def _scratch(self) -> bytearray:
        try:
            return self._scratches.pop()
        except IndexError:
            return bytearray(self._scratch_bytes)


def _fixed_tables(tables: Tables) -> tuple[NDArray[Any], ...]:
    """The tables of the kernel that phrases do not change, in its order."""
    lm, weight = tables.lm, tables.parameters.lm_weight
    highest = (lm.highest.astype(np.int64) * weight >> 10)[tables.words]
    books = np.stack([lm.bigram_prob_book, lm.bigram_back_off_book, lm.trigram_prob_book])
    return (
        np.stack([tables.first_child, tables.first_word], 1).astype(np.uint32),
        np.stack([tables.words, highest], 1).astype(np.int32),
        np.ascontiguousarray(tables.guess, np.int32),
        *(np.ascontiguousarray(t, np.uint16) for t in (tables.log_add, tables.shares)),
        np.ascontiguousarray(tables.tolls, np.int32),
        *(np.ascontiguousarray(t, np.int32) for t in (lm.unigram_prob, lm.unigram_back_off)),
        np.ascontiguousarray(lm.first_bigram, np.uint32),
        *map(np.ascontiguousarray, (lm.bigram_word, lm.bigram_prob, lm.bigram_back_off)),
        np.ascontiguousarray(lm.first_trigram, np.uint32),
        *map(np.ascontiguousarray, (lm.trigram_word, lm.trigram_prob)),
        np.ascontiguousarray(books, np.int32),
    )


def pack(layout: struct.Struct, rows: Iterable[tuple[Any, ...]]) -> bytes:
    """Rows as bytes."""
    return b"".join(layout.pack(*row) for row in rows)


def unpack_hypotheses(packed: bytes) -> list[Hypothesis]:
    """Hypotheses out of bytes."""
    return list(map(Hypothesis._make, HYPOTHESIS.iter_unpack(packed)))


def unpack_arena(packed: bytes) -> list[Entry]:
    """Entries out of bytes."""
    return list(map(Entry._make, ENTRY.iter_unpack(packed)))


def unpack_words(packed: bytes) -> list[int]:
    """Numbers of words out of bytes."""
    return [word for (word,) in WORD.iter_unpack(packed)]
