"""Figures of the server in Prometheus' text format, cheap enough to keep for every message.

All series are known beforehand (no label has a value of a client's), so each is a cell in a row of
float64, and counting is one addition. A server of several processes has a row for each in memory
that they share: any of them tells the sum of all, and what a dead one counted stays counted.
`docs/decisions/metrics.md` says why this is not the `prometheus-client` package.

Each cell is written by one thread: those of the engine by the engine's, the others by the event
loop's.
"""

from __future__ import annotations

import mmap
import time
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from asr.transcript import Partial
from server.admission import REASONS
from server.dialogue import Failed, Heard, Ready, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
DELAY: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
COMPUTE: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 5.0)
# Codes of `ProtocolError`; an unknown one counts as `other`. `vanished`: gone without a goodbye.
ERRORS: Final = (
    "bad_message",
    "bad_payload",
    "bad_format",
    "unknown_type",
    "bad_version",
    "out_of_order",
    "resume_unknown",
    "resume_gap",
    "resume_model",
    "resume_damaged",
    "resume_unavailable",
    "no_start",
    "too_long",
    "unavailable",
    "internal",
    "vanished",
    "other",
)


@dataclass(frozen=True)
class Family:
    """A metric, or several that differ in one label.

    Attributes:
        kind: as Prometheus has it.
        name: with its unit; counters end in `_total`.
        help: one line.
        label: name of the label, "" for none.
        values: of the label.
        bounds: upper bounds of a histogram's buckets, without the infinite one.
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)
    bounds: tuple[float, ...] = ()

    @cached_property
    def cells(self) -> int:
        """Numbers kept: a value each, or a histogram's buckets, the infinite one, and the sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else len(self.values)


SESSIONS = Family("gauge", "asr_sessions_open", "Sessions that are open.")
CONNECTIONS = Family("gauge", "asr_connections_open", "Connections, those of no session included.")
READY = Family("gauge", "asr_workers_ready", "Worker processes that take new sessions.")
RESTARTS = Family("counter", "asr_worker_restarts_total", "Worker processes that died.")
OPENED = Family("counter", "asr_sessions_opened_total", "Sessions that were begun.")
RESUMED = Family("counter", "asr_sessions_resumed_total", "Sessions that were gone on with.")
REJECTED = Family(
    "counter", "asr_rejected_total", "Connections that were refused.", "reason", REASONS
)
FAILED = Family("counter", "asr_errors_total", "Sessions that ended in error.", "kind", ERRORS)
AUDIO = Family("counter", "asr_audio_seconds_total", "Audio that was recognised.")
ROUNDS = Family(
    "histogram",
    "asr_block_compute_seconds",
    "Time to recognise one block of each session that had one, together.",
    bounds=COMPUTE,
)
QUEUE = Family(
    "histogram",
    "asr_queue_delay_seconds",
    "How long a block of audio that was due waited to be recognised.",
    bounds=DELAY,
)
PARTIAL = Family(
    "histogram",
    "asr_partial_latency_seconds",
    "From the arrival of the audio a partial rests on to its sending.",
    bounds=DELAY,
)
FINAL = Family(
    "histogram",
    "asr_final_latency_seconds",
    "From the arrival of the audio a final rests on, or of finish, to its sending.",
    bounds=DELAY,
)
FAMILIES: Final = (
    SESSIONS,
    CONNECTIONS,
    READY,
    RESTARTS,
    OPENED,
    RESUMED,
    REJECTED,
    FAILED,
    AUDIO,
    ROUNDS,
    QUEUE,
    PARTIAL,
    FINAL,
)
FIRST: Final = {
    family.name: sum(before.cells for before in FAMILIES[:number])
    for number, family in enumerate(FAMILIES)
}
CELLS: Final = sum(family.cells for family in FAMILIES)


class Board:
    """The figures of all workers, in memory that processes forked from this one share.

    Args:
        workers: rows, ≥ 1.
    """

    def __init__(self, workers: int = 1) -> None:
        self._memory = mmap.mmap(-1, 8 * CELLS * workers)
        cells = memoryview(self._memory).cast("d")
        self.rows = [cells[n * CELLS : (n + 1) * CELLS] for n in range(workers)]

    def totals(self) -> list[float]:
        """The sum over all workers, a number a cell."""
        return [sum(column) for column in zip(*self.rows, strict=True)]

    def clear_gauges(self, worker: int) -> None:
        """A worker is gone, and what it held with it; what it counted stays."""
        for family in FAMILIES:
            if family.kind == "gauge":
                self.rows[worker][FIRST[family.name]] = 0


