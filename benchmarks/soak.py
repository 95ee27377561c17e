"""Sessions of continuous speech for half an hour, with connections that break: nothing may change.

Each of 50 clients (`asr.client`, as `asr transcribe --url` uses it) says recordings one after the
other in real time, 80 ms at a time, in one session; its connection is cut at random moments, once a
minute on average, and it goes on by itself. Then everything is compared with what the recogniser
says offline, position by position: words, times, confidences. Memory of the server is watched: its
slope after a warm-up of a sixth of the time; and latency: whether the last third is slower than the
first. Latencies within 5 s of a cut of their own session are told apart.

The server has a core of its own. A run whose clients were late by their own fault is void.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from asr import audio
from asr.client import stream
from asr.errors import Error
from asr.loadtest.figures import LATE_MS
from asr.measure import SAMPLE_RATE, read_samples
from asr.metrics import Percentiles, percentile
from asr.state import Options
from asr.together import words_of
from asr.transcript import Final as FinalEvent
from asr.transcript import Partial
from benchmarks import differences, inputs, program
from benchmarks.cuts import Wire
from benchmarks.figure import Figure, report
from benchmarks.served import serving

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Iterator, Sequence

    from asr.audio import Samples
    from asr.transcript import Word
    from benchmarks.served import Served

CHUNK: Final = 1280
CHUNK_SECONDS: Final = CHUNK / SAMPLE_RATE
AFTER_CUT: Final = 5.0  # seconds in which a session catches up
WATCH_SECONDS: Final = 2.0
WARM_UP: Final = 1 / 6  # of the time
SLOPE_MB: Final = 1.0  # an hour
DRIFT: Final = 1.1  # p50 of the last third over p50 of the first


@dataclass(frozen=True)
class Programme:
    """Recordings one after the other, as long as is asked for.

    Attributes:
        recordings: float32 at 16 kHz, in 16 bits' steps; shared by all programmes.
        order: which comes when.
        samples: of all.
    """

    recordings: Sequence[Samples]
    order: Sequence[int]
    samples: int

    @classmethod
    def make(cls, recordings: Sequence[Samples], seconds: float, seed: int) -> Programme:
        """Draw recordings until they fill the time."""
        chance = random.Random(seed)  # noqa: S311 - no secret
        order: list[int] = []
        wanted = round(seconds * SAMPLE_RATE)
        total = 0
        while total < wanted:
            order.append(chance.randrange(len(recordings)))
            total += len(recordings[order[-1]])
        return cls(recordings, order, wanted)

    def chunks(self, size: int = CHUNK) -> Iterator[Samples]:
        """The samples in pieces of that size; the last one may be shorter."""
        left, waiting = self.samples, np.zeros(0, np.float32)
        for number in self.order:
            waiting = np.concatenate([waiting, self.recordings[number]])
            while len(waiting) >= size and left:
                piece, waiting = waiting[: min(size, left)], waiting[min(size, left) :]
                left -= len(piece)
                yield piece
        if left:
            yield waiting[:left]


@dataclass
class Listener:
    """One client, and what became of it. Moments are seconds on the event loop's clock.

    Attributes:
        programme: what it says.
        words: of all finals.
        partials: moment and latency of each, in seconds, from when its last chunk was due.
        late: moment of every chunk, and how much later than due it was handed over.
        cuts: of its connection.
        error: why it failed.
    """

    programme: Programme
    words: list[Word] = field(default_factory=list)
    partials: list[tuple[float, float]] = field(default_factory=list)
    late: list[tuple[float, float]] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)
    error: str | None = None

    async def listen(self, wire: Wire, begin: float, cut_seconds: float, seed: int) -> None:
        """Say everything, hear everything."""
        self.cuts = wire.cuts
        async with asyncio.TaskGroup() as group:
            cutter = group.create_task(self._cut(wire, cut_seconds, seed))
            try:
                async for event in stream(wire.url, self._paced(begin), SAMPLE_RATE, Options()):
                    now = asyncio.get_running_loop().time()
                    if isinstance(event, FinalEvent):
                        self.words += event.words
                    elif isinstance(event, Partial):
                        due = begin + -(-event.position // CHUNK) * CHUNK_SECONDS
                        self.partials.append((now, now - due))
            except Error as error:
                self.error = str(error)
            finally:
                cutter.cancel()

    async def _paced(self, begin: float) -> AsyncIterator[Samples]:
        """The programme in real time."""
        now = asyncio.get_running_loop().time
        for number, chunk in enumerate(self.programme.chunks(), 1):
            due = begin + number * CHUNK_SECONDS
            if (wait := due - now()) > 0:
                await asyncio.sleep(wait)
                self.late.append((now(), now() - due))
            yield chunk

    async def _cut(self, wire: Wire, mean_seconds: float, seed: int) -> None:
        """Cut the wire again and again, at moments nobody can foresee.

        Not before something was heard: a client that cannot even begin tells its user, and leaves.
        """
        chance = random.Random(f"cuts {seed}")  # noqa: S311 - no secret
        while True:
            await asyncio.sleep(chance.expovariate(1 / mean_seconds))
            if self.partials:
                wire.cut()

    def calm(self) -> list[tuple[float, float]]:
        """The partials that are not of a session which catches up."""
        return [
            (moment, latency)
            for moment, latency in self.partials
            if not any(cut <= moment < cut + AFTER_CUT for cut in self.cuts)
        ]


@dataclass
class Soak:
    """A whole run.

    Attributes:
        listeners: the clients.
        memory: moment and MB of the server, again and again.
        begin: when the first began to speak.
        end: when the last had spoken.
    """

    listeners: list[Listener]
    memory: list[tuple[float, float]] = field(default_factory=list)
    begin: float = 0.0
    end: float = 0.0

    async def run(self, server: Served, cut_seconds: float) -> None:
        """Let all of them speak."""
        loop = asyncio.get_running_loop()
        self.begin = loop.time()
        self.end = self.begin + max(one.programme.samples for one in self.listeners) / SAMPLE_RATE
        watcher = asyncio.create_task(self._watch(server))
        try:
            async with asyncio.TaskGroup() as group:
                for number, listener in enumerate(self.listeners):
                    group.create_task(self._one(server, listener, cut_seconds, number))
        finally:
            watcher.cancel()

    async def _one(self, server: Served, listener: Listener, cut: float, number: int) -> None:
        begin = self.begin + CHUNK_SECONDS * number / len(self.listeners)
        async with Wire(server.port) as wire:
            await listener.listen(wire, begin, cut, number)

    async def _watch(self, server: Served) -> None:
        while True:
            self.memory.append((asyncio.get_running_loop().time(), server.usage().memory))
            await asyncio.sleep(WATCH_SECONDS)

    @property
    def warm(self) -> float:
        """When the warm-up is over."""
        return self.begin + WARM_UP * (self.end - self.begin)

    def slope(self) -> float:
        """MB an hour by which the server grows after the warm-up: the least squares' line."""
        points = [point for point in self.memory if self.warm <= point[0] < self.end]
        times, sizes = np.array(points).T
        return float(np.polyfit(times - times[0], sizes, 1)[0] * 3600) if len(points) > 1 else 0.0

    def thirds(self, percent: float) -> tuple[float, float]:
        """A percentile of latency in the first and in the last third after the warm-up, in ms."""
        third = (self.end - self.warm) / 3
        calm = list(chain.from_iterable(listener.calm() for listener in self.listeners))
        first = [1000 * ms for at, ms in calm if self.warm <= at < self.warm + third]
        last = [1000 * ms for at, ms in calm if self.end - third <= at < self.end]
        return (
            percentile(first, percent) if first else 0.0,
            percentile(last, percent) if last else 0.0,
        )


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if a target was missed, or nothing could be measured."""
    args = _parsed(arguments)
    recordings = [
        audio.from_s16le(audio.to_s16le(read_samples(utterance.path)))
        for utterance in inputs.utterances(args)[: args.limit]
    ]
    seconds = 60 * args.minutes
    programmes = [Programme.make(recordings, seconds, seed) for seed in range(args.programmes)]
    listeners = [Listener(programmes[n % len(programmes)]) for n in range(args.sessions)]
    soak = Soak(listeners)
    with serving(args, sessions=args.sessions) as server:
        asyncio.run(soak.run(server, args.cut_seconds))
        resumed = server.metrics()["asr_sessions_resumed_total"]
        failures = [*server.failures(), *(one.error for one in listeners if one.error)]
    late = Percentiles.of([1000 * ms for one in listeners for _, ms in one.late])
    if failures or late is None or late.p99 > args.late_ms:
        print(f"void: {failures or f'the clients were late: {late}'}")
        return 1
    recognizer = inputs.loader(args)()
    with inputs.one_core():
        heard = offline(recognizer, programmes)
    details = {
        "data": inputs.data_name(args),
        "model_id": recognizer.bundle_id[:12],
        "sessions": args.sessions,
        "minutes": args.minutes,
        "cuts": sum(len(one.cuts) for one in listeners),
        "resumed": round(resumed),
        "clients_late_ms_p99": round(late.p99, 2),
    }
    label = (
        f"{args.sessions} sessions of {args.minutes:g} min with cuts, {inputs.decoding(recognizer)}"
    )
    pairs = [(one.words, heard[n % len(heard)]) for n, one in enumerate(listeners)]
    figures = [*_of_words(label, pairs, details), *_of_time(label, soak, details)]
    return report("soak", figures, arguments, args.results if args.record else None)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = inputs.parser("soak", str(__doc__))
    parser.add_argument("--sessions", type=int, default=50, help="at a time (default: 50)")
    parser.add_argument("--minutes", type=float, default=30, help="that they last (default: 30)")
    parser.add_argument(
        "--cut-seconds", type=float, default=60, help="between two cuts, on average (default: 60)"
    )
    parser.add_argument(
        "--programmes", type=int, default=10, help="different orders of recordings (default: 10)"
    )
    parser.add_argument(
        "--late-ms", type=float, default=LATE_MS, help="what makes the run void (default: 10)"
    )
    return parser.parse_args(arguments)


def offline(recognizer: Any, programmes: Sequence[Programme]) -> list[list[Word]]:
    """What the recogniser says of each programme, all of them stepped together a second at a time.

    The law of company makes that what each would be alone; so little of them is in memory at once.
    """
    states = [recognizer.start(Options(partials=False)) for _ in programmes]
    words: list[list[Word]] = [[] for _ in programmes]
    for pieces in zip(*(p.chunks(SAMPLE_RATE) for p in programmes), strict=True):
        for number, (state, events) in enumerate(recognizer.step_many(states, list(pieces))):
            states[number] = state
            words[number] += words_of(events)
    for number, (_, events) in enumerate(recognizer.finish_many(states)):
        words[number] += words_of(events)
    return words


def _of_words(
    label: str, pairs: list[tuple[list[Word], list[Word]]], details: dict[str, Any]
) -> list[Figure]:
    counted = [differences.count([pair]) for pair in pairs]
    figures = []
    for name, values in (
        ("words", [found.words for found in counted]),
        ("times", [found.times for found in counted]),
    ):
        about = details | {
            "compared": sum(found.compared for found in counted),
            "most_in_a_session": max(values),
        }
        title = f"Differing {name}, {label}, against offline, all sessions"
        total = sum(values)
        spread = total, total
        figures.append(
            Figure(f"soak.{name}", title, total, name, 1, spread, at_most=0, details=about)
        )
    return figures


def _of_time(label: str, soak: Soak, details: dict[str, Any]) -> list[Figure]:
    slope = soak.slope()
    sizes = [size for at, size in soak.memory if soak.warm <= at < soak.end]
    everything = [1000 * ms for one in soak.listeners for _, ms in one.calm()]
    first, last = soak.thirds(50)
    slow_first, slow_last = soak.thirds(99)
    drift = last / first if first else 1.0
    about = details | {
        "first_third_ms_p50": round(first, 2),
        "last_third_ms_p50": round(last, 2),
        "first_third_ms_p99": round(slow_first, 2),
        "last_third_ms_p99": round(slow_last, 2),
        "partials": len(everything),
    }
    every = round(60 / WATCH_SECONDS)
    memory = details | {
        "first_mb": sizes[0],
        "last_mb": sizes[-1],
        "most_mb": max(sizes),
        "mb_by_minute": [round(size, 1) for _, size in soak.memory[::every]],
    }
    return [
        Figure(
            "soak.memory",
            f"Growth of the server's memory in an hour, {label}",
            slope,
            "MB",
            1,
            (slope, slope),
            at_most=SLOPE_MB,
            details=memory,
        ),
        Figure(
            "soak.drift",
            f"Chunk to partial, p50 of the last third over that of the first, {label}",
            drift,
            "",
            1,
            (drift, drift),
            at_most=DRIFT,
            details=about,
        ),
        Figure(
            "soak.partial",
            f"Chunk to partial away from cuts, p99, {label}",
            percentile(everything, 99),
            "ms",
            1,
            (percentile(everything, 50), max(everything)),
            details=about | {"spread": "p50 to largest"},
        ),
    ]


if __name__ == "__main__":
    program.run(main)