class Metrics:
    """What one worker counts.

    Args:
        board: where to; a worker on its own has its own.
        worker: which row of it.
    """

    def __init__(self, board: Board | None = None, worker: int = 0) -> None:
        self.board = board or Board()
        self._row = self.board.rows[worker]
        self._reasons = _cells(REJECTED)
        self._kinds = _cells(FAILED)

    def hold(self, family: Family, value: float) -> None:
        """Set a gauge."""
        self._row[FIRST[family.name]] = value

    def count(self, family: Family, amount: float = 1.0) -> None:
        """Add to a counter without a label."""
        self._row[FIRST[family.name]] += amount

    def observe(self, family: Family, value: float) -> None:
        """Add to a histogram."""
        first = FIRST[family.name]
        self._row[first + bisect_left(family.bounds, value)] += 1
        self._row[first + len(family.bounds) + 1] += value

    def rejected(self, reason: str) -> None:
        """A connection was refused."""
        self._row[self._reasons[reason]] += 1

    def failed(self, kind: str) -> None:
        """A session ended in error."""
        self._row[self._kinds.get(kind, self._kinds["other"])] += 1

    def sent(self, reply: Reply, now: float) -> None:
        """A reply has left, at `now` in monotonic seconds."""
        if isinstance(reply, Heard):
            family = PARTIAL if isinstance(reply.event, Partial) else FINAL
            self.observe(family, max(0.0, now - reply.since))
        elif isinstance(reply, Ready):
            self.count(RESUMED if reply.position else OPENED)
        elif isinstance(reply, Failed):
            self.failed(reply.error.code)

    def text(self, model: dict[str, str]) -> str:
        """All figures of all workers, as Prometheus reads them.

        Args:
            model: name and id of the model, for `asr_model_info`.
        """
        totals = self.board.totals()
        lines = [line for family in FAMILIES for line in _family(family, totals)]
        lines += _real_time_factor(totals)
        labels = ",".join(f'{name}="{_escape(value)}"' for name, value in model.items())
        lines += _head("asr_model_info", "gauge", "The model.")
        lines.append(f"asr_model_info{{{labels}}} 1")
        return "\n".join(lines) + "\n"


class Meter:
    """Measures the rounds of an engine, on its thread; see `server.engine.Engine`.

    Args:
        metrics: where figures go.
        clock: monotonic seconds, the same clock as the arrivals'.
    """

    SMOOTHING: Final = 0.1  # weight of the newest round in the average delay
    MEMORY_SECONDS: Final = 1.0  # after so long without a round nothing waits

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._average = 0.0
        self._last = 0.0
        self._began: float | None = None

    def begin(self, due: Sequence[float]) -> None:
        """A round begins.

        Args:
            due: when the first job of each line in it was due, in monotonic seconds.
        """
        self._average = self.queue_delay()  # what was long ago says nothing
        now = self._began = self._last = self._clock()
        delays = [max(0.0, now - moment) for moment in due]
        for delay in delays:
            self._metrics.observe(QUEUE, delay)
        if delays:
            self._average += self.SMOOTHING * (sum(delays) / len(delays) - self._average)

    def end(self, audio_seconds: float) -> None:
        """The round is over, and so much audio was recognised in it."""
        now = self._clock()
        if audio_seconds and self._began is not None:
            self._metrics.observe(ROUNDS, now - self._began)
            self._metrics.count(AUDIO, audio_seconds)
        self._last, self._began = now, None

    def queue_delay(self) -> float:
        """Seconds that audio waits at present, averaged over about ten rounds."""
        return self._average if self._clock() - self._last < self.MEMORY_SECONDS else 0.0

    def round_age(self) -> float:
        """Seconds for which the present round has been going on; 0 between rounds."""
        began = self._began
        return 0.0 if began is None else self._clock() - began


def _cells(family: Family) -> dict[str, int]:
    return {value: FIRST[family.name] + number for number, value in enumerate(family.values)}


def _family(family: Family, totals: Sequence[float]) -> Iterator[str]:
    yield from _head(family.name, family.kind, family.help)
    first = FIRST[family.name]
    if family.kind == "histogram":
        yield from _histogram(family, totals[first : first + family.cells])
        return
    for number, value in enumerate(family.values):
        label = f'{{{family.label}="{value}"}}' if family.label else ""
        yield f"{family.name}{label} {_number(totals[first + number])}"


def _histogram(family: Family, cells: Sequence[float]) -> Iterator[str]:
    *buckets, total = cells
    below = 0.0
    for bound, inside in zip([*map(repr, family.bounds), "+Inf"], buckets, strict=True):
        below += inside
        yield f'{family.name}_bucket{{le="{bound}"}} {_number(below)}'
    yield f"{family.name}_sum {_number(total)}"
    yield f"{family.name}_count {_number(below)}"


def _real_time_factor(totals: Sequence[float]) -> Iterable[str]:
    """Since the start; for a window, divide the rates of the two series that it is made of."""
    audio = totals[FIRST[AUDIO.name]]
    computed = totals[FIRST[ROUNDS.name] + ROUNDS.cells - 1]
    name = "asr_real_time_factor"
    yield from _head(name, "gauge", "Seconds of computing a second of audio, since the start.")
    yield f"{name} {_number(computed / audio if audio else 0.0)}"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
